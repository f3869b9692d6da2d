"""What the page of `mmer_jax.app` says: a model, a recording and a prediction -> HTML."""

import base64
import io
from html import escape

import numpy as np
import soundfile

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError
from mmer_jax.inference import attention
from mmer_jax.inference.model import LoadedModel
from mmer_jax.inference.model_card import CLASSES
from mmer_jax.inference.uploads import KEPT_SECONDS, Recording
from mmer_jax.metrics import reliability
from mmer_jax.reporting import html
from mmer_jax.reporting.analysis import is_synthetic
from mmer_jax.reporting.plots import attention_png, waveform_png

NOTHING_YET = html.small("The answer will be shown here.")
PLAYED_SECONDS = 60.0  # a longer one would make the page heavy
_TOKENS = 40  # of the attention's picture


def asked_text(model: LoadedModel, text: str, alone: bool) -> str | None:
    """What `Predictor.predict` is to take as the text.

    Args:
      model: that predicts.
      text: as it was typed.
      alone: whether speech alone was asked for.

    Raises:
      UserError: no text where the model can't do without.
    """
    text = (text or "").strip()
    if not model.uses_text or (alone and model.uses_audio):
        return ""
    if text:
        return text
    if not model.uses_audio:
        raise UserError("There is no text yet. Type what is said; this model reads text alone.")
    if model.lacks_ctc:
        raise UserError(
            "This model can't write down what is said. Type it, or tick “speech alone”."
        )
    return None


class Answers:
    """Predictions as HTML.

    Args:
      predictor: the `Predictor`.
    """

    def __init__(self, predictor):
        self.model = predictor.model
        self._predictor = predictor
        self._lacking = attention.lacking(self.model)
        self._attention = None if self._lacking else attention.Reader(predictor)

    def __call__(self, recording: Recording | None, text: str | None) -> str:
        """The result's HTML.

        Args:
          recording: None for a model of text alone.
          text: see `asked_text`.

        Raises:
          UserError: see `Predictor.predict`.
        """
        audio = (recording.wave, SAMPLE_RATE) if recording else None
        found = self._predictor.predict(audio, text)
        parts = [verdict(found), self._worth(found)]
        if found.label is not None:
            parts.append(transcript(found, self.model.uses_text))
        if recording:
            parts += [timeline(found, recording.wave), self._inside(found, recording.wave)]
            parts.append(heard(recording, self.model.uses_text))
        parts.append(html.small(f"Answered in {sum(found.timings.values()):.2f} s."))
        return result("".join(parts))

    def _worth(self, found):
        """How often the model is right with such a text; nothing where a warning says it."""
        if found.warning:
            return ""
        classes, reads = len(self.model.label_names), self.model.uses_text
        plain = reliability.sentence(found.held_out, found.text_source, classes, reads)
        return html.small(f"{_capital(plain)}.")

    def _inside(self, found, wave):
        """The waveform, and the attention over it or why there is none."""
        if found.label is None:
            return "<h3>Waveform</h3>" + _waveform(wave)
        head, reason = "<h3>Where the words look in the speech</h3>", self._lacking
        if not reason and not any(w.text.strip() for w in found.timeline):
            reason = "The model read no words that could look anywhere."
        if reason:
            return "<h3>Waveform</h3>" + _waveform(wave) + html.small(reason)
        looked, index = self._attention.strongest(wave, found)
        return head + attended(looked, found.timeline, index)


def introduction(model: LoadedModel) -> str:
    """What is above the form: the model, and what it is not fit for."""
    name = model.card.get("name") or model.config.name
    by = {(True, True): "how it is said and what is said", (True, False): "how it is said",
          (False, True): "what is said"}[model.uses_audio, model.uses_text]  # fmt: skip
    classes = ", ".join(escape(title(n)) for n in model.label_names)
    parts = [
        "<h1>Emotion in speech</h1>",
        f"<p>The model <strong>{escape(name)}</strong> sorts speech by {by}: {classes}.</p>",
        html.note(
            "Not fit for decisions about people. It sorts acted speech into classes; it does not "
            "know what anyone feels."
        ),
    ]
    if is_synthetic(model.config):
        parts.append(html.note(
            "A demo: this model was trained on synthetic speech, sentences spoken by a speech "
            "synthesiser. What it says about a real voice means nothing."
        ))  # fmt: skip
    return _wrapped("".join(parts))


def privacy(minutes: float) -> str:
    """What becomes of a recording."""
    return _wrapped(html.small(
        "A recording goes to the computer that runs this page and nowhere else. Its file is "
        f"removed before the answer, or after {minutes:.0f} minutes. Up to "
        f"{KEPT_SECONDS / 60:.0f} minutes of speech stay in memory as long, for another question."
    ))  # fmt: skip


