"""Word and character error rates of what the CTC head wrote, through jiwer."""

import jiwer

from mmer_jax.data.alphabet import ENGLISH, Alphabet


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
