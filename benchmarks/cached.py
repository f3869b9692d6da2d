"""Training on frozen encoders, computed once or ever again: `python -m benchmarks.speed cached`.

A corpus like IEMOCAP, of noise: its number of utterances, its mix of lengths, both views, words in
proportion; wav2vec2-base and RoBERTa-base of random weights, frozen. A tenth of it is encoded,
trained on and evaluated, and the times, compilations apart, are scaled to 5 folds of 30 epochs.
"""

import pathlib
import tempfile
import time

import jax
import numpy as np

from benchmarks import common
from mmer_jax import configuration
from mmer_jax.data import folds, loader
from mmer_jax.training import evaluation
from mmer_jax.training.trainer import Trainer

UTTERANCES, MEASURED, FOLDS, EPOCHS = 5531, 553, 5, 30
WORDS_PER_SECOND, WORDS = 2.6, 150  # so few that each is a token or two
FROZEN = ("audio_encoder/.*", "text_encoder/.*")
CACHED = {"data.cache_features": True}
# At a quarter of the frames few transcripts could be spelt: no CTC.
SMALL = {
    "audio.subsample": 4, "model.width": 256, "model.heads": 4, "model.ffn": 1024,
    "losses.ctc.weight": 0.0,
}  # fmt: skip
SIDES = {
    "without a cache": {},
    "cached": CACHED,
    "cached, subsample=4, width=256": CACHED | SMALL,
}
_SIZES = ("width", "layers", "heads", "ffn")
TINY = {f"{part}.size.{k}": n for part in ("audio", "text") for k, n in zip(_SIZES, (16, 1, 2, 16))}
TINY |= {
    "data.buckets": 1,
    "model.width": 16,
    "model.heads": 2,
    "model.ffn": 16,
    "audio.conv_channels": 16,
}


def prepare(folder: pathlib.Path, count: int, write_tokenizer) -> None:
    """Prepares the corpus in `folder/tfds` and its tokenizer in `folder/tokenizer`.

    Args:
      folder: is there.
      count: utterances.
      write_tokenizer: (path, texts) -> None.
    """
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, rng.integers(2, 7))) for _ in range(WORDS)]

    def sentence(seconds):
        return " ".join(rng.choice(words, max(1, round(seconds * WORDS_PER_SECOND))))

    rows = [
        {
            "label": common.LABELS[i % 4], "session": f"{i % 5 + 1}", "speaker": f"{i % 10 + 1}",
            "dialog": f"{i % 50}", "transcript": sentence(own),
            "augmented_transcript": sentence(own), "samples": round(own * common.SAMPLE_RATE),
            "augmented_samples": round(augmented * common.SAMPLE_RATE),
        }
        for i, (own, augmented) in enumerate(zip(*common.draw_lengths(count, rng)))
    ]  # fmt: skip
    common.prepare_noise(str(folder / "tfds"), rows)
    write_tokenizer(str(folder / "tokenizer"), [row["transcript"] for row in rows])


def measure(flags) -> dict:
    """A side's seconds per utterance: to encode it, to train on it, to evaluate it."""
    trainer = Trainer.for_corpus(_config(flags))
    fold = folds.selected(trainer.corpus.utterances, trainer.config)[0]
    split, count = trainer.split(fold), len(trainer.corpus.utterances)
    compiled = _Compilations()
    began = time.perf_counter()
    state = trainer.initial_state(1000)
    encoding = time.perf_counter() - began - compiled.seconds
    stores = trainer.collator.features.values()
    stored = sum(pathlib.Path(store.folder, "states.bin").stat().st_size for store in stores)
    batches = loader.Batches(trainer.collator, split.train, trainer.config.data.batch_size, seed=0)
    state, seconds, flop = _pass(trainer, state, batches)
    evaluation.predict(trainer, state, split.validation)  # compiles
    evaluating, _ = common.timed(evaluation.predict, trainer, state, split.validation)
    rate = common.matmul_rate(256 if flags.tiny else common.MATMUL_WIDTH)
    return {
        "encode_s": encoding / count if stored else 0.0,
        "train_s": seconds / len(split.train),
        "evaluate_s": evaluating / len(split.validation),
        "gflop": flop / len(split.train) / 1e9,
        "matmul_share": flop / seconds / rate,
        "stored_bytes": stored / count,
        "trained": len(split.train) / count,
        "validated": len(split.validation) / count,
        "compiled_s": compiled.seconds,
    }