def result(body: str) -> str:
    """The place of the answer, which screen readers read out when it changes."""
    return _wrapped(f'<section role="status" aria-label="Result">{body}</section>')


def failure(message: str) -> str:
    """The same place, with what is wrong."""
    return _wrapped(f'<div class="failure" role="alert">{escape(message)}</div>')


def _wrapped(body):
    # Gradio's templates would take these for their own.
    inert = str.maketrans({"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;"})
    return f'<div class="mmer">{body}</div>'.translate(inert)


def title(name: str) -> str:
    """A class's name in full, where it is one of IEMOCAP's."""
    return CLASSES.get(name, name)


def verdict(found) -> str:
    """The most probable class, and a bar for each; a warning in their place where there is one."""
    if found.label is None:
        return html.note(
            "No speech was found in this recording, so there is no emotion to name. Laughter, "
            "crying and shouts without words may be taken for none."
        )
    if found.warning:
        return html.note(f"No emotion is named. {_capital(found.warning)}.")
    share = 100 * found.probabilities[found.label]
    rows = "".join(
        f'<tr{" class=top" if name == found.label else ""}><th scope="row">{escape(title(name))}'
        f'</th><td class="bar" aria-hidden="true"><div style="width:{100 * p:.1f}%"></div></td>'
        f'<td class="number">{100 * p:.0f} %</td></tr>'
        for name, p in found.probabilities.items()
    )
    return (
        f'<p class="verdict"><strong>{escape(title(found.label))}</strong> {share:.0f} %</p>'
        f'<table class="bars" aria-label="Probability of each emotion">{rows}</table>'
        + html.small(f"Probabilities, {_calibrated(found)}.")
    )


def _capital(text):
    return text[:1].upper() + text[1:]


def _calibrated(found):
    if found.calibrated:
        return "calibrated on held-out speech with this kind of text"
    several = len(found.timeline) > 1
    return "not calibrated: the mean of several windows" if several else "not calibrated"


def transcript(found, read: bool) -> str:
    """The text that the model read, and where it came from.

    Args:
      found: a `Prediction`.
      read: whether the model reads text at all.
    """
    if not read:
        return "<h3>Text</h3>" + html.small("This model hears speech alone; it reads no text.")
    source = {
        "given": "As you typed it.",
        "ctc": "Written by the model itself, which makes mistakes. Type what is said to help it.",
        "none": "Speech alone: the model read no text.",
    }[found.text_source]
    if found.text_source == "ctc" and not found.text.strip():
        source = "The model heard no words. Type what is said to help it."
    words = f'<blockquote class="words">{escape(found.text)}</blockquote>' if found.text else ""
    return "<h3>Text</h3>" + words + html.small(source)


def own_parts(found) -> list[tuple[float, float]]:
    """(start, end) in seconds that each window answers for: neighbours meet halfway."""
    line = found.timeline
    middles = [(left.end + right.start) / 2 for left, right in zip(line, line[1:])]
    edges = [0.0, *middles, found.seconds]
    return list(zip(edges, edges[1:]))


def timeline(found, wave: np.ndarray) -> str:
    """Which emotion is heard when; nothing for a recording heard as a whole, or with a warning.

    Args:
      found: a `Prediction`.
      wave: float32 [n], 16 kHz.
    """
    if len(found.timeline) < 2 or found.warning:
        return ""
    spans = [
        (*part, title(w.label) if w.label else "no speech")
        for part, w in zip(own_parts(found), found.timeline)
    ]
    names = [title(name) for name in found.probabilities]
    named = [span for span in spans if span[2] in names]
    shown = html.picture(waveform_png(wave, named, names), "waveform, coloured by emotion")
    rows = [
        [f"{clock(start)}–{clock(end)}", name, _share(w), w.text]
        for (start, end, name), w in zip(spans, found.timeline)
    ]
    head = ["time", "emotion", "probability", "text heard"]
    if found.text_source != "ctc":  # the same in every window
        head, rows = head[:3], [row[:3] for row in rows]
    caption = html.small(
        f"The model hears the recording in {len(rows)} overlapping windows; the verdict is "
        "the mean of those with speech."
    )
    return "<h3>Over time</h3>" + shown + html.table(head, rows, wide=head[3:]) + caption


