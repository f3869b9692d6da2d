"""Training speed against PyTorch: `python -m benchmarks.train_step [--mix]`.

MMER with wav2vec2-base and a frozen RoBERTa-base, random weights, both views, dropout on, float32.
As in the published code the convolutions of wav2vec2 are frozen and the text encoder runs in
evaluation mode; SpecAugment and layer drop are off. PyTorch's side is benchmarks/torch_mmer.py
with Hugging Face's modules and torch.optim.AdamW, on all cores. Steps alternate between the two,
compilation apart, so that what else the machine does weighs on both; each has a process of its
own, so that neither computes in the memory that the other has left in pieces, and new ones in each
round.

With `--mix`, utterances have IEMOCAP's lengths: Flax has mmer_jax's length buckets, PyTorch what
published code does, random batches padded to their own longest. There the two come one after the
other, PyTorch before and after Flax.
"""

import dataclasses
import os
import time

import jax
import numpy as np
import torch
from transformers import RobertaConfig, RobertaModel, Wav2Vec2Config, Wav2Vec2Model

from benchmarks import machine, torch_mmer
from benchmarks.apart import Apart
from mmer_jax import configuration
from mmer_jax.data import bucketing
from mmer_jax.losses.total import total_loss
from mmer_jax.models.encoders.text import TextEncoder
from mmer_jax.models.encoders.wav2vec2 import Wav2Vec2Encoder
from mmer_jax.models.mmer import MMER
from mmer_jax.training import schedule
from mmer_jax.training.optimizer import make_optimizer, merge, split_frozen

RATE, SYMBOLS, CLASSES, LEARNING_RATE = 16_000, 32, 4, 5e-5
FROZEN = ("audio_encoder/feature_extractor/.*", "text_encoder/.*")
# Speech: about 3 tokens and 14 characters a second.
TOKENS_PER_SECOND, SYMBOLS_PER_SECOND = 3.2, 14
# IEMOCAP's four classes: log-normal with this median and sigma (mean 4.55 s, 95 % below 11.06 s).
MEDIAN, SIGMA, SHORTEST, LONGEST = 3.58, 0.69, 0.6, 13.125


@dataclasses.dataclass(frozen=True)
class Sizes:
    """A model's sizes: both encoders and the fusion network are as wide."""

    width: int = 768
    layers: int = 12
    heads: int = 12
    ffn: int = 3072
    channels: int = 512
    vocabulary: int = 50265
    dropout: float = 0.1


BASE = Sizes()
TINY = Sizes(width=32, layers=1, heads=2, ffn=48, channels=16, vocabulary=60)


def configs(sizes: Sizes):
    """HF's configs of the two encoders, with the dropouts of the published checkpoints."""
    size = {
        "hidden_size": sizes.width, "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads, "intermediate_size": sizes.ffn,
    }  # fmt: skip
    audio = Wav2Vec2Config(
        **size, conv_dim=(sizes.channels,) * 7, hidden_dropout=sizes.dropout,
        attention_dropout=sizes.dropout, feat_proj_dropout=sizes.dropout, activation_dropout=0.0,
        layerdrop=0.0, apply_spec_augment=False,
    )  # fmt: skip
    text = RobertaConfig(
        **size, vocab_size=sizes.vocabulary, max_position_embeddings=514, type_vocab_size=1,
        layer_norm_eps=1e-5,
    )  # fmt: skip
    return audio, text


def flax_model(sizes: Sizes, dtype="float32") -> MMER:
    """Our model, its text encoder without dropout."""
    audio, text = configs(sizes)
    return MMER(
        Wav2Vec2Encoder(audio, dtype=np.dtype(dtype)), TextEncoder(text, np.dtype(dtype)), CLASSES,
        SYMBOLS, sizes.width, sizes.heads, sizes.ffn, sizes.dropout, np.dtype(dtype),
        frozen=("text_encoder",),
    )  # fmt: skip


def torch_model(sizes: Sizes) -> torch_mmer.TorchMMER:
    """PyTorch's, in training mode, frozen where the published code is."""
    audio, text = configs(sizes)
    model = torch_mmer.TorchMMER(
        Wav2Vec2Model(audio), RobertaModel(text), CLASSES, SYMBOLS, sizes.width, sizes.heads,
        sizes.ffn, sizes.dropout,
    )  # fmt: skip
    model.train()
    model.audio_encoder.freeze_feature_encoder()  # also spares the gradient through it
    model.text_encoder.eval().requires_grad_(False)
    return model


