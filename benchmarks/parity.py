"""How far the Flax model is from PyTorch: `python -m benchmarks.parity`.

Two references. The published model's numbers (tests/golden), with its weights through the
converter; and benchmarks/torch_mmer.py, an independent PyTorch MMER, on random small encoders: in
our default setting, one with group norm and recordings of one length (Hugging Face's group norm
sees padding) and one with layer norm and padded recordings, each with several seeds; and in the
authors' setting, with their losses, padding and accumulation. Dropout is off.
"""

import importlib.util
import pathlib

import jax
import numpy as np
import optax
from flax import traverse_util

from benchmarks import pair, torch_mmer
from benchmarks.pair import FROZEN, INDEPENDENT, drawn_params, relative  # noqa: F401
from mmer_jax import configuration
from mmer_jax.convert import mapping
from mmer_jax.training import sharding, state, step
from mmer_jax.training.optimizer import learning_rate, make_optimizer, merge, split_frozen

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden" / "golden.py"
SEEDS = (0, 1, 2)


def golden_rows():
    """(case, quantity, relative difference) against the published model's numbers."""
    spec = importlib.util.spec_from_file_location("golden_numbers", GOLDEN)
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    converted = mapping.convert(golden.weights())
    compute = pair.value_and_grad(converted.model, golden.loss_options())
    for case in ("equal", "padded"):
        expected = golden.case(case)
        (_, values), grads = compute(converted.params, golden.batch(expected))
        for name in golden.OUTPUTS:
            yield f"published, {case}", name, relative(values[name], expected[name])
        for name, theirs in golden.LOSSES.items():
            yield f"published, {case}", f"loss {name}", relative(values[name], expected[theirs])
        flat = traverse_util.flatten_dict(grads, sep="/")
        norms = dict(zip(expected["grad_names"].tolist(), expected["grad_norms"]))
        worst = max(
            relative(np.linalg.norm(flat[converted.names[key]]), norm)
            for key, norm in norms.items()
            if not golden.has_no_gradient(key)
        )
        yield f"published, {case}", "gradient norms, worst parameter", worst


def independent_rows(case: str, steps: int, seeds=SEEDS):
    """(case, quantity, relative difference) against the independent PyTorch model.

    The largest over seeds, of which each draws weights and a batch without ties. With 0 `steps`
    nothing is trained.
    """
    config, kind, lengths = INDEPENDENT[case]
    options = _options()
    compute, found = None, {}
    for seed in seeds:
        both = pair.make(config, kind, seed)
        compute = compute or pair.value_and_grad(both.flax_model, options.losses)
        for name, value in _compared(both, compute, pair.draw_batch(both, lengths, seed)):
            found[name] = max(value, found.get(name, 0.0))
    yield from ((case, name, value) for name, value in found.items())
    if not steps:
        return
    batches = [pair.draw_batch(both, lengths, seed) for seed in range(4)]
    curves = _curves(compute, both.params, both.torch_model, options, batches, steps)
    yield case, f"losses of {steps} AdamW steps, worst", max(map(relative, *curves))
    yield case, "  (PyTorch's loss, first and last step)", (curves[1][0], curves[1][-1])


def _compared(both, compute, batch):
    """(quantity, relative difference) of outputs, losses and gradients."""
    (_, ours), grads = compute(both.params, batch)
    out, losses = pair.torch_losses(both.torch_model, batch)
    losses["total"].backward()
    for name in ("logits", "ctc_logits", "projection", "aug_projection"):
        # Padded frames hold nothing: neither model promises a number there.
        rows = np.asarray(ours["audio_mask"]) if name == "ctc_logits" else slice(None)
        yield name, relative(ours[name][rows], out[name].detach().numpy()[rows])
    for name, value in losses.items():
        yield f"loss {name}", relative(ours[name], value.item())
    yield "gradients, worst entry", both.worst_gradient(grads)


def _options():
    options = configuration.default()
    opt = options.optimizer
    opt.learning_rate, opt.schedule, opt.warmup, opt.clip_norm = 3e-4, "constant", 0.0, 0.0
    opt.decay, opt.frozen = "all", FROZEN
    return options


def _curves(compute, params, torch_model, options, batches, steps):
    """Total losses of both models, step by step, each trained by its own framework's AdamW.

    With mmer_jax's optimiser and rate, but on gradients that are compiled already: compiling the
    whole train step as well would double the time.
    """
    optimizer = make_optimizer(options.optimizer)

    @jax.jit
    def update(trained, grads, opt_state, step):
        direction, opt_state = optimizer.update(grads, opt_state, trained)
        rate = learning_rate(options.optimizer, step, steps)
        return jax.tree.map(lambda p, d: p - rate * d, trained, direction), opt_state

    trained, frozen = split_frozen(params, FROZEN)
    opt_state = optimizer.init(trained)
    torch_optimizer = pair.torch_optimizer(torch_model, options.optimizer)
    ours, theirs = [], []
    for i in range(steps):
        batch = batches[i % len(batches)]
        (total, _), grads = compute(merge(trained, frozen), batch)
        trained, opt_state = update(trained, split_frozen(grads, FROZEN)[0], opt_state, i)
        ours.append(float(total))
        torch_optimizer.zero_grad()
        total = pair.torch_losses(torch_model, batch)[1]["total"]
        total.backward()
        torch_optimizer.step()
        theirs.append(total.item())
    return ours, theirs


