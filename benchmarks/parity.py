"""How far the Flax model is from PyTorch: `python -m benchmarks.parity`.

Two references. The original model's numbers (tests/golden), with its weights through the
converter; and benchmarks/torch_mmer.py, an independent PyTorch MMER, on random small encoders: in
our default setting, one with group norm and recordings of one length (Hugging Face's group norm
sees padding) and one with layer norm and padded recordings, each with several seeds; and in the
authors' setting, with their losses, padding and accumulation. Dropout is off.
"""

import importlib.util
import itertools

import jax
import numpy as np
import optax
import torch
from flax import traverse_util
from transformers import HubertConfig, Wav2Vec2Config

from benchmarks import common, torch_mmer
from benchmarks.torch_mmer import TorchMMER
from mmer_jax import configuration
from mmer_jax.convert import mapping
from mmer_jax.losses.total import total_loss

GOLDEN = common.ROOT / "tests" / "golden" / "golden.py"
SEEDS = (0, 1, 2)
MARGIN = 1e-4  # a hundred times the rounding of a float32 state
LONGEST, VOCABULARY = 4_000, 50  # samples of the longest recording, ids of the text encoder
BASE = common.tiny_encoders(Wav2Vec2Config)
LARGE = common.tiny_encoders(
    HubertConfig, feat_extract_norm="layer", do_stable_layer_norm=True, conv_bias=True
)
for _, text_config in (BASE, LARGE):
    text_config.update({"vocab_size": VOCABULARY, "max_position_embeddings": 24})
# Case -> both encoders' configs, and the recordings' lengths in samples.
INDEPENDENT = {
    "wav2vec2-base, equal lengths": (BASE, [4_000] * 4),
    "hubert-large, padded": (LARGE, [4_000, 3_100, 2_800, 3_700]),
}


def relative(ours, theirs) -> float:
    """Largest difference over largest magnitude."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes {ours.shape} and {theirs.shape} differ")
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


def worst_gradient(grads: dict, model: TorchMMER) -> float:
    """Largest relative difference of a gradient, entry by entry, over parameters.

    Infinite where a parameter has a gradient on one side alone.

    Args:
      grads: ours, of all parameters or of those that are trained.
      model: PyTorch's, with its gradients.
    """
    parameters = dict(model.named_parameters())
    flat, worst = torch_mmer.from_flax(grads), 0.0
    rounding = 1e-6 * max(np.abs(g).max() for g in flat.values())
    for name, ours in flat.items():
        theirs = parameters[name].grad
        theirs = np.zeros_like(ours) if theirs is None else theirs.numpy()
        sizes = np.abs(ours).max(), np.abs(theirs).max()
        # A key's bias moves no softmax: rounding is all there is to compare.
        if max(sizes) > rounding:
            worst = max(worst, relative(ours, theirs) if min(sizes) else np.inf)
    return worst


def draw_batch(model: TorchMMER, lengths, seed: int) -> dict:
    """A batch in which every maximum of the pooling is the larger by `MARGIN` or more.

    Closer ones tie within rounding, and the frameworks may send the gradient to different ones.

    Args:
      model: PyTorch's.
      lengths: samples of each recording.
    """
    rng = np.random.default_rng(seed)
    while True:
        batch = _batch(lengths, rng)
        if margin(model, batch) >= MARGIN:
            return batch


def _batch(lengths, rng):
    """Short texts: the rounding of a long CTC sum would hide smaller differences."""
    rows, length, yes = len(lengths), np.array(lengths, np.int32), np.ones(len(lengths), bool)
    batch = {
        "label": np.array([0, 2, 0, 2], np.int32)[:rows],
        "transcript_length": np.array([3, 2, 3, 1], np.int32)[:rows],
        "valid": yes, "ctc_valid": yes, "aug_valid": yes,
    }  # fmt: skip
    for view in ("", "aug_"):
        mask = np.arange(8) < rng.integers(3, 9, rows)[:, None]
        ids = np.where(mask, rng.integers(3, VOCABULARY, (rows, 8)), 1)
        batch |= {
            f"{view}text_ids": ids.astype(np.int32),
            f"{view}text_mask": mask.astype(np.int32),
        }
    for view, samples in (("", length), ("aug_", length[::-1].copy())):
        audio = rng.standard_normal((rows, LONGEST)).astype(np.float32)
        audio = np.where(np.arange(LONGEST) < samples[:, None], audio, 0)
        batch |= {f"{view}audio": audio, f"{view}audio_length": samples}
    return batch | {"transcript": rng.integers(5, common.SYMBOLS, (rows, 3)).astype(np.int32)}


def margin(model: TorchMMER, batch: dict) -> float:
    """Least lead of a maximum of the pooling over the next value, see `TorchMMER`."""
    model.margin = np.inf
    with torch.no_grad():
        model(torch_mmer.tensors(batch))
    found, model.margin = model.margin, None
    return found


def value_and_grad(model, losses):
    """(params, batch) -> ((total, outputs and losses by name), gradients), compiled."""

    def loss_fn(params, batch):
        _, out = model.apply({"params": params}, batch)
        total, parts = total_loss(out, batch, losses)
        return total, out | parts | {"total": total}

    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))


def golden_rows():
    """(case, quantity, relative difference) against the original model's numbers."""
    spec = importlib.util.spec_from_file_location("golden_numbers", GOLDEN)
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    converted = mapping.convert(golden.weights())
    compute = value_and_grad(converted.model, golden.loss_options())
    for case in ("equal", "padded"):
        expected = golden.case(case)
        (_, values), grads = compute(converted.params, golden.batch(expected))
        for name in golden.OUTPUTS:
            yield f"original, {case}", name, relative(values[name], expected[name])
        for name, theirs in golden.LOSSES.items():
            yield f"original, {case}", f"loss {name}", relative(values[name], expected[theirs])
        flat = traverse_util.flatten_dict(grads, sep="/")
        norms = dict(zip(expected["grad_names"].tolist(), expected["grad_norms"]))
        worst = max(
            relative(np.linalg.norm(flat[converted.names[key]]), norm)
            for key, norm in norms.items()
            if not golden.has_no_gradient(key)
        )
        yield f"original, {case}", "gradient norms, worst parameter", worst


