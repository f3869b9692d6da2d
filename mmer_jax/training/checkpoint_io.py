"""A trained model, read from any folder of this package's or from the hub, written as one folder.

That folder has parameters, config, tokenizer and card, and no pickle.
"""

import dataclasses
import hashlib
import json
import os
import re
from importlib import metadata

import jax
import ml_collections
from flax import traverse_util
from huggingface_hub import snapshot_download

from mmer_jax import configuration, files, plain, runs
from mmer_jax.convert import original
from mmer_jax.data import folds
from mmer_jax.data.alphabet import ENGLISH, Alphabet
from mmer_jax.data.preprocessing import Preprocessor
from mmer_jax.data.text import Tokenizer, read_tokenizer
from mmer_jax.errors import UserError, first_line
from mmer_jax.metrics import classification, reliability
from mmer_jax.models import factory, storage
from mmer_jax.models.mmer import MMER
from mmer_jax.models.storage import AGAIN
from mmer_jax.results import HELDOUT
from mmer_jax.training import checkpoint

FORMAT = 1  # of a model folder; raised when an older version could not read it
PARAMS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
EXPECTED = (
    f"a finished fold of a run (runs/demo/fold5), a model folder ({CONFIG} and {PARAMS}), a folder "
    "written by mmer_jax.convert.original, or a model on the Hugging Face hub (owner/name)"
)
# Kinds of values in a model folder's config.json, and of its card's.
_STORED = {"config": dict, "label_names": list[str], "card": dict, "sizes": dict[str, int],
           "alphabet": str, "digests": dict[str, str]}  # fmt: skip
_CARD = {
    **dict.fromkeys(("name", "selection", "protocol", "heldout", "fingerprint"), str | None),
    **dict.fromkeys(("fold", "seed"), int | None),
    **dict.fromkeys(("languages", "encoders"), list[str] | None),
    "rates": dict[str, float | None | list[float | None]] | None,
}  # fmt: skip
# What a model folder may hold; nothing that is executed or unpickled is fetched.
_FETCHED = ("*.json", "*.safetensors", "*.txt", "*.model", "*.md")


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A trained model with all that a prediction needs, wherever it was read from.

    Attributes:
      source: path it came from.
      config: validated; of the run.
      model: the Flax module.
      params: nested dict of host arrays, all parameters, trained and frozen.
      label_names: of the c classes, in the order of the logits.
      text_sources: what was measured on held-out dialogs, for each text that the model was tested
        with: `gold` (the transcripts), `ctc` and `none` -> `temperature`, `ua`, `ua_low`,
        `utterances`, `wer`, `cer`, each None or lacking where unknown; {} where nothing was held
        out.
      tokenizer: None for a model of speech alone.
      card: what is known of the run: `fold`, `seed`, `fingerprint`, `rates`, `protocol`,
        `heldout`, `selection`, `name`, `languages` of its corpus, and `encoders`, hub names of
        those it began with; {} where nothing is.
      alphabet: of the CTC head.
    """

    source: str
    config: ml_collections.ConfigDict
    model: MMER
    params: dict
    label_names: tuple[str, ...]
    text_sources: dict
    tokenizer: Tokenizer | None
    card: dict
    alphabet: Alphabet = ENGLISH

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
        return factory.preprocessor(self.config, self.tokenizer, self.model, self.alphabet)

    @property
    def measured(self) -> dict:
        """`text_sources` without those of a CTC head that was not trained, which old runs have."""
        return {k: v for k, v in self.text_sources.items() if k != "ctc" or not self.lacks_ctc}

    def held_out(self, text_source: str, recognizer: str = "") -> dict:
        """See `reliability.held_out`: results with that text source; {} if there are none."""
        return reliability.held_out(self.text_sources, text_source, self.uses_text, recognizer)

    @property
    def lacks_ctc(self) -> str:
        """Why it can't write down what is said; "" if it can."""
        if not self.uses_audio:
            return "reads text alone"
        if not self.config.losses.ctc.weight:
            return "was trained without CTC, so it can't write down what is said"
        if self.model.symbols != len(self.alphabet.symbols):
            return f"has a CTC head of {self.model.symbols} unknown symbols"
        return ""


