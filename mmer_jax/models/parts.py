"""All but the parameters that a trained model is built of: encoders' configs and tokenizer.

A run's `shared` folder and a model folder have them.
"""

import copy
import os

import ml_collections

from mmer_jax import files
from mmer_jax.data.text import TOKENIZER_FILE, Tokenizer
from mmer_jax.errors import UserError
from mmer_jax.models.encoders import ENCODERS
from mmer_jax.models.mmer import MMER

AUDIO, TEXT, TOKENIZER = "audio_encoder", "text_encoder", "tokenizer"
AGAIN = "Export it again: python -m mmer_jax.export WORKDIR OUT; or copy it again, as a whole."


def write(model: MMER, tokenizer: Tokenizer | None, folder: str) -> None:
    """Writes encoders' configs and tokenizer.

    Args:
      model: the Flax module.
      tokenizer: None for a model of speech alone.
      folder: on a disk.
    """
    for name in (AUDIO, TEXT):
        encoder = getattr(model, name)
        if encoder is not None:
            config = copy.deepcopy(encoder.config)
            # One from scratch does not say it; read again, it would.
            if name == AUDIO:
                usual = ENCODERS[config.model_type].normalizes
                config.do_normalize = getattr(config, "do_normalize", usual)
            config.save_pretrained(os.path.join(folder, name))
    if tokenizer:
        tokenizer.save(os.path.join(folder, TOKENIZER))


def use(config: ml_collections.ConfigDict, folder: str) -> None:
    """Makes a config name the encoders and the tokenizer that `write` wrote into `folder`.

    Raises:
      UserError: some of them are missing.
    """
    modalities = config.model.modalities
    _check_whole(folder, modalities)
    for part, name in ((config.audio, AUDIO), (config.text, TEXT)):
        needed = name.split("_")[0] in modalities
        part.pretrained = files.local_copy(os.path.join(folder, name)) if needed else ""
    words = os.path.join(folder, TOKENIZER)
    tokenizer_file = os.path.join(files.local_copy(words), TOKENIZER_FILE)
    config.text.tokenizer = tokenizer_file if "text" in modalities else ""


def paths(modalities) -> list[str]:
    """Files that `write` wrote for a model of these modalities, one of each folder."""
    needed = [f"{name}_encoder/config.json" for name in modalities]
    return needed + ([f"{TOKENIZER}/{TOKENIZER_FILE}"] if "text" in modalities else [])


def _check_whole(folder, modalities):
    missing = [n for n in paths(modalities) if not files.exists(os.path.join(folder, n))]
    if missing:
        raise UserError(f"{folder} lacks {', '.join(missing)}. {AGAIN}")