def _share(window):
    return f"{100 * window.probabilities[window.label]:.0f} %" if window.label else ""


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds: 75.25 -> 1:15.2."""
    tenths = int(10 * seconds)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def attended(found: attention.Attention, line, index: int) -> str:
    """The picture of the attention over one window.

    Args:
      found: of that window.
      line: all windows.
      index: of the window.
    """
    count = len(found.tokens)
    png = attention_png(found.wave, found.weights[:_TOKENS], found.tokens[:_TOKENS], found.frame)
    text = (
        "Each row is a piece of the text: the brighter, the more it looks at that moment of the "
        "speech; 1 would be an even spread. Attention is not an explanation of the answer."
    )
    if len(line) > 1:
        at = line[index]
        text += f" Shown is the window from {clock(at.start)} to {clock(at.end)}, the surest one."
    if count > _TOKENS:
        text += f" Shown are the first {_TOKENS} of {count} pieces."
    shown = html.picture(png, "attention of each piece of the text over the waveform")
    return f'<div class="wide">{shown}</div>' + html.small(text)


def _waveform(wave):
    return html.picture(waveform_png(wave), "waveform of the recording")


def heard(recording: Recording, read: bool) -> str:
    """The recording's name, and a player for it, as its file is gone.

    Args:
      recording: that was heard.
      read: whether another text makes sense.
    """
    line = f"<p>{escape(recording.name)}, {recording.seconds:.1f} s</p>"
    if recording.seconds <= PLAYED_SECONDS:
        line += (
            f'<audio controls aria-label="The recording" src="{_wav_address(recording)}"></audio>'
        )
    if recording.seconds <= KEPT_SECONDS and read:
        line += html.small("To ask about it once more, change the text and press the button again.")
    return "<h3>Recording</h3>" + line


def _wav_address(recording):
    """The recording itself as an address: no request, no file."""
    out = io.BytesIO()
    soundfile.write(out, recording.wave, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return "data:audio/wav;base64," + base64.b64encode(out.getvalue()).decode("ascii")


STYLE = """
.mmer { font-size: 1rem; line-height: 1.5; overflow-wrap: anywhere;
  color: var(--body-text-color); }
.mmer h1 { font-size: 1.6rem; font-weight: 600; margin: .25rem 0; }
.mmer h3 { font-size: 1.05rem; font-weight: 600; margin: 1.25rem 0 .25rem; }
.mmer p { margin: .35rem 0; max-width: 46rem; }
.mmer .caption { color: var(--body-text-color); opacity: .82; font-size: .875rem; }
.mmer .note, .mmer .failure { border-left: 4px solid #e69f00; border-radius: 4px;
  background: var(--background-fill-secondary); padding: .5rem .9rem; margin: .5rem 0;
  max-width: 46rem; }
.mmer .failure { border-color: #d55e00; }
.mmer .verdict { font-size: 1.35rem; margin: 0 0 .5rem; }
.mmer table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.mmer th, .mmer td { text-align: left; font-weight: 400; padding: .2rem .5rem .2rem 0;
  border: 0; vertical-align: middle; }
.mmer .bars { max-width: 34rem; }
.mmer .bars th { width: 1%; white-space: nowrap; }
.mmer .bars .bar { width: 99%; }
.mmer .bars .bar div { height: 1.1rem; min-width: 2px; border-radius: 3px; background: #56b4e9; }
.mmer .bars .top th, .mmer .bars .top .number { font-weight: 600; }
.mmer .bars .top .bar div { background: #0072b2; }
.mmer .bars .number { text-align: right; white-space: nowrap; padding-right: 0; }
.mmer .words { margin: .35rem 0; padding: .1rem 0 .1rem .75rem; font-style: normal;
  border-left: 4px solid var(--border-color-primary); white-space: pre-line; }
.mmer figure { margin: .5rem 0; max-width: 100%; }
.mmer img { display: block; max-width: 100%; height: auto; margin: 0; background: #fff;
  border: 1px solid var(--border-color-primary); border-radius: 6px; padding: 4px; }
/* Smaller, its labels could not be read. */
.mmer .wide { overflow-x: auto; }
.mmer .wide figure { min-width: 26rem; }
.mmer audio { width: 100%; max-width: 34rem; margin: .35rem 0; }
.mmer .scroll { overflow-x: auto; max-height: 24rem; overflow-y: auto; margin: .75rem 0; }
.mmer .scroll th { font-weight: 600; }
.mmer .scroll th, .mmer .scroll td { border-bottom: 1px solid var(--border-color-primary);
  vertical-align: top; white-space: nowrap; font-size: .875rem; }
.mmer .scroll td.wide { white-space: normal; min-width: 10rem; }
@media (max-width: 40rem) {
  .mmer .cards thead { display: none; }
  .mmer .cards, .mmer .cards tbody, .mmer .cards tr { display: block; }
  .mmer .cards tr { border-bottom: 1px solid var(--border-color-primary); padding: .4rem 0; }
  .mmer .cards td { display: grid; grid-template-columns: 6.5rem 1fr; border: 0;
    white-space: normal; }
  .mmer .cards td::before { content: attr(data-title); opacity: .75; } }
"""
