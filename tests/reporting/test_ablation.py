"""Variants differ from the full model in what their names say."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from mmer_jax import configuration
from mmer_jax.errors import UserError
from mmer_jax.models import factory
from mmer_jax.reporting import ablation
from mmer_jax.training import sharding


def config():
    c = configuration.default()
    c.text.tokenizer, c.audio.family, c.text.family = "somewhere", "whisper", "bert"
    for size in (c.audio.size, c.text.size):
        size.width, size.layers, size.heads, size.ffn = 16, 1, 2, 16
    c.model.width, c.model.heads, c.model.ffn = 16, 2, 16
    c.optimizer.frozen = ("text_encoder/.*",)
    return c


def test_each_variant_is_another_config_and_the_base_is_untouched():
    base = config()
    before = configuration.fingerprint(base)
    made, same = ablation.make(base)
    assert [v.name for v in made] == list(ablation.CHANGES) and not same
    assert made[0].fingerprint == before == configuration.fingerprint(base)
    assert len({v.fingerprint for v in made}) == len(made)
    changed = {v.name: configuration.differences(*map(configuration.to_json, (base, v.config)))
               for v in made}  # fmt: skip
    assert {k for k, _, _ in changed["no_auxiliary"]} == {
        f"losses.{x}.weight" for x in ("ctc", "scl", "acl")
    }
    assert [k for k, _, _ in changed["late_fusion"]] == ["model.fusion"]
    assert [k for k, _, _ in changed["no_gate"]] == ["model.gate"]
    assert all(len(d) == 1 for n, d in changed.items() if n.startswith("no_") and "aux" not in n)


def test_a_variant_that_changes_nothing_is_left_out():
    base = config()
    base.optimizer.frozen = ()
    made, same = ablation.make(base, ("tuned_encoders", "no_ctc"))
    assert [v.name for v in made] == ["full", "no_ctc"] and same == {"tuned_encoders": "full"}


def test_an_old_name_of_a_variant_is_taken_with_a_notice(capsys):
    (_, variant), _ = ablation.make(config(), ("released_losses",))
    assert variant.name == "original_losses"
    assert "released_losses is original_losses now" in capsys.readouterr().err


def test_a_variant_that_cannot_be_run_is_named():
    base = config()
    base.losses.memory.size = 8
    with pytest.raises(UserError, match="original_losses can't be run.*--variants=no_ctc"):
        ablation.make(base)


def test_every_parameter_of_every_variant_has_a_sharding_rule():
    for v in ablation.make(config())[0]:
        shapes = factory.param_shapes(factory.build_model(v.config, 4, 32, 30))
        paths = traverse_util.flatten_dict(shapes, sep="/")
        for path in paths:
            sharding.spec(path)  # there is a rule


@pytest.fixture(scope="module")
def outputs():
    """Name -> every intermediate of that variant on one batch, and its parameters' names."""
    rng = np.random.default_rng(0)
    batch = {
        "audio": rng.standard_normal((2, 8000)).astype(np.float32),
        "audio_length": np.array([8000, 5000], np.int32),
        "text_ids": rng.integers(3, 30, (2, 5)).astype(np.int32),
        "text_mask": np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], np.int32),
    }
    found = {}
    for v in ablation.make(config(), ("late_fusion", "no_gate"))[0]:
        model = factory.build_model(v.config, 4, 32, 30)
        params = factory.init_params(model, v.config, 0)
        _, out = jax.jit(model.apply)({"params": params}, batch)
        found[v.name] = (jax.device_get(out), set(params["fusion"]))
    return found


def test_without_the_gate_all_of_the_speech_passes(outputs):
    gated, _ = outputs["full"]
    out, params = outputs["no_gate"]
    assert "gate" in gated and "gate" not in out and "gate" not in params
    assert out["fused"].shape == gated["fused"].shape


def test_late_fusion_pools_each_modality_by_itself(outputs):
    out, params = outputs["late_fusion"]
    assert params == {"text"}
    kept = out["text_self"][1, :2].max(0)  # the padded tokens don't count
    np.testing.assert_allclose(out["fused"][1, 16:], kept, rtol=1e-6)
    np.testing.assert_array_equal(out["fused"][:, :16], out["pooled_audio"])
    assert not any("attention" in k and "self" not in k for k in out)