def independent_rows(case: str, steps: int, seeds=SEEDS):
    """(case, quantity, relative difference) against the independent PyTorch model.

    The largest over seeds, of which each draws weights and a batch without ties. With 0 `steps`
    nothing is trained.
    """
    encoders, lengths = INDEPENDENT[case]
    config = configuration.default()
    config.model.dropout, config.optimizer.decay, config.optimizer.learning_rate = 0.0, "all", 3e-4
    config.optimizer.update({"schedule": "constant", "warmup": 0.0, "clip_norm": 0.0})
    trainer = common.make_trainer(encoders, config)
    compute, found = value_and_grad(trainer.model, config.losses), {}
    for seed in seeds:
        params = common.drawn_params(trainer.model, seed)
        model = TorchMMER.like(trainer.model, params)
        for name, value in _compared(compute, params, model, draw_batch(model, lengths, seed)):
            found[name] = max(value, found.get(name, 0.0))
    yield from ((case, name, value) for name, value in found.items())
    if not steps:
        return
    batches = [draw_batch(model, lengths, seed) for seed in range(4)]
    batches = list(itertools.islice(itertools.cycle(batches), steps))
    _, ours = _train(trainer, trainer.initial_state(steps, params=params), batches)
    optimizer = torch_mmer.adamw(model, config.optimizer)
    theirs = [torch_mmer.update(model, optimizer, [batch])[0] for batch in batches]
    yield case, f"losses of {steps} AdamW steps, worst", max(map(relative, ours, theirs))
    yield case, "  (PyTorch's loss, first and last step)", (theirs[0], theirs[-1])


def _compared(compute, params, model, batch):
    """(quantity, relative difference) of outputs, losses and gradients."""
    (_, ours), grads = compute(params, batch)
    given = torch_mmer.tensors(batch)
    out = model(given)
    losses = torch_mmer.losses(out, given)
    losses["total"].backward()
    for name in ("logits", "ctc_logits", "projection", "aug_projection"):
        # Padded frames hold nothing: neither model promises a number there.
        rows = np.asarray(ours["audio_mask"]) if name == "ctc_logits" else slice(None)
        yield name, relative(ours[name][rows], out[name].detach().numpy()[rows])
    for name, value in losses.items():
        yield f"loss {name}", relative(ours[name], value.item())
    yield "gradients, worst entry", worst_gradient(grads, model)


def _train(trainer, state, batches):
    """The state after training on the batches, and each one's loss."""
    losses = []
    for batch in batches:
        state, metrics = trainer.train_step(state, batch)
        losses.append(float(metrics["loss"]))
    return state, losses


def accumulation_rows(epochs: int = 7):
    """(case, quantity, relative difference) in the authors' setting.

    An epoch is 10 batches of 2, so that its third group is incomplete: 3 updates.
    """
    case, original = "authors' recipe, 4 x 2 accumulated", torch_mmer.original_losses
    config = configuration.default()
    configuration.original(config)
    config.model.dropout = 0.0
    trainer = common.make_trainer(BASE, config)
    params = common.drawn_params(trainer.model, seed=0)
    model = TorchMMER.like(trainer.model, params)
    count, size, every = 10, config.data.batch_size, config.train.accumulation
    batches = [draw_batch(model, [4_000, 3_100][:size], seed) for seed in range(count)]
    groups = [batches[i : i + every] for i in range(0, count, every)]
    for name, group in (("a group of 4", groups[0]), ("the incomplete group of 2", groups[-1])):
        state, _ = _train(trainer, trainer.initial_state(len(group), params=params), group)
        # Adam's mean of the only update so far is its gradient, times 1 - b1.
        mean = optax.tree.get(state.opt_state.inner, "mu")
        model.zero_grad()
        torch_mmer.accumulate(model, group, original, every)
        gradient = jax.tree.map(lambda m: m / (1 - config.optimizer.b1), mean)
        yield case, f"gradient of {name}, worst entry", worst_gradient(gradient, model)
    begun = trainer.initial_state(epochs * count, count, params=params)
    _, ours = _train(trainer, begun, epochs * batches)
    optimizer, theirs = torch_mmer.adamw(model, config.optimizer), []
    for group in epochs * groups:
        theirs += torch_mmer.update(model, optimizer, group, original, every)
    worst = max(map(relative, ours, theirs))
    yield case, f"losses of {epochs * len(groups)} updates, worst batch", worst
    first_and_last = np.mean(theirs[:count]), np.mean(theirs[-count:])
    yield case, "  (PyTorch's loss, first and last epoch)", first_and_last


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
