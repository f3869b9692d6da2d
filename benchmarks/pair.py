"""A Flax MMER and the independent PyTorch one with the same weights, and batches for both."""

import dataclasses

import jax
import numpy as np
import torch
from flax import traverse_util
from transformers import (
    HubertConfig,
    HubertModel,
    RobertaConfig,
    RobertaModel,
    Wav2Vec2Config,
    Wav2Vec2Model,
)

from benchmarks import torch_mmer
from mmer_jax.losses.total import total_loss
from mmer_jax.models.encoders.text import TextEncoder
from mmer_jax.models.encoders.wav2vec2 import Wav2Vec2Encoder
from mmer_jax.models.mmer import MMER

WIDTH, HEADS, FFN, CLASSES, SYMBOLS = 32, 4, 48, 4, 32
MARGIN = 1e-4  # a hundred times the rounding of a float32 state
FROZEN = ("audio_encoder/feature_extractor/.*", "text_encoder/.*")
SIZE = {
    "hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": HEADS,
    "intermediate_size": FFN,
}  # fmt: skip
AUDIO = SIZE | {
    "conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
    "hidden_dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0, "layerdrop": 0.0, "apply_spec_augment": False,
}  # fmt: skip
LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True}
TEXT = SIZE | {
    "vocab_size": 50, "max_position_embeddings": 24, "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}  # fmt: skip
# Case -> HF's config and module, and the recordings' lengths in samples.
INDEPENDENT = {
    "wav2vec2-base, equal lengths": (Wav2Vec2Config(**AUDIO), Wav2Vec2Model, [4_000] * 4),
    "hubert-large, padded": (
        HubertConfig(**AUDIO, **LARGE), HubertModel, [4_000, 3_100, 2_800, 3_700],
    ),
}  # fmt: skip


def relative(ours, theirs) -> float:
    """Largest difference over largest magnitude."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes {ours.shape} and {theirs.shape} differ")
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def value_and_grad(model, losses):
    """(params, batch) -> ((total, outputs and losses by name), gradients), compiled."""

    def loss_fn(params, batch):
        _, out = model.apply({"params": params}, batch)
        total, parts = total_loss(out, batch, losses)
        return total, out | parts | {"total": total}

    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))


@dataclasses.dataclass
class Pair:
    """Both models, one with the weights of the other.

    Attributes:
      flax_model, params: ours; no parameter is 0 or 1.
      torch_model: in evaluation mode.
      names: PyTorch's name -> our paths, see `torch_mmer.load_flax`.
    """

    flax_model: MMER
    params: dict
    torch_model: torch_mmer.TorchMMER
    names: dict

    def load(self, params: dict) -> None:
        """Copies parameters of ours into the PyTorch model."""
        torch_mmer.load_flax(self.torch_model, traverse_util.flatten_dict(params, sep="/"))

    def worst_gradient(self, grads: dict) -> float:
        """Largest relative difference of a gradient, entry by entry, over all parameters.

        Infinite where a parameter has a gradient on one side alone.

        Args:
          grads: ours, for all parameters or for those that are trained. PyTorch's are in its model.
        """
        flat = traverse_util.flatten_dict(grads, sep="/")
        rounding = 1e-6 * max(np.abs(g).max() for g in flat.values())
        worst = 0.0
        for name, p in self.torch_model.named_parameters():
            if not set(self.names.get(name, [None])) <= flat.keys():
                continue
            ours = torch_mmer.torch_layout(flat, self.names[name])
            theirs = np.zeros_like(ours) if p.grad is None else p.grad.numpy()
            sizes = np.abs(ours).max(), np.abs(theirs).max()
            # A key's bias moves no softmax: rounding is all there is to compare.
            if max(sizes) > rounding:
                worst = max(worst, relative(ours, theirs) if min(sizes) else np.inf)
        return worst


def make(config, kind, seed: int = 0, padding_leaks: bool = False) -> Pair:
    """Both models with weights drawn from a seed.

    Args:
      config, kind: Hugging Face's, of the audio encoder; see `INDEPENDENT`.
      padding_leaks: into the audio encoder, as in the authors' code.
    """
    text = RobertaConfig(**TEXT)
    sizes = (CLASSES, SYMBOLS, WIDTH, HEADS, FFN, 0.0)
    audio = Wav2Vec2Encoder(config, original_padding=padding_leaks)
    flax_model = MMER(audio, TextEncoder(text), *sizes)
    torch_model = torch_mmer.TorchMMER(kind(config), RobertaModel(text), *sizes, padding_leaks)
    params = drawn_params(flax_model, _batch([4_000] * 4, np.random.default_rng(0)), seed)
    names = torch_mmer.load_flax(torch_model, traverse_util.flatten_dict(params, sep="/"))
    return Pair(flax_model, params, torch_model.eval(), names)


def drawn_params(model, example, seed: int) -> dict:
    """Parameters of a model, no bias 0 and no scale 1: a fresh model's would hide differences."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), example)["params"]
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        x = rng.standard_normal(leaf.shape).astype(np.float32)
        if path[-1].key in ("scale", "weight_g"):
            return 1 + 0.1 * x
        return 0.1 * x if x.ndim == 1 else x / np.float32(np.sqrt(x.size / x.shape[-1]))

    return jax.tree_util.tree_map_with_path(draw, shapes)


def draw_batch(pair: Pair, lengths, seed: int) -> dict:
    """A batch in which every maximum of the pooling is the larger by `MARGIN` or more.

    Closer ones tie within rounding, and the frameworks may send the gradient to different ones.

    Args:
      lengths: samples of each recording.
    """
    rng = np.random.default_rng(seed)
    while True:
        batch = _batch(lengths, rng)
        if margin(pair.torch_model, batch) >= MARGIN:
            return batch


def margin(model, batch: dict) -> float:
    """Of all maxima that the pooling of a batch takes, the least lead over the next value.

    Relative to the largest one, see `torch_mmer.TorchMMER`.
    """
    model.margin = np.inf
    with torch.no_grad():
        model(tensors(batch))
    return model.margin


def _batch(lengths, rng):
    rows = len(lengths)

    def audio(lengths):
        wave = rng.standard_normal((rows, 4_000)).astype(np.float32)
        return np.where(np.arange(4_000)[None] < np.array(lengths)[:, None], wave, 0)

    def text():
        mask = (np.arange(8)[None] < rng.integers(3, 9, rows)[:, None]).astype(np.int32)
        return np.where(mask, rng.integers(3, 50, (rows, 8)), 1).astype(np.int32), mask

    (ids, mask), (aug_ids, aug_mask), yes = text(), text(), np.ones(rows, bool)
    length = np.array(lengths, np.int32)
    return {
        "audio": audio(lengths), "audio_length": length, "text_ids": ids, "text_mask": mask,
        "aug_audio": audio(lengths[::-1]), "aug_audio_length": length[::-1].copy(),
        "aug_text_ids": aug_ids, "aug_text_mask": aug_mask,
        "label": np.array([0, 2, 0, 2][:rows], np.int32),
        "transcript": rng.integers(5, SYMBOLS, (rows, 3)).astype(np.int32),
        "transcript_length": np.array([3, 2, 3, 1][:rows], np.int32),
        "valid": yes, "ctc_valid": yes, "aug_valid": yes,
    }  # fmt: skip


def tensors(batch: dict) -> dict:
    """A batch as PyTorch's tensors."""
    return {
        k: torch.from_numpy(v.astype(np.int64) if v.dtype == np.int32 else v)
        for k, v in batch.items()
    }


def torch_losses(model, batch: dict, losses=torch_mmer.losses) -> tuple[dict, dict]:
    """What the PyTorch model returns, and its losses by name."""
    given = tensors(batch)
    out = model(given)
    return out, losses(out, given)


def torch_optimizer(model, options):
    """PyTorch's AdamW with `config.optimizer`'s numbers; freezes what `FROZEN` does."""
    for name, p in model.named_parameters():
        p.requires_grad_(not name.startswith(("audio_encoder.feature_extractor", "text_encoder")))
    return torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=options.learning_rate,
        betas=(options.b1, options.b2), eps=options.eps, weight_decay=options.weight_decay,
    )  # fmt: skip
