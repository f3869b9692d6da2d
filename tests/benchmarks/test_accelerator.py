"""The GPU benchmark: what it counts, what it refuses, and, in small, that both sides run."""

import json

import jax
import jax.numpy as jnp
import pytest

from benchmarks import accelerator, common


def test_products_are_counted_wherever_they_are():
    """Within loops as often as they run; a convolution's by its output, taps and channels."""

    @jax.jit
    def step(x, kernel):
        x = jax.lax.scan(lambda x, _: (x @ x, None), x, length=3)[0]
        y = jax.lax.conv_general_dilated(
            x[None], kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")
        )
        return jnp.sum(y)

    found = common.product_flops(step, jnp.ones((8, 8)), jnp.ones((3, 8, 5)))
    assert found == 3 * 2 * 8**3 + 2 * (6 * 5) * (3 * 8)


def test_a_form_that_there_is_not_is_refused():
    with pytest.raises(SystemExit, match="fast"):
        accelerator.main(["--tiny", "--cases", "base-1-4-fast"])


def test_a_side_that_failed_is_a_row():
    done = {
        "s_per_step": 0.01, "rounds_s": [0.01, 0.01], "utterances_per_s": 400.0, "peak_gib": None,
        "compiling_s": 3.0, "hours": 1.5, "flop": 5 * 10**9,
    }  # fmt: skip
    text = accelerator.table({"x": {"JAX": done, "PyTorch": {"failed": "why"}}}, 1e12, "H100")
    assert "| x | JAX | 10 | 10, 10 | 400 | 50% | 0% |" in text
    assert "| x | PyTorch | failed |" in text


@pytest.mark.slow
def test_both_sides_train(tmp_path, capsys):
    """`plain` on JAX's side alone; the loss that both have is a number."""
    small = ["--tiny", "--steps=1", "--rounds=2", "--utterances=8", "--buckets=2"]
    cases = "base-1-4-eager,base-mix-4-eager,base-1-4-loop-plain"
    accelerator.main([*small, f"--cases={cases}", f"--out={tmp_path}"])
    found = json.loads((tmp_path / "accelerator.json").read_text())["cases"]
    sides = {case: sorted(x) for case, x in found.items()}
    both = ["JAX", "PyTorch"]
    assert sides == dict(zip(cases.split(","), [both, both, ["JAX"]]))
    for x in (side for case in found.values() for side in case.values()):
        assert len(x["rounds_s"]) == 2 and x["utterances_per_s"] > 0
    assert found["base-1-4-eager"]["JAX"]["flop"] == found["base-1-4-loop-plain"]["JAX"]["flop"]
    assert "hours of 5 x 100 epochs" in capsys.readouterr().out
