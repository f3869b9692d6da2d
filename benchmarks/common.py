"""Models, batches, processes and tables that the benchmarks share."""

import argparse
import json
import math
import os
import pathlib
import platform
import re
import subprocess
import sys
import tempfile
import time
from importlib import metadata

import jax
import jax.numpy as jnp
import numpy as np
from transformers import RobertaConfig, Wav2Vec2Config

from mmer_jax import configuration
from mmer_jax.data import bucketing
from mmer_jax.data.alphabet import ENGLISH
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.models import factory
from mmer_jax.training.trainer import Trainer

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("jax", "jaxlib", "flax", "numpy", "torch", "transformers")
GIB = 2**30
FROZEN = ("audio_encoder/feature_extractor/.*", "text_encoder/.*")  # as in configs/iemocap.py
NOISE = "speech_emotion/noise"  # see `prepare_noise`
LABELS = ("angry", "happy", "neutral", "sad")
CLASSES, SYMBOLS, TINY_VOCABULARY = len(LABELS), len(ENGLISH.symbols), 1000
# Speech: about 3 tokens and 14 characters a second.
TOKENS_PER_SECOND, SYMBOLS_PER_SECOND = 3.2, 14
# IEMOCAP's four classes: log-normal with this median and sigma (mean 4.55 s, 95 % below 11.06 s).
MEDIAN, SIGMA, SHORTEST, LONGEST = 3.58, 0.69, 0.6, 13.125
MATMUL_WIDTH = 2048  # matrices far larger than any cache


def base_encoders() -> tuple:
    """Hugging Face's configs of wav2vec2-base and RoBERTa-base.

    As far as the published checkpoints' config.json departs from the class's defaults.
    """
    return Wav2Vec2Config(activation_dropout=0.0), RobertaConfig(
        vocab_size=50265, max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5
    )


def large_encoders() -> tuple:
    """Those of wav2vec2-large-lv60 (XLS-R and WavLM-large have its size) and RoBERTa-large."""
    size = {
        "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
        "intermediate_size": 4096,
    }  # fmt: skip
    audio = Wav2Vec2Config(
        **size, activation_dropout=0.0, conv_bias=True, do_stable_layer_norm=True,
        feat_extract_norm="layer",
    )  # fmt: skip
    return audio, RobertaConfig(
        **size, vocab_size=50265, max_position_embeddings=514, type_vocab_size=1,
        layer_norm_eps=1e-5,
    )  # fmt: skip


def tiny_encoders(kind=Wav2Vec2Config, **options) -> tuple:
    """The same with one layer of width 32 and without dropout; `options` are the audio config's."""
    size = {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
        "intermediate_size": 48,
    }  # fmt: skip
    audio = kind(
        **size, **options, conv_dim=(16,) * 7, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
    )  # fmt: skip
    text = RobertaConfig(**size, vocab_size=TINY_VOCABULARY, max_position_embeddings=130)
    for config in (audio, text):
        config.update({name: 0.0 for name in config.to_dict() if "dropout" in name})
    return audio, text


def make_trainer(encoders, config=None) -> Trainer:
    """A trainer of a model with these encoders, convolutions and text encoder frozen.

    Args:
      encoders: Hugging Face's configs of the audio encoder and the text encoder.
      config: all else, and is changed; None: the default.
    """
    config, audio = config or configuration.default(), encoders[0]
    config.optimizer.frozen, config.data.normalize = FROZEN, "utterance"
    m = config.model
    m.width, m.heads, m.ffn = audio.hidden_size, audio.num_attention_heads, audio.intermediate_size
    with tempfile.TemporaryDirectory() as folder:
        for part, encoder in zip(("audio", "text"), encoders):
            config[part].pretrained = f"{folder}/{part}"
            encoder.save_pretrained(config[part].pretrained)
        trainer = Trainer(config, LABELS, encoders[1].vocab_size)
    config.audio.pretrained = config.text.pretrained = ""  # the folder is gone
    return trainer


def drawn_params(model, seed: int, most: int | None = None) -> dict:
    """Parameters of a model, no bias 0 and no scale 1: a fresh model's would hide differences.

    Args:
      model: the Flax module.
      seed: of the draw.
      most: numbers drawn of a parameter, which repeat in a larger one: large models are drawn in
        no time; None: all.
    """
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        count = min(leaf.size, most or leaf.size)
        x = np.resize(rng.standard_normal(count).astype(np.float32), leaf.shape)
        if path[-1].key in ("scale", "weight_g"):
            return 1 + 0.1 * x
        return 0.1 * x if x.ndim == 1 else x / np.float32(np.sqrt(x.size / x.shape[-1]))

    return jax.tree_util.tree_map_with_path(draw, factory.param_shapes(model))