def _config(flags):
    c = configuration.default()
    c.name, c.data.dataset, c.data.dir = "noise", common.NOISE, f"{flags.folder}/tfds"
    c.text.tokenizer, c.optimizer.frozen = f"{flags.folder}/tokenizer", FROZEN
    c.data.buckets = 13  # that IEMOCAP's mix gets, see docs/performance.md; a tenth would get more
    small = TINY if flags.tiny else {}
    c.update_from_flattened_dict(SIDES[flags.side] | small)
    return configuration.validate(c)


class _Compilations:
    """Counts the seconds that XLA compiles from now on."""

    def __init__(self):
        self.seconds = 0.0
        jax.monitoring.register_event_duration_secs_listener(self._add)

    def _add(self, event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            self.seconds += seconds


def _pass(trainer, state, batches):
    """The state, seconds and FLOPs of a pass of training, every shape compiled before."""
    shapes = {}
    with trainer.to_devices(batches) as placed:
        for batch in placed:
            shape = tuple(x.shape for x in batch.values())
            flop = shapes.get(shape)
            if flop is None:
                flop = common.product_flops(trainer.train_step.function, state, batch)
                state, _ = trainer.train_step(state, batch)
            shapes[shape] = flop
    total = 0.0
    with trainer.to_devices(batches) as placed:
        began = time.perf_counter()
        for batch in placed:
            total += shapes[tuple(x.shape for x in batch.values())]
            state, metrics = trainer.train_step(state, batch)
        jax.block_until_ready(metrics)
        return state, time.perf_counter() - began, total


def run(flags, one_side, write_tokenizer) -> tuple[dict, str]:
    """Measures all sides, each in a process of its own: what was found, and a table.

    Args:
      flags: of the command.
      one_side: (folder, side) -> what `measure` returns in that process.
      write_tokenizer: see `prepare`.
    """
    with tempfile.TemporaryDirectory() as folder:
        common.progress(f"preparing {flags.utterances} utterances")
        prepare(pathlib.Path(folder), flags.utterances, write_tokenizer)
        found = {}
        for side in SIDES:
            common.progress(side)
            found[side] = one_side(folder, side)
        common.progress("")
    rows = [[side, *scaled(x).values()] for side, x in found.items()]
    header = (
        "", "hours to encode it once", f"minutes of {FOLDS} folds x {EPOCHS} epochs",
        "GFLOP / utterance", "share of the matmul rate", "GB stored", "s / utterance trained",
    )  # fmt: skip
    note = (
        f"{flags.utterances} utterances were encoded, trained on and evaluated; hours, minutes and "
        f"GB are scaled to {UTTERANCES}, compilations left out. An epoch trains on a fold's "
        "training part and evaluates what is held out of it."
    )
    return found, f"{common.table(header, rows)}\n\n{note}"


def scaled(found: dict) -> dict:
    """A row of the table: a whole experiment, from seconds per utterance."""
    epoch = found["trained"] * found["train_s"] + found["validated"] * found["evaluate_s"]
    return {
        "hours": UTTERANCES * found["encode_s"] / 3600,
        "minutes": UTTERANCES * epoch * EPOCHS * FOLDS / 60,
        "gflop": found["gflop"],
        "share": f"{found['matmul_share']:.0%}",
        "gb": UTTERANCES * found["stored_bytes"] / 1e9,
        "train_s": found["train_s"],
    }
