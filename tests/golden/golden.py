"""The published model's numbers (golden.npz) and the seeded weights behind them."""

import pathlib
import zlib

import numpy as np

from mmer_jax import configuration

HERE = pathlib.Path(__file__).parent
OUTPUTS = (
    "audio_hidden", "ctc_logits", "text_self", "text_to_audio", "audio_to_text", "text_to_text",
    "gate_logits", "pooled_multimodal", "fused", "aug_fused", "logits",
)  # fmt: skip
LOSSES = {
    "ce": "loss_ce", "ctc": "loss_ctc_sum", "scl": "loss_scl", "acl": "loss_acl",
    "total": "loss_total",
}  # fmt: skip


def loss_options():
    """`config.losses` of the authors' code."""
    config = configuration.default()
    configuration.original_losses(config)
    return config.losses


def draw(key: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """The weight of a state-dict key: float32, a pure function of (key, shape, seed)."""
    rng = np.random.RandomState((zlib.crc32(key.encode()) + seed) % 2**32)
    normal = rng.standard_normal(tuple(shape)).astype(np.float32)
    leaf, lower = key.rsplit(".", 1)[-1], key.lower()
    is_norm = "layer_norm" in lower or "layernorm" in lower
    if leaf == "weight_g" or (is_norm and leaf == "weight"):
        return (1.0 + 0.1 * normal).astype(np.float32)
    if is_norm:
        return (0.1 * normal).astype(np.float32)
    if leaf == "bias" or normal.ndim == 1:
        return (0.05 * normal).astype(np.float32)
    return (normal / np.sqrt(int(np.prod(shape[1:])))).astype(np.float32)


def weights() -> dict[str, np.ndarray]:
    """The released state dict that golden.npz was computed with."""
    rows = [line.split() for line in (HERE / "keys.tsv").read_text().splitlines()[1:]]
    return {key: draw(key, tuple(map(int, shape.split("x")))) for key, shape in rows}


def case(name: str) -> dict[str, np.ndarray]:
    """The numbers of `equal` or `padded`."""
    with np.load(HERE / "golden.npz") as f:
        return {key.split("/")[1]: f[key] for key in f.files if key.startswith(f"{name}/")}


def batch(golden: dict) -> dict:
    """A case's inputs as a batch of ours."""
    symbols = golden["in_ctc"]
    yes = np.ones(len(symbols), bool)
    # Our two views share one length; the tokens added to the second one are masked.
    more = golden["in_text"].shape[1] - golden["in_aug_text"].shape[1]
    return {
        "audio": golden["in_audio"],
        "audio_length": golden["in_audio_length"].astype(np.int32),
        "text_ids": golden["in_text"],  # features: the released model has no text encoder
        "text_mask": golden["in_text_mask"].astype(np.int32),
        "aug_audio": golden["in_aug_audio"],
        "aug_audio_length": golden["in_aug_audio_length"].astype(np.int32),
        "aug_text_ids": np.pad(golden["in_aug_text"], ((0, 0), (0, more), (0, 0))),
        "aug_text_mask": np.pad(golden["in_aug_text_mask"], ((0, 0), (0, more))).astype(np.int32),
        "label": golden["in_labels"].astype(np.int32),
        "transcript": np.maximum(symbols, 0).astype(np.int32),
        "transcript_length": (symbols >= 0).sum(1).astype(np.int32),
        "valid": yes, "ctc_valid": yes, "aug_valid": yes,
    }  # fmt: skip


def has_no_gradient(key: str) -> bool:
    """Softmax doesn't see what these add: the same number to all scores of a row."""
    return key.endswith(("key.bias", "k_proj.bias")) or key == "augment_linear_change.2.bias"