def make_batch(seconds, aug_seconds, vocabulary: int, rng, bucket=None) -> dict:
    """A batch of noise of these lengths, random ids, and labels in pairs.

    Args:
      seconds, aug_seconds: of each row's two views.
      vocabulary: ids of the text encoder.
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
        ids = rng.integers(3, vocabulary, (rows, s))
        batch |= {
            f"{prefix}audio": np.where(np.arange(n) < samples[:, None], audio, 0),
            f"{prefix}audio_length": samples, f"{prefix}text_mask": mask,
            f"{prefix}text_ids": np.where(mask, ids, 1).astype(np.int32),
        }  # fmt: skip
    symbols = counts(seconds)[2]
    width, yes = bucket.symbols if bucket else symbols.max(), np.ones(rows, bool)
    return batch | {
        "transcript": rng.integers(5, SYMBOLS, (rows, width)).astype(np.int32),
        "transcript_length": symbols, "index": np.arange(rows, dtype=np.int32),
        "valid": yes, "ctc_valid": yes, "aug_valid": yes,
    }  # fmt: skip


def counts(seconds):
    """Seconds [n] -> samples, tokens and characters, int32 [n] each."""
    s = np.asarray(seconds)
    found = (s * SAMPLE_RATE, 2 + s * TOKENS_PER_SECOND, 1 + s * SYMBOLS_PER_SECOND)
    return tuple(x.astype(np.int32) for x in found)


def prepare_noise(data_dir: str, rows) -> None:
    """Prepares the dataset `NOISE`.

    Args:
      data_dir: of the dataset.
      rows: of each utterance `samples`, `label` and other columns, all texts; all of them may have
        `augmented_samples`, of one augmented recording each.
    """
    import tensorflow_datasets as tfds

    rng, (name, config) = np.random.default_rng(0), NOISE.split("/")
    counts = {"samples", "augmented_samples"}
    features = {column: tfds.features.Text() for column in ("utterance", *rows[0].keys() - counts)}
    wav = tfds.features.Tensor(shape=(None,), dtype=np.int16, encoding="bytes")
    features["audio"] = wav
    if "augmented_samples" in rows[0]:
        features["augmented_audio"] = wav
        features["augmented_lengths"] = tfds.features.Tensor(shape=(None,), dtype=np.int32)

    def example(i, row):
        found = {"utterance": f"u{i}", "audio": rng.integers(-3000, 3000, row["samples"], np.int16)}
        if "augmented_samples" in row:
            samples = row["augmented_samples"]
            found["augmented_audio"] = rng.integers(-3000, 3000, samples, np.int16)
            found["augmented_lengths"] = np.array([samples], np.int32)
        return found | {column: row[column] for column in row.keys() - counts}

    tfds.dataset_builders.store_as_tfds_dataset(
        name, "1.0.0", tfds.features.FeaturesDict(features),
        {"utterances": ((i, example(i, row)) for i, row in enumerate(rows))}, config=config,
        data_dir=data_dir, file_format="array_record", disable_shuffling=True,
    )  # fmt: skip


def draw_lengths(count: int, rng):
    """Seconds of both views: IEMOCAP's fit, and the augmented one within some 15 % of it."""
    seconds = MEDIAN * np.exp(SIGMA * rng.standard_normal(count))
    spoken_again = seconds * np.exp(0.15 * rng.standard_normal(count))
    return np.clip(seconds, SHORTEST, LONGEST), np.clip(spoken_again, SHORTEST, LONGEST)


def mix_batches(utterances: int, rows: int, vocabulary: int, buckets: int | None) -> list[dict]:
    """Batches of IEMOCAP's lengths, the same utterances in length buckets or in random batches.

    Args:
      utterances: how many, a multiple of `rows`.
      rows: of a batch.
      vocabulary: ids of the text encoder.
      buckets: how many; None: random batches, padded to their own longest.
    """
    rng = np.random.default_rng(0)
    lengths = draw_lengths(utterances, rng)
    plan = [(None, at) for at in rng.permutation(utterances).reshape(-1, rows)]
    if buckets:
        samples, tokens, symbols = counts(np.maximum(*lengths))
        longest = int(LONGEST * SAMPLE_RATE)
        edges = bucketing.edges_by_count(samples, buckets, longest)[-1]
        made = bucketing.make_buckets(edges, samples, tokens, symbols)
        plan = [(made[k], at) for k, at in bucketing.plan(samples, edges, rows, rng)]
    return [
        make_batch(lengths[0][at], lengths[1][at], vocabulary, rng, bucket) for bucket, at in plan
    ]


