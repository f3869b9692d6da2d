"""A trained model with all that a prediction needs, wherever it was read from."""

import dataclasses
import hashlib
import json
import re

import ml_collections

from mmer_jax.data import text
from mmer_jax.data.preprocessing import Preprocessor
from mmer_jax.metrics import reliability
from mmer_jax.models import factory, params_file
from mmer_jax.models.mmer import MMER


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A trained model with all that a prediction needs, wherever it was read from.

    Attributes:
      source: path or hub name it came from.
      config: validated; of the run.
      model: the Flax module.
      params: nested dict of host arrays, all parameters, trained and frozen.
      label_names: of the c classes, in the order of the logits.
      text_sources: what was measured on held-out dialogs, for each text that the model was tested
        with: `gold` (the transcripts), `ctc` and `none` -> `temperature`, `ua`, `ua_low`,
        `utterances`, `wer`, each None or lacking where unknown; {} where nothing was held out.
      tokenizer: None for a model of speech alone.
      tokenizer_folder: hub name or folder it was read from; "" for a model of speech alone.
      card: what is known of the run: `fold`, `seed`, `fingerprint`, `rates`, `protocol`,
        `selection`, `name`, and `encoders`, hub names of those it began with; {} where nothing is.
    """

    source: str
    config: ml_collections.ConfigDict
    model: MMER
    params: dict
    label_names: tuple[str, ...]
    text_sources: dict
    tokenizer: text.Tokenizer | None
    tokenizer_folder: str
    card: dict

    @property
    def uses_audio(self) -> bool:
        """Whether it takes speech."""
        return self.model.audio_encoder is not None

    @property
    def uses_text(self) -> bool:
        """Whether it takes text."""
        return self.model.text_encoder is not None

    @property
    def preprocessor(self) -> Preprocessor:
        """Makes its inputs as evaluation does."""
        return factory.preprocessor(self.config, self.model, self.tokenizer)

    def held_out(self, text_source: str) -> dict:
        """What is known of the model with that text source of a prediction; {} if nothing is."""
        return reliability.held_out(self.text_sources, text_source, self.uses_text)

    @property
    def lacks_ctc(self) -> str:
        """Why it can't write down what is said; "" if it can."""
        if not self.uses_audio:
            return "reads text alone"
        if not self.config.losses.ctc.weight:
            return "was trained without CTC, so it can't write down what is said"
        if self.model.symbols != len(text.CTC_SYMBOLS):
            return f"has a CTC head of {self.model.symbols} unknown symbols"
        return ""


def digest(model: LoadedModel) -> str:
    """16 hex digits that change with any parameter, label or temperature, not with the source."""
    found = hashlib.sha256(json.dumps([model.label_names, model.text_sources]).encode())
    params_file.add_params(found, model.params)
    return found.hexdigest()[:16]


def hub_names(config) -> list[str]:
    """Those of the encoders that training began with; paths tell nobody anything."""
    named = (getattr(config, part).pretrained for part in config.model.modalities)
    return [n for n in named if re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", n)]


def build(config, classes: int, tokenizer: text.Tokenizer | None) -> MMER:
    """The module of a run's config.

    Args:
      config: validated.
      classes: c.
      tokenizer: None for a model of speech alone.

    Raises:
      UserError: a pretrained encoder's config can't be had.
    """
    model = factory.build_model(
        config,
        classes=classes,
        symbols=len(text.CTC_SYMBOLS),
        vocab_size=tokenizer.vocab_size if tokenizer else 1,
    )
    factory.check_limits(model, config, tokenizer)
    return model
