"""How often a model is right with the text that it reads, measured on held-out dialogs."""

from mmer_jax import plain

TEXT_SOURCES = {
    "gold": "the transcripts",
    "asr": "what a speech recogniser wrote",
    "ctc": "what its own CTC head wrote (greedy, in lower case)",
    "none": "no words at all: speech alone",
}
NUMBERS = ("temperature", "ua", "ua_low", "utterances", "wer", "cer")
_WITH = {
    "gold": "with a correct transcript", "asr": "with this recogniser's transcript",
    "ctc": "with its own transcript", "none": "without words",
}  # fmt: skip
_GIVEN = "given"  # the word of earlier versions for a prediction's text source `gold`
MARGIN = 0.05  # above the UA of guessing, see `near_chance`


def text_sources(config) -> tuple[str, ...]:
    """Those of `TEXT_SOURCES` that make a difference to a run's model, its usual one first.

    Without a text branch it reads none, whatever it is given; without speech it has no CTC head,
    and one that was not trained writes noise. A recogniser's are there where the config names them.
    """
    modalities = tuple(config.model.modalities)
    if "text" not in modalities:
        return ("none",)
    has = {"asr": config.data.asr_transcripts,
           "ctc": "audio" in modalities and config.losses.ctc.weight}  # fmt: skip
    return tuple(source for source in TEXT_SOURCES if has.get(source, True))


def are_text_sources(sources) -> bool:
    """Whether it is text source -> metrics, each None or a number that such a metric can be."""
    if not plain.is_kind(sources, dict[str, dict]):
        return False
    metrics = [(k, x.get(k)) for x in sources.values() for k in NUMBERS]
    return all(plain.is_kind(x.get("recognizer"), str | None) for x in sources.values()) and all(
        x is None or plain.is_kind(x, float) and 0 <= x <= (1 if k in ("ua", "ua_low") else x)
        and (x or k != "temperature") for k, x in metrics
    )  # fmt: skip


def texts(source: str, utterances, recognized, asr_transcripts=None) -> dict[str, str]:
    """Utterance id -> the text that the model reads with a source.

    Args:
      source: one of `TEXT_SOURCES`.
      utterances: with `id` and `transcript`.
      recognized: what the CTC head wrote, in the same order; used with `ctc` alone.
      asr_transcripts: utterance id -> what a recogniser wrote; used with `asr` alone.
    """
    if source == "asr":
        return {u.id: asr_transcripts[u.id] for u in utterances}
    if source == "ctc":
        return {u.id: words.lower() for u, words in zip(utterances, recognized)}
    return {u.id: u.transcript if source == "gold" else "" for u in utterances}


def of_old_run(temperature: float | None, refit: bool, uses_text: bool) -> dict:
    """`text_sources` of a run whose version fitted one temperature, with transcripts if any.

    Args:
      temperature: that one, or None.
      refit: whether the tested model is another than the one that it was fitted to.
      uses_text: whether the model reads text.
    """
    source = "gold" if uses_text else "none"
    return {source: {"temperature": temperature}} if temperature and not refit else {}


def held_out(text_sources: dict, text_source: str, uses_text: bool, recognizer: str = "") -> dict:
    """The metrics of one text source; {} where it was not measured.

    Args:
      text_sources: of a model: one of `TEXT_SOURCES` -> `NUMBERS`, and of `asr` the `recognizer`.
      text_source: one of `TEXT_SOURCES`.
      uses_text: whether the model reads text; one that doesn't answers the same with any.
      recognizer: name of the one whose text is read: what another one's did says nothing of it.
    """
    if uses_text:
        found = text_sources.get("gold" if text_source == _GIVEN else text_source, {})
        return {} if text_source == "asr" and found.get("recognizer") != recognizer else found
    return next((text_sources[k] for k in ("none", "gold", "ctc") if k in text_sources), {})


def near_chance(metrics: dict, classes: int) -> bool:
    """Whether the UA of these metrics is hardly told from guessing among `classes`.

    By its lower bound, see `calibration.ua_lower_bound`, where there is one; what was not measured
    is not near chance.
    """
    low = metrics.get("ua_low")
    low = metrics.get("ua") if low is None else low
    return low is not None and low <= 1 / classes + MARGIN


def sentence(metrics: dict, text_source: str, classes: int, uses_text: bool) -> str:
    """How often the model is right with this text source, or that nobody knows.

    Args:
      metrics: see `held_out`.
      text_source, uses_text: as there.
      classes: c.
    """
    how = f"{_WITH[text_source]} " if uses_text else ""
    if metrics.get("ua") is None:
        return (
            f"how often this model is right {how}was not measured, so its probabilities promise "
            "nothing"
        )
    return (
        f"{how}this model is right in {100 * metrics['ua']:.0f} % of held-out utterances "
        f"(UA, the mean over the classes; guessing: {100 / classes:.0f} %)"
    )


def warning(metrics: dict, text_source: str, classes: int, uses_text: bool) -> str:
    """That the answer is hardly better than a guess, with the metrics; "" where it is better."""
    if not near_chance(metrics, classes):
        return ""
    return f"hardly better than guessing: {sentence(metrics, text_source, classes, uses_text)}"
