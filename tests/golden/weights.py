"""The seeded weights behind golden.npz."""

import zlib

import numpy as np


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


def draw_all(keys_file: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Every weight that a table of keys and shapes (`keys.tsv`) lists."""
    with open(keys_file) as f:
        rows = [line.split() for line in f.read().splitlines()[1:]]
    return {key: draw(key, tuple(map(int, shape.split("x"))), seed) for key, shape in rows}