class FlaxTrainer:
    """Compiled training steps on parameters of its own."""

    def __init__(self, sizes: Sizes, example: dict):
        self.model, self.options = flax_model(sizes), configuration.default()
        self.options.optimizer.clip_norm = 0.0  # as PyTorch's side
        self.optimizer = make_optimizer(self.options.optimizer)
        params = jax.jit(self.model.init)(jax.random.key(0), example)["params"]
        trained, self.frozen = split_frozen(params, FROZEN)
        self.state = (trained, self.optimizer.init(trained), jax.random.key(1))
        options = schedule.compiler_options()
        self.jitted = jax.jit(self._step, donate_argnums=0, compiler_options=options)

    def _step(self, state, frozen, batch):
        trained, opt_state, key = state
        key, dropout = jax.random.split(key)

        def loss_fn(trained):
            variables = {"params": merge(trained, frozen)}
            _, out = self.model.apply(variables, batch, train=True, rngs={"dropout": dropout})
            return total_loss(out, batch, self.options.losses)[0]

        loss, grads = jax.value_and_grad(loss_fn)(trained)
        direction, opt_state = self.optimizer.update(grads, opt_state, trained)
        trained = jax.tree.map(lambda p, d: p - LEARNING_RATE * d, trained, direction)
        return (trained, opt_state, key), loss

    def step(self, batch) -> tuple[float, float]:
        """One step; returns its seconds and its loss."""
        seconds, (self.state, loss) = machine.timed(self.jitted, self.state, self.frozen, batch)
        return seconds, float(loss)

    def flops(self, batch) -> float:
        """Of one step, by XLA's count."""
        return machine.flops(self.jitted, self.state, self.frozen, batch)


class TorchTrainer:
    """The same for PyTorch."""

    def __init__(self, sizes: Sizes):
        torch.set_num_threads(os.cpu_count())
        torch.manual_seed(0)
        self.model = torch_model(sizes)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.01)

    def step(self, batch) -> tuple[float, float]:
        """One step; returns its seconds and its loss."""
        tensors = to_torch(batch)
        start = time.perf_counter()
        self.optimizer.zero_grad()
        loss = torch_mmer.losses(self.model(tensors), tensors)["total"]
        loss.backward()
        self.optimizer.step()
        return time.perf_counter() - start, loss.item()


def started(name: str, sizes: Sizes, example: dict, keep: bool) -> Apart:
    """A trainer, `flax` or `torch`, in a process of its own."""
    if name == "flax":
        return Apart(FlaxTrainer, sizes, example, keep=keep)
    return Apart(TorchTrainer, sizes)


def to_torch(batch: dict) -> dict:
    """Arrays -> tensors; integers as int64, which PyTorch's lookups ask for."""
    return {
        name: torch.from_numpy(value.astype(np.int64) if value.dtype == np.int32 else value)
        for name, value in batch.items()
    }


