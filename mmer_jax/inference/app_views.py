"""The page of `mmer_jax.app` as HTML: a model, a recording and its prediction."""

import os
import sys

import numpy as np

from mmer_jax.data.corpus import is_synthetic
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError
from mmer_jax.inference import audio_io
from mmer_jax.inference.model_card import CLASSES
from mmer_jax.metrics import reliability
from mmer_jax.reporting import plots, report
from mmer_jax.reporting.embeddings import spelled

_TOKENS = 40  # of the attention's picture
WAVEFORM = {"waveform_color": "#888c98", "waveform_progress_color": "#2478c0"}


def introduction(model) -> str:
    """The part above the form: the model, and what it is not fit for."""
    uses = {"audio": "how it is said", "text": "what is said"}
    # Files and Python have the classes by their short names.
    classes = [f"{full} ({name})" if full != name else name for name, full in titles(model).items()]
    return _render(
        "introduction",
        model.card.get("name") or model.config.name,
        " and ".join(uses[m] for m in model.config.model.modalities),
        classes,
        is_synthetic(model.config),
    )


def result(name: str, *args) -> str:
    """A macro of `page.html.j2` as the answer, which screen readers read out when it changes."""
    return _render(name, *args, head='<section role="status" aria-label="Result">')


def _render(name, *args, head="<section>"):
    template = report.environment().get_template("page.html.j2")
    body = f'<div class="mmer">{head}{getattr(template.module, name)(*args)}</section></div>'
    # Gradio's templates would take these for their own.
    return body.translate(str.maketrans({"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;"}))


def titles(model) -> dict[str, str]:
    """Class -> its name in full."""
    return {name: CLASSES.get(name, name) for name in model.label_names}


def answer(predictor, path: str | None, text: str, speech_alone: bool) -> str:
    """The prediction for what was filled in, or what is wrong.

    Args:
      predictor: a `Predictor`.
      path: of the recording, or None.
      text, speech_alone: as filled in.
    """
    try:
        model = predictor.model
        text = requested_text(predictor, text, speech_alone)
        wave = _read(path) if model.uses_audio else None
        prediction = predictor.predict(None if wave is None else (wave, SAMPLE_RATE), text)
        return shown(predictor, prediction, wave, os.path.basename(path or ""))
    except UserError as e:
        return result("failure", str(e))
    except Exception as e:  # for the terminal, where someone can make something of it
        sys.excepthook(type(e), e, e.__traceback__)
        message = "Something went wrong here; the terminal of this program says what."
        return result("failure", message)


def requested_text(predictor, text: str | None, speech_alone: bool) -> str | None:
    """The form's text as `Predictor.predict` takes it.

    Raises:
      UserError: no text where the model can't do without.
    """
    text, model = (text or "").strip(), predictor.model
    if not model.uses_text or (speech_alone and model.uses_audio):
        return ""
    if not text and predictor.lacks_text:
        tick = ", or tick “speech alone”" if model.uses_audio else ""
        raise UserError(
            f"There is no text yet, and this model {predictor.lacks_text}. Type what is said{tick}."
        )
    return text or None


def _read(path):
    if not path:
        raise UserError("There is no recording yet. Record one or choose a file, then ask.")
    if not os.path.exists(path):
        raise UserError("This recording was removed meanwhile. Choose or record it again.")
    return audio_io.read(path, name=os.path.basename(path))


def shown(predictor, prediction, wave: np.ndarray | None, name: str = "") -> str:
    """A prediction for a wave [n] of 16 kHz, of a file's name; None for a model of text alone."""
    model = predictor.model
    names = titles(model)
    colours = plots.emotion_colours(names)
    bars = [
        (names[name], share, colours[name], [f"{100 * share:.0f} %"])
        for name, share in prediction.probabilities.items()
    ]
    accuracy = reliability.sentence(
        prediction.held_out, prediction.text_source, len(model.label_names), model.uses_text
    )
    return result(
        "answer", prediction, model, names, bars, f"{accuracy[:1].upper()}{accuracy[1:]}.",
        prediction.is_readable,
        None if wave is None else _timeline(prediction, wave, names),
        None if wave is None else _picture(predictor, prediction, wave),
        f"{name}, {clock(prediction.seconds)}" if name else "",
    )  # fmt: skip


def _timeline(prediction, wave, titles):
    """The windows, as a picture and a table; None for a single one, or with a warning."""
    windows = prediction.timeline
    if len(windows) < 2 or prediction.warning:
        return None
    # Each window counts for the time around it: neighbours meet halfway.
    edges = [0.0, *((a.end + b.start) / 2 for a, b in zip(windows, windows[1:]))]
    spans = list(zip(edges, [*edges[1:], prediction.seconds]))
    colours = [(*span, titles[w.label]) for span, w in zip(spans, windows) if w.label]
    parts = report.environment().get_template("parts.html.j2").module
    of = plots.emotion_colours(titles)
    rows = [
        [
            f"{clock(start)}–{clock(end)}",
            parts.emotion(titles[w.label], of[w.label]) if w.label else "no speech",
            f"{100 * w.probabilities[w.label]:.0f} %" if w.label else "",
            w.text,
        ]
        for (start, end), w in zip(spans, windows)
    ]
    # A given text is the same in every window.
    written = prediction.text_source in ("asr", "ctc") and prediction.is_readable
    columns = 4 if written else 3
    return {
        "image": plots.image(plots.waveform(wave, colours, titles.values())),
        "head": ["time", "emotion", "probability", "transcript"][:columns],
        "rows": [row[:columns] for row in rows],
    }


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds: 75.25 -> 1:15.2."""
    tenths = int(10 * seconds)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def lacks_attention(model) -> str:
    """Why a `LoadedModel` has no attention from text to speech; "" if it has."""
    if not model.uses_text or not model.uses_audio:
        one = "text" if model.uses_text else "speech"
        return f"This model uses {one} alone: there is no attention from text to speech to show."
    if model.config.model.fusion == "concat":
        return "This model puts speech and text side by side: there is no attention between them."
    return ""


def _picture(predictor, prediction, wave):
    """The attention in the most confident window, or the waveform alone."""
    reason = lacks_attention(predictor.model)
    if not reason and not any(w.text.strip() for w in prediction.timeline):
        reason = "The model read no words that could attend to anything."
    if not reason and not prediction.is_readable:
        reason = "Where the words look is not shown: they are too uncertain."
    if prediction.label is None or reason:
        caption = reason if prediction.label else ""
        return {"image": plots.image(plots.waveform(wave)), "caption": caption}
    window = max(prediction.timeline, key=lambda w: w.probabilities.get(prediction.label, 0.0))
    part = wave[round(window.start * SAMPLE_RATE) : round(window.end * SAMPLE_RATE)]
    weights, ids = predictor.attention(part, window.text)
    tokens = spelled(predictor.model.tokenizer.source, ids[:_TOKENS])
    frame = predictor.model.model.frame_samples / SAMPLE_RATE
    several = len(prediction.timeline) > 1
    return {
        "image": plots.image(plots.attention(part, weights[:_TOKENS], tokens, frame)),
        "window": f"{clock(window.start)}–{clock(window.end)}" if several else "",
        "pieces": f"{_TOKENS} of {len(ids)}" if len(ids) > _TOKENS else "",
    }