def read(name: str, tokenizer: str = "") -> LoadedModel:
    """The model in a folder, or of that name on the Hugging Face hub; no code of it is run.

    Args:
      name: a finished fold of a run or a workdir with one, a model folder, a converted checkpoint,
        or `owner/name`.
      tokenizer: hub name or folder of the one for a converted checkpoint, which names its own and
        does not hold it.

    Raises:
      UserError: none of these, or it is not whole; says what was found.
    """
    name = os.fspath(name)
    folder = files.resolve(name)
    if not files.exists(folder):
        folder = _download(name)
    if not os.path.isdir(folder) and not files.is_remote(folder):
        raise UserError(f"{name} is a file; expected {EXPECTED}.")
    if is_model_folder(folder):
        return _read_model_folder(folder)
    holds_result = files.exists(os.path.join(folder, runs.RESULT))
    if holds_result or re.fullmatch(r"fold\d+", os.path.basename(folder)):
        return read_fold(folder)
    if files.exists(os.path.join(folder, original.PARAMS_FOLDER)):
        config, params = original.load(folder)
        config.text.tokenizer = tokenizer or config.text.tokenizer
        card = {name: config[name] for name in ("name", "protocol", "selection")}
        symbols = len(params["ctc"]["linear"]["bias"])
        return _loaded(folder, config, params, original.LABELS, {}, card, symbols=symbols)
    found = runs.fold_folders(folder)
    if len(found) == 1:
        return read_fold(found[0])
    if found:
        paths = [os.path.relpath(f, folder) for f in found]
        raise UserError(
            f"{name} holds {len(found)} finished folds, each a model of its own: "
            f"{', '.join(paths)}. Name one, for example {os.path.join(name, paths[-1])}."
        )
    content = ", ".join(sorted(os.listdir(folder))[:8]) if not files.is_remote(folder) else ""
    raise UserError(f"{name} holds {content or 'nothing'}; expected {EXPECTED}.")


def _download(name):
    """The folder of a copy of what the hub has under a name."""
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise UserError(f"There is no folder {name}; expected {EXPECTED}.")
    try:
        return snapshot_download(name, allow_patterns=list(_FETCHED))
    except Exception as e:  # the hub's errors, or those of the network below it
        raise UserError(
            f"There is no folder {name} here, and no model of that name could be had from the "
            f"Hugging Face hub ({first_line(e)}). Expected {EXPECTED}."
        ) from e


def read_fold(folder: str) -> LoadedModel:
    """The model that a finished fold tested.

    Args:
      folder: of the fold, for example `runs/demo/fold5` or `runs/x/seed0/fold5`.

    Raises:
      UserError: no finished fold there; checkpoint, tokenizer or an encoder's config are gone.
    """
    folder = files.resolve(folder)
    if not files.exists(os.path.join(folder, runs.RESULT)):
        raise UserError(
            f"{folder} holds no {runs.RESULT}: no finished fold is there. Name a folder such as "
            "runs/demo/fold5, or run `python -m mmer_jax.main` with the same options and "
            "--workdir to its end first."
        )
    checkpoint.check_whole(folder)
    fold = runs.read_fold(folder)
    config, result = fold.config, fold.result
    card = {
        **{name: config[name] for name in ("name", "selection")},
        **{name: getattr(result, name) for name in ("protocol", "heldout", "fold")},
        "seed": result.seed,
        "fingerprint": configuration.fingerprint(config),
        "languages": result.languages,
        "encoders": hub_names(config),
        "rates": classification.rates(result.confusion),
    }
    config, params = checkpoint.read_params(fold)
    config = factory.as_trained(config, result.normalized)
    return _loaded(folder, config, params, result.label_names, result.text_sources, card,
                   Alphabet.from_json(result.alphabet))  # fmt: skip


