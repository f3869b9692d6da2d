"""The page of `mmer_jax.app` as HTML: a model, a recording and its prediction."""

import os

import numpy as np

from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.errors import UserError
from mmer_jax.inference import audio_io
from mmer_jax.inference.model_card import CLASSES
from mmer_jax.metrics import reliability
from mmer_jax.models import encoders
from mmer_jax.reporting import html, plots
from mmer_jax.reporting.analysis import is_synthetic
from mmer_jax.reporting.embeddings import spelled

_TOKENS = 40  # of the attention's picture
_EXPECTED = "expected a recording, for example wav, flac, ogg or mp3"


def css() -> str:
    """The page's style sheet."""
    return html.environment().get_template("page.css.j2").render()


def introduction(model) -> str:
    """The part above the form: the model, and what it is not fit for."""
    uses = {"audio": "how it is said", "text": "what is said"}
    return _render(
        "introduction", model.card.get("name") or model.config.name,
        " and ".join(uses[m] for m in model.config.model.modalities),
        [CLASSES.get(name, name) for name in model.label_names], is_synthetic(model.config),
    )  # fmt: skip


def result(name: str, *args) -> str:
    """A macro of `page.html.j2` as the answer, which screen readers read out when it changes."""
    return _render(name, *args, head='<section role="status" aria-label="Result">')


def _render(name, *args, head="<section>"):
    template = html.environment().get_template("page.html.j2")
    body = f'<div class="mmer">{head}{getattr(template.module, name)(*args)}</section></div>'
    # Gradio's templates would take these for their own.
    return body.translate(str.maketrans({"$": "&#36;", "{": "&#123;", "}": "&#125;", "`": "&#96;"}))


def requested_text(model, text: str, speech_alone: bool) -> str | None:
    """The form's text as `Predictor.predict` takes it.

    Raises:
      UserError: no text where the model can't do without.
    """
    text = (text or "").strip()
    if not model.uses_text or (speech_alone and model.uses_audio):
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


def answer(predictor, path: str | None, text: str, speech_alone: bool) -> str:
    """The prediction for what was filled in.

    Args:
      predictor: a `Predictor`.
      path: of the recording, or None.
      text, speech_alone: as filled in.

    Raises:
      UserError: no recording or text where there must be one, or one that can't be read.
    """
    model = predictor.model
    text = requested_text(model, text, speech_alone)
    wave = _read(path) if model.uses_audio else None
    prediction = predictor.predict(None if wave is None else (wave, SAMPLE_RATE), text)
    return result("answer", *_answer(predictor, prediction, wave))


def _read(path):
    if not path:
        raise UserError("There is no recording yet. Record one or choose a file, then ask.")
    if not os.path.exists(path):
        raise UserError("This recording was removed meanwhile. Choose or record it again.")
    try:
        return audio_io.read(path, name=os.path.basename(path))
    except UserError as e:
        raise UserError(str(e).replace(audio_io.EXPECTED, _EXPECTED)) from e


def _answer(predictor, prediction, wave):
    """The arguments of the template's macro."""
    model = predictor.model
    titles = {name: CLASSES.get(name, name) for name in model.label_names}
    accuracy = reliability.sentence(
        prediction.held_out, prediction.text_source, len(titles), model.uses_text
    )
    return (
        prediction, titles, _calibration(prediction), f"{accuracy[:1].upper()}{accuracy[1:]}.",
        _text_note(prediction, model.uses_text), _timeline(prediction, wave, titles),
        [] if wave is None else [_picture(predictor, prediction, wave)],
        sum(prediction.timings.values()),
    )  # fmt: skip


def _calibration(prediction):
    if prediction.calibrated:
        return "calibrated on held-out speech with this kind of text"
    several = len(prediction.timeline) > 1
    return "not calibrated: the mean of several windows" if several else "not calibrated"


def _text_note(prediction, uses_text):
    if not uses_text:
        return "This model uses speech alone; it reads no text."
    if prediction.text_source == "ctc" and not prediction.text.strip():
        return "The model recognised no words. Type what is said to help it."
    return {
        "given": "As you typed it.",
        "ctc": "Written by the model itself, which makes mistakes. Type what is said to help it.",
        "none": "Speech alone: the model read no text.",
    }[prediction.text_source]


def _timeline(prediction, wave, titles):
    """The windows, as a picture and a table; None for a single one, or with a warning."""
    windows = prediction.timeline
    if wave is None or len(windows) < 2 or prediction.warning:
        return None
    # Each window counts for the time around it: neighbours meet halfway.
    edges = [0.0, *((a.end + b.start) / 2 for a, b in zip(windows, windows[1:]))]
    spans = list(zip(edges, [*edges[1:], prediction.seconds]))
    colours = [(*span, titles[w.label]) for span, w in zip(spans, windows) if w.label]
    rows = [
        [f"{clock(start)}–{clock(end)}", titles.get(w.label, "no speech"),
         f"{100 * w.probabilities[w.label]:.0f} %" if w.label else "", w.text]
        for (start, end), w in zip(spans, windows)
    ]  # fmt: skip
    # A given text is the same in every window.
    columns = 4 if prediction.text_source == "ctc" else 3
    return {
        "image": html.image(plots.waveform_png(wave, colours, titles.values())),
        "head": ["time", "emotion", "probability", "transcript"][:columns],
        "rows": [row[:columns] for row in rows],
    }


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds: 75.25 -> 1:15.2."""
    tenths = int(10 * seconds)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def lacks_attention(model) -> str:
    """Why a `LoadedModel` has no attention from text to speech; "" if it has."""
    modalities = model.config.model.modalities
    if len(modalities) == 1:
        one = {"audio": "speech", "text": "text"}[modalities[0]]
        return f"This model uses {one} alone: there is no attention from text to speech to show."
    if model.config.model.fusion == "concat":
        return "This model puts speech and text side by side: there is no attention between them."
    return ""


def _picture(predictor, prediction, wave):
    """(heading, image, description, caption) of the attention, or of the waveform alone."""
    reason = lacks_attention(predictor.model)
    if not reason and not any(w.text.strip() for w in prediction.timeline):
        reason = "The model read no words that could attend to anything."
    if prediction.label is None or reason:
        image = html.image(plots.waveform_png(wave))
        return "Waveform", image, "waveform of the recording", reason if prediction.label else ""
    shares = [w.probabilities.get(prediction.label, 0.0) for w in prediction.timeline]
    window = prediction.timeline[int(np.argmax(shares))]
    part = wave[round(window.start * SAMPLE_RATE) : round(window.end * SAMPLE_RATE)]
    weights, ids = predictor.attention(part, window.text)
    tokens = spelled(predictor.model.tokenizer.source, ids[:_TOKENS])
    frame = encoders.frame(predictor.model.model.audio_encoder)
    png = plots.attention_png(part, weights[:_TOKENS], tokens, frame / SAMPLE_RATE)
    caption = (
        "Each row is a piece of the text: the brighter, the more it attends to that moment of the "
        "speech; 1 would be an even spread. Attention is not an explanation of the answer."
    )
    if len(shares) > 1:
        caption += (
            f" Shown is {clock(window.start)}–{clock(window.end)}, the most confident window."
        )
    if len(ids) > _TOKENS:
        caption += f" Shown are the first {_TOKENS} of {len(ids)} pieces."
    description = "attention of each piece of the text over the waveform"
    return "Where the words look in the speech", html.image(png), description, caption
