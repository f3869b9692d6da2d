"""There and back: Hugging Face's Flax Marian models, and how alike two sentences are in meaning."""

import importlib.util
import os
import warnings

import jax
import jax.numpy as jnp
import numpy as np

from mmer_jax.augmentation.recognizer import quiet
from mmer_jax.data import bucketing, text
from mmer_jax.errors import UserError
from mmer_jax.models.encoders import ENCODERS, pretrained, weight_files

FORWARD, BACKWARD = "Helsinki-NLP/opus-mt-en-fr", "Helsinki-NLP/opus-mt-fr-en"
_TOKENS, _TOP = 16, 20  # texts are padded to multiples; a token is drawn among so many
# Copies of the one embedding, and positions that are computed.
_TIED = ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight", "lm_head.weight")
_SHARED, _POSITIONS = "model.shared.weight", "embed_positions.weight"


class Marian:
    """Texts translated into another language and back, `count` draws of each.

    Args:
      forward, backward: Marian models: hub names, or folders in Hugging Face's format.
      count: candidates of each text.
      temperature: of both draws; a lower one keeps closer to what the model thinks best.
      batch: texts at once.

    Raises:
      UserError: no such model, another kind of model, or no sentencepiece.
    """

    def __init__(self, forward: str = FORWARD, backward: str = BACKWARD, count: int = 8,
                 temperature: float = 0.8, batch: int = 16):  # fmt: skip
        if importlib.util.find_spec("sentencepiece") is None:
            raise UserError(
                "Marian's tokenizers need sentencepiece, which is not installed: "
                'pip install "mmer_jax[augment]"'
            )
        self.batch, self._count = batch, count
        self._there, self._back = (
            _Translator(source, temperature, batch * count) for source in (forward, backward)
        )
        self.settings = {
            "way": "marian", "count": count, "temperature": temperature, "top": _TOP,
            "forward": self._there.settings, "backward": self._back.settings,
        }  # fmt: skip

    def candidates(self, utterances, sources: list[str], seed: int) -> list[list[str]]:
        """`count` texts of each; the same seed and texts give the same."""
        there, back = jax.random.split(jax.random.key(seed))
        repeated = [s for s in sources for _ in range(self._count)]
        found = self._back(self._there(repeated, there), back)
        return [found[i : i + self._count] for i in range(0, len(found), self._count)]


class _Translator:
    """One model: texts in, a draw of a translation for each out."""

    def __init__(self, source, temperature, rows):
        from transformers import FlaxMarianMTModel, GenerationConfig

        config = pretrained.load_config(source)
        if config.model_type != "marian":
            raise UserError(
                f"{source} is a {config.model_type} model; a translator is a Marian model, such as "
                f"{FORWARD}."
            )
        with warnings.catch_warnings():  # that sacremoses is missing, which hardly changes a text
            warnings.simplefilter("ignore")
            self._tokenizer = text.load_tokenizer(source)
        with quiet():
            self.network = FlaxMarianMTModel(config, _do_init=False)
        shapes = jax.eval_shape(lambda: self.network.init_weights(jax.random.key(0), (1, 4)))
        self.params = jax.device_put(_load(source, shapes))
        self._rows, self._longest = rows, config.max_position_embeddings

        def generate(params, ids, mask, key):
            options = GenerationConfig(
                max_length=min(2 * ids.shape[1] + _TOKENS, self._longest), do_sample=True,
                temperature=temperature, top_k=_TOP, eos_token_id=config.eos_token_id,
                pad_token_id=config.pad_token_id, suppress_tokens=[config.pad_token_id],
                decoder_start_token_id=config.decoder_start_token_id,
            )  # fmt: skip
            return self.network.generate(
                ids, attention_mask=mask, generation_config=options, params=params, prng_key=key
            ).sequences

        self._generate = jax.jit(generate)
        self.settings = _origin(source)

    def __call__(self, texts, key):
        inputs = self._tokenizer(
            [t or " " for t in texts], truncation=True, max_length=self._longest - _TOKENS
        )["input_ids"]
        width = bucketing.rounded(max(map(len, inputs)), _TOKENS)
        ids, mask = np.zeros((2, self._rows, width), np.int32)
        ids += self.network.config.pad_token_id
        for i in range(self._rows):  # of the last batch, rows that are not used repeat its last
            tokens = inputs[min(i, len(inputs) - 1)]
            ids[i, : len(tokens)], mask[i, : len(tokens)] = tokens, 1
        found = np.asarray(self._generate(self.params, ids, mask, key))[: len(texts)]
        return self._tokenizer.batch_decode(found, skip_special_tokens=True)


