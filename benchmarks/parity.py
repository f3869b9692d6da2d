"""How far the Flax model is from PyTorch: `python -m benchmarks.parity`.

Two references. The original model's numbers (tests/golden), with its weights through the
converter; and benchmarks/torch_mmer.py, an independent PyTorch MMER, on random small encoders: in
our default setting, one with group norm and recordings of one length (Hugging Face's group norm
sees padding) and one with layer norm and padded recordings, each with several seeds; and in the
authors' setting, with their losses, padding and accumulation. Dropout is off.
"""

import dataclasses
import importlib.util
import pathlib

import jax
import numpy as np
import optax
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
from benchmarks.common import FROZEN, drawn_params
from mmer_jax import configuration
from mmer_jax.convert import mapping
from mmer_jax.losses.total import total_loss
from mmer_jax.models.encoders.text import TextEncoder
from mmer_jax.models.encoders.wav2vec2 import Wav2Vec2Encoder
from mmer_jax.models.mmer import MMER
from mmer_jax.training import sharding, step
from mmer_jax.training.optimizer import learning_rate, make_optimizer, merge, split_frozen

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden" / "golden.py"
SEEDS = (0, 1, 2)
WIDTH, HEADS, FFN, CLASSES, SYMBOLS = 32, 4, 48, 4, 32
MARGIN = 1e-4  # a hundred times the rounding of a float32 state
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
        model(torch_mmer.tensors(batch))
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


def torch_losses(model, batch: dict, losses=torch_mmer.losses) -> tuple[dict, dict]:
    """What the PyTorch model returns, and its losses by name."""
    given = torch_mmer.tensors(batch)
    out = model(given)
    return out, losses(out, given)


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
    config, kind, lengths = INDEPENDENT[case]
    options = _options()
    compute, found = None, {}
    for seed in seeds:
        both = make(config, kind, seed)
        compute = compute or value_and_grad(both.flax_model, options.losses)
        for name, value in _compared(both, compute, draw_batch(both, lengths, seed)):
            found[name] = max(value, found.get(name, 0.0))
    yield from ((case, name, value) for name, value in found.items())
    if not steps:
        return
    batches = [draw_batch(both, lengths, seed) for seed in range(4)]
    curves = _curves(compute, both.params, both.torch_model, options, batches, steps)
    yield case, f"losses of {steps} AdamW steps, worst", max(map(relative, *curves))
    yield case, "  (PyTorch's loss, first and last step)", (curves[1][0], curves[1][-1])


def _compared(both, compute, batch):
    """(quantity, relative difference) of outputs, losses and gradients."""
    (_, ours), grads = compute(both.params, batch)
    out, losses = torch_losses(both.torch_model, batch)
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
    theirs_optimizer = torch_mmer.adamw(torch_model, options.optimizer)
    ours, theirs = [], []
    for i in range(steps):
        batch = batches[i % len(batches)]
        (total, _), grads = compute(merge(trained, frozen), batch)
        trained, opt_state = update(trained, split_frozen(grads, FROZEN)[0], opt_state, i)
        ours.append(float(total))
        theirs_optimizer.zero_grad()
        total = torch_losses(torch_model, batch)[1]["total"]
        total.backward()
        theirs_optimizer.step()
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
    both = make(*INDEPENDENT["wav2vec2-base, equal lengths"][:2], padding_leaks=True)
    batches = [draw_batch(both, [4_000, 3_100][:size], seed) for seed in range(count)]
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
    closest = min(margin(both.torch_model, batch) for batch in rest)
    losses += train.run(rest)
    yield (
        case,
        "gradient of the incomplete group of 2, worst entry",
        both.worst_gradient(train.gradients),
    )
    yield case, "  (its closest maxima)", closest
    losses += train.run(batches * (epochs - 1))
    both.load(both.params)
    theirs = _original_loop(both.torch_model, config.optimizer, batches, epochs, every)
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
        fresh = lambda t, f: step.initial_state(  # noqa: E731
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
        loss = torch_losses(model, batch, torch_mmer.original_losses)[1]["total"]
        (loss / every).backward()
        found.append(loss.item())
    return found


def _original_loop(model, options, batches, epochs, every):
    """Trains the PyTorch model as the authors' loop does; each batch's loss."""
    optimizer, losses = torch_mmer.adamw(model, options), []
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