def product_flops(jitted, *args) -> int:
    """FLOPs of one call's matrix products and convolutions, two for each multiply-add."""

    def count(jaxpr):
        total = 0
        for equation in jaxpr.eqns:
            shapes = [x.aval.shape for x in (*equation.invars, *equation.outvars)]
            if equation.primitive.name == "dot_general":
                (contracted, _), _ = equation.params["dimension_numbers"]
                total += 2 * math.prod(shapes[-1]) * math.prod(shapes[0][i] for i in contracted)
            elif equation.primitive.name == "conv_general_dilated":
                output, *kernel = equation.params["dimension_numbers"].rhs_spec
                total += 2 * math.prod(shapes[-1]) * math.prod(shapes[1][i] for i in kernel)
            times = equation.params["length"] if equation.primitive.name == "scan" else 1
            for value in jax.tree.leaves(tuple(equation.params.values())):
                if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                    total += times * count(getattr(value, "jaxpr", value))
        return total

    return count(jitted.trace(*args).jaxpr.jaxpr)


def matmul_rate(width: int = MATMUL_WIDTH, repeats: int = 7, dtype="float32") -> float:
    """FLOP/s of a square matrix product on the default device, median of `repeats`."""
    x, product = jax.random.normal(jax.random.key(0), (width, width), dtype), jax.jit(jnp.matmul)
    jax.block_until_ready(product(x, x))
    return 2 * width**3 / np.median([timed(product, x, x)[0] for _ in range(repeats)])


def timed(function, *args):
    """(seconds, result) of one call whose result is waited for."""
    start = time.perf_counter()
    result = jax.block_until_ready(function(*args))
    return time.perf_counter() - start, result


def child(arguments, folder=ROOT) -> dict:
    """Runs `python ARGUMENTS` in a process of its own and waits for it.

    Args:
      arguments: of the interpreter.
      folder: where it runs, and where its modules come from first.

    Returns:
      `output` (what it printed), `seconds`, `cpu_seconds` and `peak_gib`, its resident memory.

    Raises:
      RuntimeError: the process failed; holds the end of what it wrote.
    """
    environment, start = os.environ | {"PYTHONPATH": str(folder)}, time.perf_counter()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment, stdout=subprocess.PIPE,
            stderr=errors, text=True,
        )  # fmt: skip
        with process.stdout as pipe:
            output = pipe.read()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        errors.seek(0)
        if process.returncode:
            raise RuntimeError(
                f"{' '.join(arguments)} ended with {process.returncode} (-9: killed, for want of "
                f"memory as a rule):\n{errors.read()[-2000:]}"
            )
    return {
        "output": output, "seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_gib": usage.ru_maxrss * 1024 / GIB,
    }  # fmt: skip


def parser(doc: str) -> argparse.ArgumentParser:
    """A parser with the flags that speed, memory and padding have."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--out", default="build/benchmarks", help="folder of the JSON file")
    made.add_argument("--tiny", action="store_true", help="small sizes: does it run at all")
    return made


def progress(text: str) -> None:
    """Replaces the progress line on a terminal; silent elsewhere, so that logs stay readable."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="" if text else "", file=sys.stderr, flush=True)


def table(header, rows) -> str:
    """A Markdown table of strings and numbers."""
    cell = lambda x: f"{x:.3g}" if isinstance(x, float) else str(x)  # noqa: E731
    line = lambda cells: "| " + " | ".join(map(cell, cells)) + " |"  # noqa: E731
    return "\n".join([line(header), "|" + "-|" * len(header), *map(line, rows)])


def describe() -> dict:
    """Processor, cores, memory in GiB, device and versions, by name."""
    device, cpuinfo = jax.devices()[0], pathlib.Path("/proc/cpuinfo")
    known = cpuinfo.read_text() if cpuinfo.exists() else ""  # Linux alone has it
    processor = re.search(r"model name\s*: (.*)", known)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    found = reversed(list(metadata.distributions()))  # the first of a name is the one imported
    installed = {package.name: package.version for package in found}
    return {
        "processor": processor[1] if processor else platform.machine(),
        "cores": os.cpu_count(), "memory_gib": round(memory, 1), "backend": device.platform,
        "device": device.device_kind, "devices": jax.device_count(),
        "python": platform.python_version(),
    } | {name: installed.get(name, "not installed") for name in PACKAGES}  # fmt: skip


def report(flags, name: str, found: dict, text: str) -> None:
    """Prints the machine and a benchmark's text, and writes what it found to OUT/NAME.json."""
    machine = describe()
    versions = ", ".join(f"{key} {machine[key]}" for key in ("python", *PACKAGES))
    path = pathlib.Path(flags.out) / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    everything = {"machine": machine, "flags": vars(flags)} | found
    path.write_text(json.dumps(everything, indent=2) + "\n")
    print(
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gib']} GiB; JAX on "
        f"{machine['devices']} x {machine['device']} ({machine['backend']}); {versions}\n\n{text}"
        f"\n\nWritten: {path}"
    )