def accumulation_rows(epochs: int = 7):
    """(case, quantity, relative difference) in the authors' setting, by the training step itself.

    An epoch is 10 batches of 2, so that its third group is incomplete: 3 updates.
    """
    case = "authors' recipe, 4 x 2 accumulated"
    config = configuration.default()
    configuration.original(config)
    config.optimizer.frozen = FROZEN
    every, size, count = config.train.accumulation, config.data.batch_size, 10
    both = pair.make(*INDEPENDENT["wav2vec2-base, equal lengths"][:2], padding_leaks=True)
    batches = [pair.draw_batch(both, [4_000, 3_100][:size], seed) for seed in range(count)]
    train = _Training(both, config, count, epochs * count)
    begun = train.run(batches[:every])
    _accumulate(both.torch_model, batches[:every], every)
    yield case, "gradient of a group of 4, worst entry", both.worst_gradient(train.gradients)
    losses = begun + train.run(batches[every : 2 * every])
    # From the same parameters, so that no update's rounding is in the gradient.
    both.load(train.params)
    both.torch_model.zero_grad()
    rest = batches[2 * every :]
    _accumulate(both.torch_model, rest, every)
    closest = min(pair.margin(both.torch_model, batch) for batch in rest)
    losses += train.run(rest)
    yield (
        case,
        "gradient of the incomplete group of 2, worst entry",
        both.worst_gradient(train.gradients),
    )
    yield case, "  (its closest maxima)", closest
    losses += train.run(batches * (epochs - 1))
    both.load(both.params)
    theirs = _published_loop(both.torch_model, config.optimizer, batches, epochs, every)
    yield case, f"losses of {3 * epochs} updates, worst batch", max(map(relative, losses, theirs))
    yield case, "  (PyTorch's loss, first and last epoch)", (
        np.mean(theirs[:count]), np.mean(theirs[-count:])
    )  # fmt: skip


class _Training:
    """Our training step over batches, its optimiser noting the gradient that it was given."""

    def __init__(self, both, config, steps_per_epoch, steps):
        mesh = sharding.make_mesh()
        noting = optax.trace(decay=0.0)
        optimizer = optax.chain(noting, make_optimizer(config.optimizer))
        parts = split_frozen(both.params, FROZEN)
        fresh = lambda t, f: state.create(  # noqa: E731
            t, f, optimizer, steps, {}, 0, (steps_per_epoch, steps)
        )
        shardings = sharding.state_shardings(jax.eval_shape(fresh, *parts), mesh)
        placed = map(sharding.distribute, parts, (shardings.params, shardings.frozen))
        self._state = jax.jit(fresh, out_shardings=shardings)(*placed)
        self._step = step.make_train_step(both.flax_model, optimizer, config, mesh, shardings)

    def run(self, batches) -> list[float]:
        """Each batch's loss."""
        losses = []
        for batch in batches:
            self._state, metrics = self._step(self._state, batch)
            losses.append(float(metrics["loss"]))
        return losses

    @property
    def gradients(self) -> dict:
        """Of the newest update, before it is clipped."""
        return jax.device_get(self._state.opt_state.inner[0].trace)

    @property
    def params(self) -> dict:
        """All of them."""
        return jax.device_get(merge(self._state.params, self._state.frozen))


def _accumulate(model, batches, every):
    """Adds the batches' gradients up as the authors' loop does; each batch's loss."""
    found = []
    for batch in batches:
        loss = pair.torch_losses(model, batch, torch_mmer.original_losses)[1]["total"]
        (loss / every).backward()
        found.append(loss.item())
    return found


def _published_loop(model, options, batches, epochs, every):
    """Trains the PyTorch model as the authors' loop does; each batch's loss."""
    optimizer, losses = pair.torch_optimizer(model, options), []
    model.zero_grad()
    for _ in range(epochs):
        for i, batch in enumerate(batches):
            losses += _accumulate(model, [batch], every)
            if (i + 1) % every == 0 or i + 1 == len(batches):
                optimizer.step()
                optimizer.zero_grad()
    return losses


def main() -> None:
    """Prints the table."""
    print("| against | quantity | largest relative difference |\n|-|-|-|")
    independent = (independent_rows(case, steps=20) for case in INDEPENDENT)
    for rows in (golden_rows(), *independent, accumulation_rows()):
        for case, quantity, value in rows:
            text = f"{value:.1e}" if np.isscalar(value) else " -> ".join(f"{v:.3f}" for v in value)
            print(f"| {case} | {quantity} | {text} |", flush=True)


if __name__ == "__main__":
    main()
