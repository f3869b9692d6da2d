"""What a state is worth on held-out utterances, with each text that it may be given."""

import numpy as np

from mmer_jax.metrics import asr, calibration, classification, reliability


def measure(config, utterances, predict) -> dict[str, dict]:
    """Temperature and metrics with each text source.

    Args:
      config: of the run.
      utterances: held out of the training of the state that predicts; their speakers may have
        trained, which makes all metrics better than they are for new speakers.
      predict: function of the utterances' texts by id (None: the transcripts), see `loop.predict`.

    Returns:
      By source (`reliability.text_sources`, in that order): `temperature`, `ua`, `ua_low` (see
      `calibration.ua_lower_bound`), `utterances`, how many, and `wer` of the text that was read,
      None where it is not the CTC head's.
    """
    usual, *others = reliability.text_sources(config)
    outputs = predict(None)
    measured = {usual: _metrics(outputs["logits"], utterances)}
    for source in others:
        texts = reliability.texts(source, utterances, outputs["recognized"])
        measured[source] = _metrics(predict(texts)["logits"], utterances)
    if "ctc" in measured:
        transcripts = [u.transcript for u in utterances]
        measured["ctc"]["wer"] = asr.error_rates(transcripts, outputs["recognized"])["wer"]
    return measured


def _metrics(logits, utterances):
    label = np.array([u.label for u in utterances])
    matrix = classification.confusion(label, logits.argmax(-1), logits.shape[1])
    return {
        "temperature": calibration.fit_temperature(logits, label),
        "ua": classification.rates(matrix)["ua"],
        "ua_low": calibration.ua_lower_bound(matrix),
        "utterances": len(label),
        "wer": None,
    }
