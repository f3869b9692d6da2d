"""A trained model, and its folder: parameters, config, tokenizer, card; no pickle."""

import dataclasses
import hashlib
import json
import os
import re
from importlib import metadata

import ml_collections
from flax import traverse_util

from mmer_jax import configuration, files
from mmer_jax.data.preprocessing import Preprocessor
from mmer_jax.data.text import CTC_SYMBOLS, Tokenizer, read_tokenizer
from mmer_jax.errors import UserError
from mmer_jax.metrics import reliability
from mmer_jax.models import factory, params_file, parts
from mmer_jax.models.mmer import MMER
from mmer_jax.models.parts import AGAIN

FORMAT = 1  # of the folder; raised when an older version could not read it
PARAMS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
KEYS = ("config", "label_names", "temperature", "card", "sizes")  # of config.json


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
    tokenizer: Tokenizer | None
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
        return factory.preprocessor(self.config, self.tokenizer, self.model)

    @property
    def measured(self) -> dict:
        """`text_sources` without those of a CTC head that was not trained, which old runs have."""
        return {k: v for k, v in self.text_sources.items() if k != "ctc" or not self.lacks_ctc}

    def held_out(self, text_source: str) -> dict:
        """Held-out results with that text source of a prediction; {} if there are none."""
        return reliability.held_out(self.text_sources, text_source, self.uses_text)

    @property
    def lacks_ctc(self) -> str:
        """Why it can't write down what is said; "" if it can."""
        if not self.uses_audio:
            return "reads text alone"
        if not self.config.losses.ctc.weight:
            return "was trained without CTC, so it can't write down what is said"
        if self.model.symbols != len(CTC_SYMBOLS):
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


def build(config, classes: int, tokenizer: Tokenizer | None) -> MMER:
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
        symbols=len(CTC_SYMBOLS),
        vocab_size=tokenizer.vocab_size if tokenizer else 1,
    )
    factory.check_limits(model, config, tokenizer)
    return model


def is_model_folder(folder: str) -> bool:
    """Whether `folder` holds model.safetensors and config.json."""
    folder = files.resolve(folder)
    return all(files.exists(os.path.join(folder, name)) for name in (PARAMS, CONFIG))


def write(model: LoadedModel, folder: str, card: str = "") -> None:
    """Writes the folder: whole, or nothing.

    Args:
      model: from wherever.
      folder: must not exist, or be empty.
      card: its README.md; "" for none.

    Raises:
      UserError: the folder is taken or can't be written, the tokenizer can't be read any more, or
        the parts of the model don't fit each other.
    """
    factory.check_params(model.model, model.params, f"The model read from {model.source}")
    _check_sizes(model, f"The model read from {model.source}")
    with files.new_folder(folder) as made:
        parts.write(model.model, model.tokenizer_folder, made)
        content = json.dumps(_description(model), indent=2, allow_nan=False) + "\n"
        files.replace_file(os.path.join(made, CONFIG), content)
        if card:
            files.replace_file(os.path.join(made, CARD), card)
        params_file.write(os.path.join(made, PARAMS), model.params, {"format_version": str(FORMAT)})


def _description(model):
    """The content of config.json."""
    m = model.model
    config = model.config.copy_and_resolve_references()
    # Nothing of the machine that it was trained on: paths are those in the folder.
    config.data.dir, config.init_from = configuration.default().data.dir, ""
    config.audio.pretrained = parts.AUDIO if model.uses_audio else ""
    config.text.pretrained = parts.TEXT if model.uses_text else ""
    config.text.tokenizer = parts.TOKENIZER if model.uses_text else ""
    return {
        "format_version": FORMAT,
        "mmer_jax": metadata.version("mmer_jax"),
        "config": configuration.to_json(config),
        "label_names": list(model.label_names),
        # The transcripts' alone: what older versions read.
        "temperature": model.text_sources.get("gold", {}).get("temperature"),
        "text_sources": model.text_sources,
        "card": model.card,
        "sizes": {
            "classes": m.classes,
            "symbols": m.symbols,
            "vocab_size": m.text_encoder.config.vocab_size if model.uses_text else 0,
        },
    }


