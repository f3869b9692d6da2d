"""How far the Flax model is from PyTorch: `python -m benchmarks.parity`.

Two references. The published model's numbers (tests/golden), with its weights through the
converter; and benchmarks/torch_mmer.py, an independent PyTorch MMER in our default setting, on
random small encoders: one with group norm and recordings of one length (Hugging Face's group norm
sees padding), one with layer norm and padded recordings. Dropout is off.
"""

import importlib.util
import pathlib

import jax
import numpy as np
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
from mmer_jax import configuration
from mmer_jax.convert import mapping
from mmer_jax.losses.multitask import total_loss
from mmer_jax.models.encoders.text import TextEncoder
from mmer_jax.models.encoders.wav2vec2 import Wav2Vec2Encoder
from mmer_jax.models.mmer import MMER
from mmer_jax.training.optimizer import learning_rate, make_optimizer, merge, split_frozen

GOLDEN = pathlib.Path(__file__).parents[1] / "tests" / "golden" / "golden.py"
WIDTH, HEADS, FFN, CLASSES, SYMBOLS = 32, 4, 48, 4, 32
FROZEN = ("audio_encoder/feature_extractor/.*", "text_encoder/.*")
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


def golden_rows():
    """(case, quantity, relative difference) against the published model's numbers."""
    spec = importlib.util.spec_from_file_location("golden_numbers", GOLDEN)
    golden = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(golden)
    converted = mapping.convert(golden.weights())
    compute = _value_and_grad(converted.model, golden.RELEASED)
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


def _value_and_grad(model, losses):
    """(params, batch) -> ((total, outputs and losses by name), gradients), compiled."""

    def loss_fn(params, batch):
        _, out = model.apply({"params": params}, batch)
        total, parts = total_loss(out, batch, losses)
        return total, out | parts | {"total": total}

    return jax.jit(jax.value_and_grad(loss_fn, has_aux=True))


def independent_rows(case: str, steps: int):
    """(case, quantity, relative difference) against the independent PyTorch model.

    With 0 `steps` nothing is trained.
    """
    config, kind, lengths = INDEPENDENT[case]
    flax_model, torch_model, params = _pair(config, kind)
    names = torch_mmer.load_flax(torch_model, traverse_util.flatten_dict(params, sep="/"))
    options = _options()
    batches = [_batch(lengths, seed) for seed in range(4)]
    compute = _value_and_grad(flax_model, options.losses)
    (_, ours), grads = compute(params, batches[0])
    out, found = _torch_losses(torch_model, batches[0])
    found["total"].backward()
    for name in ("logits", "ctc_logits", "projection", "aug_projection"):
        # Padded frames hold nothing: neither model promises a number there.
        kept = np.asarray(ours["audio_mask"]) if name == "ctc_logits" else slice(None)
        yield case, name, relative(ours[name][kept], out[name].detach().numpy()[kept])
    for name, value in found.items():
        yield case, f"loss {name}", relative(ours[name], value.item())
    yield case, "gradients, worst parameter", _gradients(torch_model, names, grads)
    if not steps:
        return
    curves = _curves(compute, params, torch_model, options, batches, steps)
    yield case, f"losses of {steps} AdamW steps, worst", max(map(relative, *curves))
    yield case, "  (PyTorch's loss, first and last step)", (curves[1][0], curves[1][-1])


def _pair(config, kind):
    """The Flax and the PyTorch model, and parameters none of which is 0 or 1."""
    text = RobertaConfig(**TEXT)
    sizes = (CLASSES, SYMBOLS, WIDTH, HEADS, FFN, 0.0)
    flax_model = MMER(Wav2Vec2Encoder(config), TextEncoder(text), *sizes)
    torch.manual_seed(0)
    torch_model = torch_mmer.TorchMMER(kind(config), RobertaModel(text), *sizes).eval()
    example = _batch([4_000] * 4, seed=0)
    return flax_model, torch_model, drawn_params(flax_model, example, seed=0)


def drawn_params(model, example, seed: int) -> dict:
    """Parameters of a model, no bias 0 and no scale 1: a fresh model's would hide differences."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), example)["params"]
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        x = rng.standard_normal(leaf.shape).astype(np.float32)
        if path[-1].key in ("scale", "weight_g"):
            return 1 + 0.1 * x
        return 0.1 * x if x.ndim == 1 else x / np.float32(np.sqrt(x.size / x.shape[-1]))

    return jax.tree_util.tree_map_with_path(draw, shapes)


def _options():
    options = configuration.default()
    opt = options.optimizer
    opt.learning_rate, opt.schedule, opt.warmup, opt.clip_norm = 3e-4, "constant", 0.0, 0.0
    opt.decay, opt.frozen = "all", FROZEN
    return options


def _batch(lengths, seed):
    rng = np.random.default_rng(seed)
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
        "label": np.array([0, 2, 0, 2], np.int32),
        "transcript": rng.integers(5, SYMBOLS, (rows, 3)).astype(np.int32),
        "transcript_length": np.array([3, 2, 3, 1], np.int32),
        "valid": yes, "ctc_valid": yes, "aug_valid": yes,
    }  # fmt: skip


def _torch_losses(model, batch):
    tensors = {
        k: torch.from_numpy(v.astype(np.int64) if v.dtype == np.int32 else v)
        for k, v in batch.items()
    }
    out = model(tensors)
    return out, torch_mmer.losses(out, tensors)


def _gradients(model, names, grads):
    """Largest relative difference over parameters, those that have no gradient left out."""
    flat = traverse_util.flatten_dict(grads, sep="/")
    theirs = {k: p.grad.numpy() for k, p in model.named_parameters() if p.grad is not None}
    everything = max(np.abs(g).max() for g in theirs.values())
    worst = 0.0
    for name, paths in names.items():
        expected = theirs.get(name)
        # A key's bias moves no softmax: rounding is all there is to compare.
        if expected is not None and np.abs(expected).max() > 1e-6 * everything:
            worst = max(worst, relative(torch_mmer.torch_layout(flat, paths), expected))
    return worst


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
    torch_optimizer = _torch_optimizer(torch_model, options.optimizer)
    ours, theirs = [], []
    for i in range(steps):
        batch = batches[i % len(batches)]
        (total, _), grads = compute(merge(trained, frozen), batch)
        trained, opt_state = update(trained, split_frozen(grads, FROZEN)[0], opt_state, i)
        ours.append(float(total))
        torch_optimizer.zero_grad()
        total = _torch_losses(torch_model, batch)[1]["total"]
        total.backward()
        torch_optimizer.step()
        theirs.append(total.item())
    return ours, theirs


def _torch_optimizer(model, options):
    for name, p in model.named_parameters():
        p.requires_grad_(not name.startswith(("audio_encoder.feature_extractor", "text_encoder")))
    return torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=options.learning_rate,
        betas=(options.b1, options.b2), eps=options.eps, weight_decay=options.weight_decay,
    )  # fmt: skip


def main() -> None:
    """Prints the table."""
    print("| against | quantity | largest relative difference |\n|-|-|-|")
    for rows in (golden_rows(), *(independent_rows(case, steps=20) for case in INDEPENDENT)):
        for case, quantity, value in rows:
            text = f"{value:.1e}" if np.isscalar(value) else " -> ".join(f"{v:.3f}" for v in value)
            print(f"| {case} | {quantity} | {text} |", flush=True)


if __name__ == "__main__":
    main()
