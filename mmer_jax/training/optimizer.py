"""AdamW with clipping, a schedule and groups of learning rates; which parameters it may touch."""

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
    if options.groups:
        steps.append(optax.stateless(lambda updates, _: _scaled(updates, options.groups)))
    return optax.chain(*steps)


def _scaled(updates, groups):
    """Updates, weight decay included, times the factor of the first group that matches."""

    def scale(path, update):
        name = "/".join(path)
        factors = (factor for pattern, factor in groups if re.fullmatch(pattern, name))
        return update * next(factors, 1.0)

    return traverse_util.path_aware_map(scale, updates)


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


def split_frozen(params: dict, patterns, groups=()) -> tuple[dict, dict]:
    """Parameters -> (trained, frozen), both nested dicts.

    Args:
      params: nested dict of all parameters.
      patterns: regexes that a frozen parameter's whole path (`a/b/kernel`) matches.
      groups: `config.optimizer.groups`, whose patterns are checked as well.

    Raises:
      UserError: a pattern that matches no parameter, or nothing left to train.
    """
    flat = traverse_util.flatten_dict(params, sep="/")
    _check_patterns("frozen", patterns, flat)
    _check_patterns("groups", [pattern for pattern, _ in groups], flat)
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


def _check_patterns(option, patterns, paths):
    for pattern in patterns:
        if not any(re.fullmatch(pattern, path) for path in paths):
            parts = sorted({"/".join(path.split("/")[:2]) for path in paths})
            raise UserError(
                f"config.optimizer.{option} has {pattern!r}, which matches no parameter. "
                f"Parameters begin with: {', '.join(parts)}."
            )


def merge(trained: dict, frozen: dict) -> dict:
    """The inverse of `split_frozen`."""
    flat = traverse_util.flatten_dict(trained) | traverse_util.flatten_dict(frozen)
    return traverse_util.unflatten_dict(flat)