def hub_names(config) -> list[str]:
    """Those of the encoders that training began with; paths tell nobody anything."""
    named = (getattr(config, part).pretrained for part in config.model.modalities)
    return [n for n in named if re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", n)]


def _loaded(source, config, params, label_names, text_sources, card, alphabet=ENGLISH,
            symbols=None):  # fmt: skip
    """A LoadedModel; without parameters, with those that its training started from."""
    tokenizer, names = read_tokenizer(config), tuple(label_names)
    try:
        model = build(config, len(names), tokenizer, symbols or len(alphabet.symbols))
        if params is None:
            params = initial_params(model, config, names, alphabet)
        factory.check_params(model, params, source)
    except UserError:
        raise
    except Exception as e:  # of flax, transformers or numpy, at a value that no config has
        raise UserError(
            f"The model in {source} can't be built ({type(e).__name__}: {first_line(e)}): one of "
            f"its config.json is damaged. {AGAIN}"
        ) from e
    return LoadedModel(
        source, config, model, params, names, text_sources, tokenizer, card, alphabet
    )


def build(
    config, classes: int, tokenizer: Tokenizer | None, symbols: int = len(ENGLISH.symbols)
) -> MMER:
    """The module of a run's config.

    Args:
      config: validated.
      classes: c.
      tokenizer: None for a model of speech alone.
      symbols: v.

    Raises:
      UserError: a pretrained encoder's config can't be had, or the tokenizer is another model's.
    """
    vocab_size = tokenizer.vocab_size if tokenizer else 1
    model = factory.build_model(config, classes, symbols, vocab_size)
    factory.check_limits(model, config, tokenizer)
    return model


def initial_params(model: MMER, config, label_names: tuple[str, ...],
                   alphabet: Alphabet = ENGLISH) -> dict:  # fmt: skip
    """The parameters that a training starts from, as host arrays; fresh ones by default.

    With `config.init_from` those of the model that `read` finds there. Every shape must be the
    model's. The emotions must be the same; where their order differs, the outputs are put in ours.

    Args:
      model: the Flax module.
      config: of the run.
      label_names: of the c classes, in the order of the logits.
      alphabet: of the CTC head.

    Raises:
      UserError: no model is there, or another than the config describes.
    """
    source = config.init_from
    if not source:
        return jax.device_get(factory.init_params(model, config, config.seed, alphabet))
    found = read(source, config.text.tokenizer)
    names = found.label_names
    if sorted(names) != sorted(label_names):
        raise UserError(
            f"config.init_from={source} has {len(names)} classes ({', '.join(names)}), the dataset "
            f"{len(label_names)} ({', '.join(label_names)}). Start from a model of the same "
            "classes, or from none: --config.init_from=''."
        )
    if found.alphabet != alphabet:  # the corpus' own is taken from there, see `Trainer.for_corpus`
        raise UserError(
            f"config.init_from={source} writes the characters of another corpus, and this run the "
            "English ones. Take its own: --config.losses.ctc.alphabet=corpus."
        )
    params = factory.fit_masked(model, found.params, config.seed)
    factory.check_params(model, params, source)
    fold, protocol = found.card.get("fold"), found.card.get("protocol")
    theirs, ours = (configuration.datasets(c) for c in (found.config, config))
    tested = [(f.protocol, f.number) for f in folds.of_dataset(config)]
    other_groups = found.config.fold_count != config.fold_count
    other_test = tested != [(protocol, fold)] or (protocol == "speakers" and other_groups)
    if fold is not None and {*theirs} & {*ours} and (theirs != ours or other_test):
        print(
            f"config.init_from={source} was trained on all of {', '.join(theirs)} but {protocol} "
            f"{fold}: figures on anything else are too good, for it has seen what is tested.",
            flush=True,
        )
    return factory.reorder_classes(params, names, label_names)


def digest(model: LoadedModel) -> str:
    """16 hex digits that change with any parameter, label or temperature, not with the source."""
    found = hashlib.sha256(json.dumps([model.label_names, model.text_sources]).encode())
    storage.add_params(found, model.params)
    return found.hexdigest()[:16]


def is_model_folder(folder: str) -> bool:
    """Whether `folder` holds model.safetensors and config.json."""
    return all(files.exists(os.path.join(folder, name)) for name in (PARAMS, CONFIG))


def write(model: LoadedModel, folder: str, card: str = "") -> None:
    """Writes a model folder: whole, or nothing.

    Args:
      model: from wherever.
      folder: must not exist, or be empty.
      card: its README.md; "" for none.

    Raises:
      UserError: the folder is taken or can't be written.
    """
    with files.new_folder(folder) as made:
        storage.write_parts(model.model, model.tokenizer, made)
        digests = storage.parts_digests(made, model.config.model.modalities)
        digests[PARAMS] = storage.params_digest(model.params)
        description = _description(model) | {"digests": digests}
        content = json.dumps(description, indent=2, allow_nan=False) + "\n"
        files.replace_file(os.path.join(made, CONFIG), content)
        if card:
            files.replace_file(os.path.join(made, CARD), card)
        storage.write_params(
            os.path.join(made, PARAMS), model.params, {"format_version": str(FORMAT)}
        )


def _description(model):
    """The content of config.json."""
    m = model.model
    config = model.config.copy_and_resolve_references()
    # Nothing of the machine that it was trained on: paths are those in the folder.
    config.data.dir, config.init_from = configuration.default().data.dir, ""
    config.data.asr_transcripts = os.path.basename(config.data.asr_transcripts)
    config.audio.pretrained = storage.AUDIO if model.uses_audio else ""
    config.text.pretrained = storage.TEXT if model.uses_text else ""
    config.text.tokenizer = storage.TOKENIZER if model.uses_text else ""
    return {
        "format_version": FORMAT,
        "mmer_jax": metadata.version("mmer_jax"),
        "config": configuration.to_json(config),
        "label_names": list(model.label_names),
        # The transcripts' alone: what older versions read.
        "temperature": model.text_sources.get("gold", {}).get("temperature"),
        "text_sources": model.text_sources,
        "alphabet": model.alphabet.to_json(),
        "card": model.card,
        "sizes": {
            "classes": m.classes,
            "symbols": m.symbols,
            "vocab_size": m.text_encoder.config.vocab_size if model.uses_text else 0,
        },
    }


def _read_model_folder(folder):
    path = os.path.join(folder, CONFIG)
    _check_files(folder)
    stored = _stored(path)
    config = configuration.from_json(stored["config"])
    storage.use_parts(config, folder)
    digests = stored.get("digests", {})  # of a version that wrote them
    if digests:
        _check_digests(folder, storage.parts_digests(folder, config.model.modalities), digests)
    sources = stored.get("text_sources")
    if sources is None:  # an older version's folder
        uses_text = "text" in config.model.modalities
        sources = reliability.of_old_run(stored.get("temperature"), config.refit, uses_text)
    if not reliability.are_text_sources(sources):
        raise UserError(f"{path} has text_sources={sources!r:.200}, which can't be. {AGAIN}")
    flat, _ = storage.read_params(os.path.join(folder, PARAMS), AGAIN)
    params = traverse_util.unflatten_dict(flat, sep="/")
    if digests:
        _check_digests(folder, {PARAMS: storage.params_digest(params)}, digests)
    alphabet, symbols = Alphabet.from_json(stored.get("alphabet")), stored["sizes"]["symbols"]
    return _loaded(folder, config, params, stored["label_names"], sources, stored["card"],
                   alphabet, symbols)  # fmt: skip


def _check_files(folder):
    """Raises UserError for a pipe or a device among the files of a local folder: it may not end."""
    for here, _, names in os.walk(folder):
        for name in names:
            files.check_regular(os.path.join(here, name))


def _check_digests(folder, found, expected):
    changed = [name for name, digest in found.items() if expected.get(name) != digest]
    if changed:
        raise UserError(
            f"{os.path.join(folder, changed[0])} is not as it was exported: it is damaged, or was "
            f"edited. {AGAIN} If it was edited on purpose, remove `digests` from {CONFIG}."
        )


def _stored(path):
    """The content of a model folder's config.json, of a version that can be read."""
    stored = plain.read(path, AGAIN)
    version = stored.get("format_version") if isinstance(stored, dict) else None
    if not plain.is_kind(version, int):
        raise UserError(
            f"{path} has no format_version: this is another program's model. Expected a folder "
            "that `python -m mmer_jax.export` wrote."
        )
    if version > FORMAT:
        raise UserError(
            f"{path} is of format {version}, written by mmer_jax {stored.get('mmer_jax')}; this "
            f"version ({metadata.version('mmer_jax')}) reads formats up to {FORMAT}. Update it."
        )
    given = {"alphabet": "", "digests": {}} | stored  # which older versions lack
    wrong = plain.faults(given, _STORED)
    if not wrong:
        names, card = stored["label_names"], stored["card"]
        wrong += ["label_names"] if len(set(names)) < max(2, len(names)) else []
        wrong += [] if 0 < stored["sizes"].get("symbols", 0) < 10**6 else ["sizes"]
        is_known = (card.get("heldout") or "dialog") in HELDOUT
        wrong += ["card"] if plain.faults(card, _CARD) or not is_known else []
    if wrong:
        found = "; ".join(f"{key}={stored.get(key)!r}" for key in wrong)
        raise UserError(f"{path} has {found:.200}, which can't be. {AGAIN}")
    return stored