def read(folder: str) -> LoadedModel:
    """The model of a folder that `write` made; no network is needed, and no code of it is run.

    Raises:
      UserError: no such folder, one that isn't whole or is damaged, or of a newer version.
    """
    folder = files.resolve(folder)
    stored = _stored(folder)
    config = configuration.from_json(stored["config"])
    parts.use(config, folder)
    tokenizer, tokenizer_folder = read_tokenizer(config)
    sizes = stored["sizes"]
    model = factory.build_model(config, sizes["classes"], sizes["symbols"], sizes["vocab_size"])
    path = os.path.join(folder, PARAMS)
    params = _read_params(path)
    factory.check_params(model, params, path)
    sources = stored.get("text_sources")
    if sources is None:  # an older version's folder
        uses_text = "text" in config.model.modalities
        sources = reliability.of_old_run(stored["temperature"], config.refit, uses_text)
    loaded = LoadedModel(
        source=folder,
        config=config,
        model=model,
        params=params,
        label_names=tuple(stored["label_names"]),
        text_sources=sources,
        tokenizer=tokenizer,
        tokenizer_folder=tokenizer_folder,
        card=stored["card"],
    )
    _check_sizes(loaded, os.path.join(folder, CONFIG))
    return loaded


def _stored(folder):
    """The content of config.json, of a version that can be read."""
    if not is_model_folder(folder):
        content = sorted(os.listdir(folder))[:5] if os.path.isdir(folder) else ["no such folder"]
        raise UserError(
            f"{folder} is no model folder: it must hold {PARAMS} and {CONFIG}; found: "
            f"{', '.join(content) or 'nothing'}. {AGAIN}"
        )
    path = os.path.join(folder, CONFIG)
    try:
        stored = json.loads(files.read_text(path))
    except ValueError as e:
        raise UserError(f"{path} is not JSON ({e}). {AGAIN}") from e
    version = stored.get("format_version") if isinstance(stored, dict) else None
    if not isinstance(version, int):
        raise UserError(
            f"{path} has no format_version: this is another program's model. Expected a folder "
            "that `python -m mmer_jax.export` wrote."
        )
    if version > FORMAT:
        raise UserError(
            f"{path} is of format {version}, written by mmer_jax {stored.get('mmer_jax')}; this "
            f"version ({metadata.version('mmer_jax')}) reads formats up to {FORMAT}. Update it."
        )
    lacking = [key for key in KEYS if key not in stored]
    if lacking:
        raise UserError(f"{path} lacks {', '.join(lacking)}. {AGAIN}")
    sizes, names, temperature = (stored[key] for key in ("sizes", "label_names", "temperature"))
    right = {
        "config": isinstance(stored["config"], dict),
        "card": isinstance(stored["card"], dict),
        "label_names": isinstance(names, list) and all(isinstance(n, str) for n in names),
        "temperature": temperature is None or _is_positive(temperature),
        "text_sources": _are_text_sources(stored.get("text_sources", {})),
        "sizes": isinstance(sizes, dict)
        and all(isinstance(sizes.get(k), int) for k in ("classes", "symbols", "vocab_size")),
    }
    wrong = [f"{key}={stored.get(key)!r}" for key, fine in right.items() if not fine]
    if wrong:
        raise UserError(f"{path} has {'; '.join(wrong)[:200]}, which can't be. {AGAIN}")
    return stored


def _is_positive(x):
    return isinstance(x, (int, float)) and x > 0


def _are_text_sources(sources):
    """Whether it is names -> metrics, each a number or None, the temperatures positive."""
    if not isinstance(sources, dict) or not all(isinstance(x, dict) for x in sources.values()):
        return False
    metrics = [(k, x.get(k)) for x in sources.values() for k in reliability.NUMBERS]
    return all(
        x is None or (_is_positive(x) if k == "temperature" else isinstance(x, (int, float)))
        for k, x in metrics
    )


def _read_params(path):
    flat, written = params_file.read(path, AGAIN)
    if written.get("format_version") != str(FORMAT):
        raise UserError(
            f"{path} has format_version {written.get('format_version')!r} in its metadata, not "
            f"{str(FORMAT)!r}: it was not written together with {CONFIG}. {AGAIN}"
        )
    return traverse_util.unflatten_dict(flat, sep="/")


def _check_sizes(model, source):
    classes, names = model.model.classes, model.label_names
    if len(names) != classes:
        raise UserError(f"{source} names {len(names)} classes, but its model has {classes}.")
    if model.tokenizer is None:
        return
    try:
        factory.check_limits(model.model, model.config, model.tokenizer)
    except UserError as e:
        raise UserError(f"{source}: {e} {AGAIN}") from e
