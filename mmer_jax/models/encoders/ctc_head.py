"""The CTC head that a checkpoint brings, such as wav2vec2-base-960h, in our symbols' order."""

import json

import numpy as np
from absl import logging

from mmer_jax.data.alphabet import BLANK, SPECIAL, Alphabet
from mmer_jax.errors import UserError
from mmer_jax.models.encoders import weight_files
from mmer_jax.models.encoders.weight_files import listed

VOCABULARY = "vocab.json"


def load(source: str, fresh: dict, alphabet: Alphabet, blank: int = 0) -> dict:
    """The head's `kernel` [d, v] and `bias` [v] as the checkpoint has them.

    Args:
      source: hub name or folder.
      fresh: the same from the seed: symbols that the checkpoint lacks keep these.
      alphabet: of the v symbols; a character may have the other case there.
      blank: the blank's id there, its config's `pad_token_id`.

    Raises:
      UserError: no such head, or one of other characters.
    """
    path = weight_files.find(source)
    state = weight_files.read(path)
    head = [state.get(f"lm_head.{name}") for name in ("weight", "bias")]
    width = len(fresh["kernel"])
    if any(x is None for x in head) or head[0].shape[1] != width:
        raise UserError(
            f"config.audio.ctc_head takes over the CTC head of {source}, and {path} has none of a "
            f"width of {width} (lm_head.weight). Name a checkpoint that was trained with CTC, "
            "such as facebook/wav2vec2-base-960h, or set it to False."
        )
    ids = _ids(alphabet, _vocabulary(source), blank)
    lacking = [c for c in ("|", *alphabet.characters) if ids.get(c, len(head[0])) >= len(head[0])]
    if "|" in lacking or 2 * len(lacking) > len(alphabet.characters):
        raise UserError(
            f"The CTC head of {source} writes other characters than this run: {VOCABULARY} lacks "
            f"{listed(lacking)}. Set config.audio.ctc_head=False, or choose another "
            "config.losses.ctc.alphabet."
        )
    kernel, bias = np.array(fresh["kernel"]), np.array(fresh["bias"])
    for symbol, row in ids.items():
        if symbol in lacking:
            continue
        column = alphabet.symbols.index(symbol)
        kernel[:, column], bias[column] = head[0][row], head[1][row]
    logging.info("%s: CTC head taken over; fresh: %s.", path, ", ".join(lacking) or "none")
    return {"kernel": kernel, "bias": bias}


def _vocabulary(source):
    """Token -> id of a checkpoint's vocab.json."""
    path = weight_files.fetch(source, VOCABULARY)
    try:
        if path is None:
            raise FileNotFoundError("there is none")
        with open(path, encoding="utf-8") as f:
            vocabulary = dict(json.load(f))
    except (OSError, ValueError, TypeError, RecursionError) as e:
        raise UserError(
            f"{source} has no {VOCABULARY} that can be read ({e}); it says what its CTC head "
            "writes. Download the checkpoint again, as a whole."
        ) from e
    if vocabulary and all(isinstance(i, int) for i in vocabulary.values()):
        return vocabulary
    raise UserError(
        f"{path} has no characters of one language; config.audio.ctc_head needs a checkpoint with "
        "one head."
    )


def _ids(alphabet, vocabulary, blank):
    """Our symbol -> the checkpoint's id, of those that it has."""
    ids = {SPECIAL[BLANK]: blank}
    for symbol in alphabet.symbols[1:]:
        for name in (symbol, symbol.upper(), symbol.lower()):
            if name in vocabulary:
                ids.setdefault(symbol, vocabulary[name])
    return ids
