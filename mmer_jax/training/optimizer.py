"""AdamW with clipping and a schedule, and which parameters it may touch."""

import re

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from mmer_jax.errors import UserError

# Whisper's sinusoids are constants that its checkpoints store as weights.
ALWAYS_FROZEN = (r"audio_encoder/embed_positions/.*",)
_DECAYED = ("kernel", "embedding", "weight_v")


def make_optimizer(options) -> optax.GradientTransformation:
    """AdamW's direction without its learning rate, which the train step multiplies in.

    Apart, because the rate depends on a run's number of steps: as a traced value one compiled step
    serves every fold.

    Args:
      options: `config.optimizer`.
    """
    steps = [optax.clip_by_global_norm(options.clip_norm)] if options.clip_norm else []
    steps.append(optax.scale_by_adam(options.b1, options.b2, options.eps))
    mask = None if options.decay == "all" else _matrices
    steps.append(optax.add_decayed_weights(options.weight_decay, mask=mask))
    return optax.chain(*steps)


def _matrices(params):
    return traverse_util.path_aware_map(lambda path, _: path[-1] in _DECAYED, params)


def learning_rate(options, step: jax.Array, total: jax.Array) -> jax.Array:
    """The rate of `step` (0, 1, ...) of `total`: linear warm-up, then as scheduled to zero."""
    done = step / total
    warm = jnp.minimum(1.0, (step + 1) / jnp.maximum(options.warmup * total, 1.0))
    left = jnp.clip((1.0 - done) / max(1.0 - options.warmup, 1e-9), 0.0, 1.0)
    fall = {
        "constant": jnp.ones_like(left),
        "linear": left,
        "cosine": 0.5 - 0.5 * jnp.cos(jnp.pi * left),
    }[options.schedule]
    return options.learning_rate * warm * fall


def split_frozen(params: dict, patterns) -> tuple[dict, dict]:
    """Parameters -> (trained, frozen), both nested dicts.

    Args:
      params: nested dict of all parameters.
      patterns: regexes that a frozen parameter's whole path (`a/b/kernel`) matches.

    Raises:
      UserError: a pattern that matches no parameter, or nothing left to train.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    for pattern in patterns:
        if not any(re.fullmatch(pattern, path) for path in flat):
            parts = sorted({"/".join(path.split("/")[:2]) for path in flat})
            raise UserError(
                f"config.optimizer.frozen has {pattern!r}, which matches no parameter. Parameters "
                f"begin with: {', '.join(parts)}."
            )
    frozen = {
        path: value
        for path, value in flat.items()
        if any(re.fullmatch(pattern, path) for pattern in (*patterns, *ALWAYS_FROZEN))
    }
    trained = {path: value for path, value in flat.items() if path not in frozen}
    if not trained:
        raise UserError(
            "config.optimizer.frozen matches every parameter: nothing is left to train."
        )
    return (
        traverse_util.unflatten_dict(trained, sep="/"),
        traverse_util.unflatten_dict(frozen, sep="/"),
    )


def merge(trained: dict, frozen: dict) -> dict:
    """The inverse of `split_frozen`."""
    flat = traverse_util.flatten_dict(trained) | traverse_util.flatten_dict(frozen)
    return traverse_util.unflatten_dict(flat)