def make_batch(seconds, aug_seconds, sizes: Sizes, rng, bucket=None) -> dict:
    """A batch of noise of these lengths and of ids, labels in pairs.

    Args:
      seconds, aug_seconds: of each row's two views.
      sizes: for the vocabulary.
      rng: draws the numbers.
      bucket: static shapes; None pads each view to its own longest.
    """
    rows = len(seconds)
    batch = {"label": (np.arange(rows) // 2 % CLASSES).astype(np.int32)}
    for prefix, view in (("", seconds), ("aug_", aug_seconds)):
        samples, tokens, _ = counts(view)
        n, s = (bucket.samples, bucket.tokens) if bucket else (samples.max(), tokens.max())
        audio = rng.standard_normal((rows, n)).astype(np.float32)
        mask = (np.arange(s) < tokens[:, None]).astype(np.int32)
        ids = rng.integers(3, sizes.vocabulary, (rows, s))
        batch |= {
            f"{prefix}audio": np.where(np.arange(n) < samples[:, None], audio, 0),
            f"{prefix}audio_length": samples, f"{prefix}text_mask": mask,
            f"{prefix}text_ids": np.where(mask, ids, 1).astype(np.int32),
        }  # fmt: skip
    symbols = counts(seconds)[2]
    width, yes = bucket.symbols if bucket else symbols.max(), np.ones(rows, bool)
    return batch | {
        "transcript": rng.integers(5, SYMBOLS, (rows, width)).astype(np.int32),
        "transcript_length": symbols, "valid": yes, "ctc_valid": yes, "aug_valid": yes,
    }  # fmt: skip


def counts(seconds):
    """Seconds [n] -> samples, tokens and characters, int32 [n] each."""
    seconds = np.asarray(seconds)
    return tuple(
        np.asarray(x, np.int32)
        for x in (seconds * RATE, 2 + seconds * TOKENS_PER_SECOND, 1 + seconds * SYMBOLS_PER_SECOND)
    )


def fixed(
    sizes: Sizes, batch_size: int, seconds: float, steps: int, rounds: int = 1, keep: bool = True
) -> dict:
    """Seconds per step of both on batches of one length, alternating, in processes anew each round.

    A process is faster or some 30 % slower for as long as it lives, why is not known: one round
    says little.
    """
    rng = np.random.default_rng(0)
    batch = make_batch([seconds] * batch_size, [seconds] * batch_size, sizes, rng)
    times, cpu = ({"flax": [], "torch": []} for _ in range(2))
    for k in range(rounds):
        trainers = {name: started(name, sizes, batch, keep) for name in times}
        machine.progress(f"round {k + 1} of {rounds}: compiling")
        if k == 0:
            count = trainers["flax"].ask("flops", batch)
        for trainer in trainers.values():
            # Flax compiles, PyTorch makes the optimiser's state.
            trainer.ask("step", batch)
        taken = {name: [] for name in trainers}
        for i in range(steps):
            machine.progress(f"round {k + 1} of {rounds}: step {i + 1} of {steps}")
            for name, trainer in trainers.items():
                (wall, loss), processor = trainer.timed("step", batch)
                if not np.isfinite(loss):
                    raise ValueError(f"{name}'s loss is {loss} in step {i}")
                taken[name].append((wall, processor))
        for name, trainer in trainers.items():
            trainer.close()
            times[name].append([wall for wall, _ in taken[name]])
            cpu[name].append([processor for _, processor in taken[name]])
    machine.progress("")
    median = {name: float(np.median(values)) for name, values in times.items()}
    # On a machine that other programs use too, processor time says more than the clock.
    work = {name: float(np.median(values)) for name, values in cpu.items()}
    by_round = {name: [float(np.median(v)) for v in values] for name, values in times.items()}
    return {
        "flax_cpu_s": work["flax"],
        "torch_cpu_s": work["torch"],
        "cpu_ratio": work["torch"] / work["flax"],
        "cpu_times": cpu,
        "flax_s": median["flax"], "torch_s": median["torch"],
        "ratio": median["torch"] / median["flax"],
        "best_ratio": min(by_round["torch"]) / min(by_round["flax"]),
        "by_round": by_round, "flops": count, "times": times,
    }  # fmt: skip


def draw_lengths(count: int, rng):
    """Seconds of both views: IEMOCAP's fit, and the augmented one within some 15 % of it."""
    seconds = MEDIAN * np.exp(SIGMA * rng.standard_normal(count))
    spoken_again = seconds * np.exp(0.15 * rng.standard_normal(count))
    return np.clip(seconds, SHORTEST, LONGEST), np.clip(spoken_again, SHORTEST, LONGEST)


def mix(
    sizes: Sizes, batch_size: int, utterances: int, bucket_count: int, keep: bool = True
) -> dict:
    """Utterances per second of both in one pass over the same utterances.

    Each side is alone in memory: a step of the longest takes most of a small machine's. So half of
    PyTorch's batches come before Flax's and half after, for what the machine does in between.
    """
    rng = np.random.default_rng(0)
    lengths = draw_lengths(utterances, rng)
    bucketed, padded = _flax_batches(sizes, lengths, batch_size, bucket_count, rng), []
    for rows in rng.permutation(utterances).reshape(-1, batch_size):
        padded.append(make_batch(lengths[0][rows], lengths[1][rows], sizes, rng))
    half = len(padded) // 2
    # Flax compiles every shape before the clock starts; to PyTorch all are alike.
    shapes = list({batch["audio"].shape: batch for batch in bucketed}.values())
    times = {"torch": _one_pass("torch", sizes, padded[:1], padded[:half], keep)}
    times["flax"] = _one_pass("flax", sizes, shapes, bucketed, keep)
    times["torch"] += _one_pass("torch", sizes, padded[:1], padded[half:], keep)
    machine.progress("")
    rate = {name: utterances / sum(values) for name, values in times.items()}
    return {
        "flax_utterances_per_s": rate["flax"], "torch_utterances_per_s": rate["torch"],
        "ratio": rate["flax"] / rate["torch"], "flax_padding": padding(bucketed),
        "torch_padding": padding(padded), "mean_s": float(lengths[0].mean()),
        "median_s": float(np.median(lengths[0])), "p95_s": float(np.quantile(lengths[0], 0.95)),
        "times": times,
    }  # fmt: skip


def _one_pass(name, sizes, first, batches, keep):
    """Seconds of each of `batches` in a process of its own, after a step on each of `first`."""
    trainer, times = started(name, sizes, first[0], keep), []
    for i, batch in enumerate(first):
        machine.progress(f"{name}: shape {i + 1} of {len(first)}")
        trainer.ask("step", batch)
    for i, batch in enumerate(batches):
        machine.progress(f"{name}: batch {i + 1} of {len(batches)}")
        times.append(trainer.ask("step", batch)[0])
    trainer.close()
    return times


def _flax_batches(sizes, lengths, batch_size, bucket_count, rng):
    """As `data/loader.py` has them: a row's bucket holds its longer view."""
    longer = np.maximum(*lengths)
    samples, tokens, symbols = counts(longer)
    longest = int(LONGEST * RATE)
    edges = bucketing.choose_edges(samples, bucket_count, longest)
    buckets = bucketing.make_buckets(edges, samples, tokens, symbols)
    return [
        make_batch(lengths[0][rows], lengths[1][rows], sizes, rng, buckets[k])
        for k, rows in bucketing.plan(samples, edges, batch_size, rng)
    ]


def padding(batches) -> float:
    """Share of padding in the audio of both views."""
    views = ("", "aug_")
    fed = sum(b[f"{v}audio"].size for b in batches for v in views)
    return 1 - float(sum(b[f"{v}audio_length"].sum() for b in batches for v in views)) / fed


def main(argv=None) -> dict:
    """Runs one part, prints its table and writes JSON; returns the results."""
    parser = machine.arguments(__doc__)
    parser.add_argument("--mix", action="store_true", help="IEMOCAP's lengths, buckets")
    parser.add_argument(
        "--give-back", action="store_true", help="freed memory goes back to the system (CPUs)"
    )
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each in a round")
    parser.add_argument("--rounds", type=int, default=3, help="times that the processes start anew")
    parser.add_argument("--batch", type=int, default=4, help="utterances per step")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each")
    parser.add_argument("--utterances", type=int, default=64, help="of the mix")
    parser.add_argument("--buckets", type=int, default=4, help="of the mix")
    flags = parser.parse_args(argv)
    sizes = TINY if flags.tiny else BASE
    if flags.utterances % flags.batch:
        parser.error("--utterances must be a multiple of --batch: both sides see whole batches")
    rates = machine.rates(flags.tiny)
    print(machine.heading(rates))
    if flags.mix:
        results = mix(sizes, flags.batch, flags.utterances, flags.buckets, not flags.give_back)
        _print_mix(flags, results)
    else:
        results = fixed(
            sizes, flags.batch, flags.seconds, flags.steps, flags.rounds, not flags.give_back
        )
        _print_fixed(flags, results, rates["float32"])
    name = "train_step_mix" if flags.mix else "train_step"
    everything = {"flags": vars(flags), "matmul_flops_per_s": rates} | results
    print(f"\nWritten: {machine.write_json(flags.out, name, everything)}")
    return everything


def _print_fixed(flags, r, rate):
    work = f"{flags.batch} x {flags.seconds:g} s"
    rows = [
        ("PyTorch", work, r["torch_s"], 1 / r["torch_s"], "", ""),
        ("Flax", work, r["flax_s"], 1 / r["flax_s"], f"{r['ratio']:.2f}",
         f"{r['flops'] / r['flax_s'] / rate:.0%}"),
    ]  # fmt: skip
    header = ("", "batch", "s / step", "steps / s", "ratio", "share of the matmul rate")
    print(machine.table(header, rows))
    print(
        f"\nMedians of {flags.rounds} x {flags.steps} alternating steps; {r['flops'] / 1e9:.0f} "
        f"GFLOP a step by XLA's count. By round: {_each(r['by_round'])}; the fastest of each: ratio"
        f" {r['best_ratio']:.2f}.\nProcessor time: PyTorch {r['torch_cpu_s']:.1f} s, Flax "
        f"{r['flax_cpu_s']:.1f} s, ratio {r['cpu_ratio']:.2f}; where it tells another "
        "story than the clock, the machine was busy."
    )


def _each(by_round):
    seconds = {name: ", ".join(f"{s:.2f}" for s in values) for name, values in by_round.items()}
    return f"PyTorch {seconds['torch']} s, Flax {seconds['flax']} s"


def _print_mix(flags, r):
    rows = [
        ("PyTorch", "random, padded to the longest", r["torch_utterances_per_s"],
         f"{r['torch_padding']:.0%}", ""),
        ("Flax", f"{flags.buckets} length buckets", r["flax_utterances_per_s"],
         f"{r['flax_padding']:.0%}", f"{r['ratio']:.2f}"),
    ]  # fmt: skip
    print(machine.table(("", "batches", "utterances / s", "padding", "ratio"), rows))
    print(
        f"\n{flags.utterances} utterances, batches of {flags.batch}; lengths log-normal with median"
        f" {MEDIAN} s and sigma {SIGMA}, cut at {LONGEST} s. Drawn: mean {r['mean_s']:.2f} s, "
        f"median {r['median_s']:.2f} s, 95 % below {r['p95_s']:.2f} s. Compilation apart."
    )


if __name__ == "__main__":
    main()
