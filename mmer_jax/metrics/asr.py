"""Word and character error rates of what the CTC head wrote, through jiwer."""

import jiwer

from mmer_jax.data.text import ctc_targets, ctc_text


def error_rates(reference, hypothesis) -> dict:
    """WER and CER over all utterances, in the CTC alphabet (capitals, apostrophe, space).

    Args:
      reference: transcripts; an empty one can't be missed and is left out.
      hypothesis: what was recognised, in the same order.

    Returns:
      `wer`, `cer` (None where there is no transcript), `utterances`, how many were compared.
    """
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
