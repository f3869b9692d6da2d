"""Word and character error rates of what was recognised, through jiwer."""

import jiwer

from mmer_jax.data.text import ctc_targets, ctc_text

CONFIDENCE = (0.0, 0.5, 0.7, 0.8, 0.9, 1.0)  # edges of `by_confidence`


def error_rates(reference, hypothesis, normalize=None) -> dict:
    """WER and CER over all utterances.

    Args:
      reference: transcripts; an empty one can't be missed and is left out.
      hypothesis: what was recognised, in the same order.
      normalize: what both go through before they are compared; None: the CTC alphabet (capitals,
        apostrophe, space) for the reference, and the hypothesis as the CTC head wrote it.

    Returns:
      `wer`, `cer` (None where there is no transcript), `utterances`, how many were compared.
    """
    if normalize:
        spelled, hypothesis = map(normalize, reference), map(normalize, hypothesis)
    else:
        spelled = [ctc_text(ctc_targets(t)).strip() for t in reference]
    pairs = [(r, h.strip()) for r, h in zip(spelled, hypothesis) if r]
    if not pairs:
        return {"wer": None, "cer": None, "utterances": 0}
    references, hypotheses = map(list, zip(*pairs))
    return {
        "wer": float(jiwer.wer(references, hypotheses)),
        "cer": float(jiwer.cer(references, hypotheses)),
        "utterances": len(pairs),
    }


def by_confidence(reference, hypothesis, confidence, normalize=None) -> list:
    """(lowest confidence, highest, `error_rates`) of the utterances between the `CONFIDENCE` edges.

    Ranges without an utterance that has a transcript are left out.

    Args:
      reference, hypothesis, normalize: see `error_rates`.
      confidence: of each hypothesis, from 0 to 1.
    """
    rows = list(zip(reference, hypothesis, confidence))
    parts = []
    for low, high in zip(CONFIDENCE, CONFIDENCE[1:]):
        inside = [(r, h) for r, h, c in rows if low <= c < high or c == high == 1]
        rates = error_rates([r for r, _ in inside], [h for _, h in inside], normalize)
        if rates["utterances"]:
            parts.append((low, high, rates))
    return parts
