"""Word and character error rates of what was recognised, through jiwer."""

import jiwer

from mmer_jax.data.alphabet import ENGLISH, Alphabet

CONFIDENCE = (0.0, 0.5, 0.7, 0.8, 0.9, 1.0)  # edges of `by_confidence`
_ANY = Alphabet("")  # words of any language, without case and punctuation


def error_rates(reference, hypothesis, alphabet: Alphabet = ENGLISH) -> dict:
    """WER and CER over all utterances, of texts without case and punctuation.

    A word is what stands between spaces: of a language that is written without them, CER counts.

    Args:
      reference: transcripts; an empty one can't be missed and is left out.
      hypothesis: what was recognised, in the same order.
      alphabet: that it was recognised in, see `Alphabet.reference`.

    Returns:
      `wer`, `cer` (None where there is no transcript), `utterances`, how many were compared.
    """
    spelled = [alphabet.reference(t) for t in reference]
    pairs = [(r, h.strip()) for r, h in zip(spelled, hypothesis) if r]
    if not pairs:
        return {"wer": None, "cer": None, "utterances": 0}
    references, hypotheses = map(list, zip(*pairs))
    return {
        "wer": float(jiwer.wer(references, hypotheses)),
        "cer": float(jiwer.cer(references, hypotheses)),
        "utterances": len(pairs),
    }


def recognizer_rates(reference, hypothesis) -> dict:
    """As `error_rates`, of texts with case and punctuation, as a recogniser writes them."""
    return error_rates(reference, map(_ANY.reference, hypothesis), _ANY)


def by_confidence(reference, hypothesis, confidence) -> list:
    """(lowest confidence, highest, `recognizer_rates`) between the edges of `CONFIDENCE`.

    Ranges without an utterance that has a transcript are left out.

    Args:
      reference, hypothesis: see `error_rates`.
      confidence: of each hypothesis, from 0 to 1.
    """
    rows = list(zip(reference, hypothesis, confidence))
    parts = []
    for low, high in zip(CONFIDENCE, CONFIDENCE[1:]):
        inside = [(r, h) for r, h, c in rows if low <= c < high or c == high == 1]
        rates = recognizer_rates([r for r, _ in inside], [h for _, h in inside])
        if rates["utterances"]:
            parts.append((low, high, rates))
    return parts