def _origin(source):
    """Which model, without the place on this machine."""
    folder = os.path.expanduser(source)
    name = os.path.basename(os.path.abspath(folder)) if os.path.isdir(folder) else source
    return {"model": name, "sha256": weight_files.provenance(source)["sha256"]}


def _load(source, shapes):
    """The parameters of a Marian model, refused where they would compute something else."""
    path = weight_files.find(source)
    state = weight_files.read(path)
    shared = next((state[n] for n in (_SHARED, *_TIED) if n in state), None)
    other = [n for n in _TIED if n in state and not np.array_equal(state[n], shared)]
    if other:
        raise UserError(
            f"{path} has other embeddings in {', '.join(other)} than in {_SHARED}, which Hugging "
            "Face's Flax model can't compute. Take a model with one vocabulary."
        )
    state = {n: x for n, x in state.items() if n not in _TIED and not n.endswith(_POSITIONS)}
    if shared is not None:
        state[_SHARED] = shared
    return pretrained.from_state(state, shapes, path)


class Meaning:
    """Cosine similarity of sentences by a text encoder's mean state (Reimers and Gurevych 2019).

    Args:
      source: hub name or folder of a text encoder, best one that was trained for sentences, such as
        sentence-transformers/all-MiniLM-L6-v2.

    Raises:
      UserError: no such model, or no text encoder.
    """

    def __init__(self, source: str, batch: int = 64):
        config = pretrained.load_config(source)
        encoder = ENCODERS.get(config.model_type)
        if encoder is None or encoder.modality != "text":
            raise UserError(
                f"{source} is a {config.model_type} model; sentences are compared by a text "
                "encoder, such as sentence-transformers/all-MiniLM-L6-v2."
            )
        module = encoder.cls(config)
        self._tokenizer = text.Tokenizer(source, min(256, module.longest(config)))
        one = np.ones((1, 4), np.int32)
        shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), one, one)["params"])
        self._params, self._batch = pretrained.load_params(source, shapes), batch

        def embed(params, ids, mask):
            states = module.apply({"params": params}, ids, mask)
            mean = (states * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
            return mean / jnp.linalg.norm(mean, axis=-1, keepdims=True)

        self._embed = jax.jit(embed)
        self.settings = _origin(source)

    def __call__(self, sources: list[str], candidates: list[str]) -> np.ndarray:
        """Cosine of each pair, float [n]."""
        texts = list(dict.fromkeys([*sources, *candidates]))
        order = sorted(texts, key=len)
        vectors = {}
        for at in range(0, len(order), self._batch):
            batch = order[at : at + self._batch]
            ids = [self._tokenizer.ids(t) for t in batch]
            width = bucketing.rounded(max(map(len, ids)), _TOKENS)
            padded, mask = np.zeros((2, self._batch, width), np.int32)
            mask[:, 0] = 1
            for i, tokens in enumerate(ids):
                padded[i, : len(tokens)], mask[i, : len(tokens)] = tokens, 1
            vectors |= zip(batch, np.asarray(self._embed(self._params, padded, mask)))
        return np.array([float(vectors[a] @ vectors[b]) for a, b in zip(sources, candidates)])
