"""Schedule, weight decay, and what is frozen."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mmer_jax import configuration
from mmer_jax.errors import UserError
from mmer_jax.training import optimizer

PARAMS = {
    "audio_encoder": {
        "feature_extractor": {"kernel": np.ones((2, 2))},
        "encoder": {"kernel": np.ones((2, 3)), "bias": np.ones(3)},
        "embed_positions": {"embedding": np.ones((4, 2))},
    },
    "emotion": {"kernel": np.ones((2, 4))},
}


def options(**changes):
    o = configuration.default().optimizer
    o.update(changes)
    return o


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedule_equals_optax(schedule):
    o = options(schedule=schedule, warmup=0.2, learning_rate=1e-3)
    total, warm = 100, 20
    after = {
        "constant": optax.constant_schedule(1e-3),
        "linear": optax.linear_schedule(1e-3, 0.0, total - warm),
        "cosine": optax.cosine_decay_schedule(1e-3, total - warm),
    }[schedule]
    for step in (warm, 37, 80, total):
        rate = optimizer.learning_rate(o, jnp.asarray(step), jnp.asarray(total))
        np.testing.assert_allclose(rate, after(step - warm), rtol=1e-4, atol=1e-9)
    first = optimizer.learning_rate(o, jnp.asarray(0), jnp.asarray(total))
    assert 0 < first < 1e-3


def test_one_step_equals_optax_adamw():
    o = options(clip_norm=0.0, decay="all", weight_decay=0.1)
    params = {"a": {"kernel": jnp.arange(4.0).reshape(2, 2)}, "b": {"bias": jnp.ones(2)}}
    grads = jax.tree.map(lambda p: jnp.sin(p) + 0.1, params)
    ours = optimizer.make_optimizer(o)
    direction, _ = ours.update(grads, ours.init(params), params)
    theirs = optax.adamw(0.01, o.b1, o.b2, o.eps, weight_decay=0.1)
    update, _ = theirs.update(grads, theirs.init(params), params)
    jax.tree.map(
        lambda d, u: np.testing.assert_allclose(-0.01 * d, u, rtol=1e-5), direction, update
    )


def test_only_matrices_decay_by_default():
    ours = optimizer.make_optimizer(options(weight_decay=0.5))
    params = {"a": {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "scale": jnp.ones(2)}}
    zero = jax.tree.map(jnp.zeros_like, params)
    direction, _ = ours.update(zero, ours.init(params), params)
    moved = jax.tree.map(lambda d: bool(np.any(d)), direction)["a"]
    assert moved == {"kernel": True, "bias": False, "scale": False}


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_a_group_moves_by_its_factor_of_the_rate(decay):
    groups = (("(audio|text)_encoder/.*", 0.1), ("audio_encoder/late", 7.0), (".*/bias", 0.0))
    leaves = {"kernel": jnp.arange(4.0).reshape(2, 2), "bias": jnp.ones(2)}
    params = {"audio_encoder": {"late": leaves}, "emotion": leaves}
    grads = jax.tree.map(lambda p: jnp.sin(p) + 0.1, params)

    def update(groups):
        o = optimizer.make_optimizer(options(weight_decay=decay, clip_norm=0.0, groups=groups))
        return o.update(grads, o.init(params), params)[0]

    plain, grouped = update(())["emotion"], update(groups)
    for name in leaves:  # the first that matches counts
        np.testing.assert_allclose(
            grouped["audio_encoder"]["late"][name], 0.1 * plain[name], rtol=1e-6
        )
    np.testing.assert_array_equal(grouped["emotion"]["kernel"], plain["kernel"])
    assert not np.any(grouped["emotion"]["bias"])


def test_without_groups_the_optimisers_state_is_as_before():
    params = {"a": {"kernel": jnp.ones((2, 2))}}
    states = optimizer.make_optimizer(options()).init(params)
    assert [type(s).__name__ for s in states] == [
        "EmptyState", "ScaleByAdamState", "MaskedState",
    ]  # fmt: skip


def test_split_and_merge():
    trained, frozen = optimizer.split_frozen(PARAMS, ("audio_encoder/feature_extractor/.*",))
    assert set(frozen["audio_encoder"]) == {"feature_extractor", "embed_positions"}
    assert set(trained["audio_encoder"]) == {"encoder"}
    merged = optimizer.merge(trained, frozen)
    assert jax.tree.structure(merged) == jax.tree.structure(PARAMS)


def test_a_pattern_that_matches_nothing_is_an_error():
    with pytest.raises(UserError, match="'text_encoder/.*', which matches no parameter"):
        optimizer.split_frozen(PARAMS, ("text_encoder/.*",))


def test_a_group_that_matches_nothing_is_an_error():
    with pytest.raises(UserError, match="groups has 'encoder/.*', which matches no parameter"):
        optimizer.split_frozen(PARAMS, (), (("encoder/.*", 0.1),))


def test_nothing_left_to_train_is_an_error():
    with pytest.raises(UserError, match="nothing is left"):
        optimizer.split_frozen(PARAMS, (".*",))
