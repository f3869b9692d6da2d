"""Recordings to emotions against PyTorch: `python -m benchmarks.recordings [--no-text]`.

500 wav files of IEMOCAP's lengths, from the file to the probabilities: reading, preparing,
tokenising and the network, wav2vec2-base and RoBERTa-base with the same random weights on both
sides, float32. Flax is `Predictor.predict_each`, what `python -m mmer_jax.predict` calls; PyTorch
is what its users write, batches in the order of the files, each padded to its longest. Either side
has a process of its own; they take turns, a part of the files at a time. With `--no-text` the
model's CTC head writes the text first.
"""

import dataclasses
import os
import pathlib
import tempfile
import time

import jax
import numpy as np
import soundfile
import torch
from flax import traverse_util

from benchmarks import machine, torch_mmer, train_step
from benchmarks.apart import Apart
from mmer_jax import configuration
from mmer_jax.data import preprocessing, text
from mmer_jax.inference.predictor import Predictor
from mmer_jax.training.model_folder import LoadedModel

WORDS_PER_SECOND, VOCABULARY, MAX_TOKENS = 2.6, 1000, 128
LABELS = ("angry", "happy", "neutral", "sad")
CHECKED = 4  # recordings whose logits are compared one by one
WARM_UP = 4  # every fourth recording is predicted before the clock starts


class FlaxSide:
    """A `Predictor` on random weights, which it writes for the other side."""

    def __init__(self, sizes, tokenizer: str, weights: str):
        model = train_step.flax_model(sizes)
        example = train_step.make_batch([1.0], [1.0], sizes, np.random.default_rng(0))
        params = jax.device_get(jax.jit(model.init)(jax.random.key(0), example)["params"])
        np.savez(weights, **traverse_util.flatten_dict(params, sep="/"))
        config = configuration.default()
        config.data.max_seconds = train_step.LONGEST
        reader = text.Tokenizer(tokenizer, MAX_TOKENS)
        self._predictor = Predictor(LoadedModel(
            "the benchmark's model", config, model, params, LABELS, {}, reader, tokenizer, {}
        ), detect_speech=False)  # fmt: skip

    def predict(self, paths, texts) -> dict:
        """Seconds, logits [n, c] and where the time went."""
        start = time.perf_counter()
        found = [answer for _, answer in self._predictor.predict_each(paths, texts)]
        return {
            "seconds": time.perf_counter() - start,
            "logits": np.stack([p.logits for p in found]),
            "timings": {k: sum(p.timings[k] for p in found) for k in found[0].timings},
            "compiled": self._predictor.compiled,
        }


class TorchSide:
    """The same model as a loop of PyTorch."""

    def __init__(self, sizes, tokenizer: str, weights: str, batch_size: int):
        from transformers import AutoTokenizer

        torch.set_num_threads(os.cpu_count())
        self._model = train_step.torch_model(sizes).eval()
        with np.load(weights) as params:
            torch_mmer.load_flax(self._model, dict(params))
        self._tokenizer = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
        self._batch_size = batch_size

    def predict(self, paths, texts, batch_size: int | None = None) -> dict:
        """Seconds and logits [n, c]."""
        start, logits = time.perf_counter(), []
        size = batch_size or self._batch_size
        for at in range(0, len(paths), size):
            given = None if texts is None else texts[at : at + size]
            logits.append(self._batch(paths[at : at + size], given))
        return {"seconds": time.perf_counter() - start, "logits": np.concatenate(logits)}

    def _batch(self, paths, texts):
        waves = [
            preprocessing.normalize(soundfile.read(path, dtype="float32")[0]) for path in paths
        ]
        padded, lengths = preprocessing.pad(waves, max(map(len, waves)))
        with torch.inference_mode():
            heard = self._model.hear(torch.from_numpy(padded), torch.from_numpy(lengths))
            texts = self._written(*heard) if texts is None else texts
            tokens = self._tokenizer(
                texts, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
            )
            fused = self._model.read(*heard, tokens["input_ids"], tokens["attention_mask"])
            return self._model.emotion(fused).numpy()

    def _written(self, frames, mask):
        best = self._model.ctc(frames).argmax(-1)
        found = [torch.unique_consecutive(row[kept]) for row, kept in zip(best, mask)]
        return [text.clean(text.ctc_text(row.tolist()).lower()) for row in found]


def write_files(folder: pathlib.Path, count: int, rng) -> tuple[list[str], list[str], np.ndarray]:
    """Paths of 16-bit wavs of noise, words for each, and their seconds."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(VOCABULARY)]
    seconds, _ = train_step.draw_lengths(count, rng)
    paths, texts = [], []
    for i, length in enumerate(seconds):
        paths.append(str(folder / f"{i:05d}.wav"))
        noise = rng.normal(0, 3000, int(length * train_step.RATE)).astype(np.int16)
        soundfile.write(paths[-1], noise, train_step.RATE)
        texts.append(" ".join(rng.choice(words, max(1, round(length * WORDS_PER_SECOND)))))
    return paths, texts, seconds


def write_tokenizer(folder: str, texts) -> None:
    """A byte-pair tokenizer as RoBERTa has it, small, in HF's format."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    trained = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    trained.train_from_iterator(texts, VOCABULARY, special_tokens=special, show_progress=False)
    os.makedirs(folder)
    RobertaTokenizerFast(*trained.save_model(folder)).save_pretrained(folder)


def measure(sizes, count: int, parts: int, batch_size: int, given: bool, keep: bool) -> dict:
    """Seconds of both sides for all recordings, and how far their logits are apart."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        paths, texts, seconds = write_files(folder, count, rng)
        tokenizer, weights = str(folder / "tokenizer"), str(folder / "weights.npz")
        write_tokenizer(tokenizer, texts)
        machine.progress("building both models")
        flax = Apart(FlaxSide, sizes, tokenizer, weights, keep=keep)
        texts = texts if given else None
        part = lambda values, k: values and values[k::parts]  # noqa: E731 - None stays None
        machine.progress("Flax compiles")
        few = slice(0, None, WARM_UP)
        first = flax.ask("predict", paths[few], texts and texts[few])
        theirs = Apart(TorchSide, sizes, tokenizer, weights, batch_size)
        alone = theirs.ask("predict", paths[few][:CHECKED], texts and texts[few][:CHECKED], 1)
        found = {"flax": [], "torch": []}
        for k in range(parts):
            machine.progress(f"part {k + 1} of {parts}")
            found["flax"].append(flax.ask("predict", part(paths, k), part(texts, k)))
            found["torch"].append(theirs.ask("predict", part(paths, k), part(texts, k)))
        machine.progress("")
        flax.close()
        theirs.close()
    total = {name: sum(r["seconds"] for r in runs) for name, runs in found.items()}
    timings = found["flax"][0]["timings"].keys()
    return {
        "flax_s": total["flax"], "torch_s": total["torch"],
        "ratio": total["torch"] / total["flax"], "warm_up_s": first["seconds"],
        "programs": first["compiled"], "programs_after": found["flax"][-1]["compiled"],
        "audio_s": float(seconds.sum()),
        "difference": float(np.abs(first["logits"][:CHECKED] - alone["logits"]).max()),
        "largest_logit": float(np.abs(alone["logits"]).max()),
        "timings": {k: sum(r["timings"][k] for r in found["flax"]) for k in timings},
    }  # fmt: skip


def main(argv=None) -> dict:
    """Prints the table and writes JSON; returns the results."""
    parser = machine.arguments(__doc__)
    parser.add_argument("--recordings", type=int, default=500)
    parser.add_argument("--parts", type=int, default=5, help="turns that the two sides take")
    parser.add_argument("--batch", type=int, default=8, help="recordings per batch of PyTorch")
    parser.add_argument("--no-text", action="store_true", help="the CTC head writes the text")
    parser.add_argument(
        "--give-back", action="store_true", help="freed memory goes back to the system (CPUs)"
    )
    flags = parser.parse_args(argv)
    if flags.recordings < max(flags.parts, CHECKED * WARM_UP):
        parser.error(f"--recordings must be at least {max(flags.parts, CHECKED * WARM_UP)}")
    rates = machine.rates(flags.tiny)
    print(machine.heading(rates))
    tiny = dataclasses.replace(train_step.TINY, vocabulary=VOCABULARY)
    sizes = tiny if flags.tiny else train_step.BASE
    r = measure(
        sizes, flags.recordings, flags.parts, flags.batch, not flags.no_text, not flags.give_back
    )
    rows = [
        ("PyTorch", r["torch_s"], flags.recordings / r["torch_s"], ""),
        ("Flax", r["flax_s"], flags.recordings / r["flax_s"], f"{r['ratio']:.2f}"),
    ]  # fmt: skip
    print(machine.table(("", "s", "recordings / s", "ratio"), rows))
    shares = ", ".join(f"{k} {v:.1f} s" for k, v in r["timings"].items())
    print(
        f"\n{flags.recordings} recordings, {r['audio_s']:.0f} s of audio, text "
        f"{'by the CTC head' if flags.no_text else 'given'}. Flax's time: {shares}. Programs "
        f"compiled: {r['programs']} in a warm-up of {r['warm_up_s']:.0f} s, "
        f"{r['programs_after'] - r['programs']} while the clock ran."
        f"\nThe logits of {CHECKED} recordings, batched here and alone in PyTorch, differ by "
        f"{r['difference']:.1e} at most (largest: {r['largest_logit']:.2g})."
    )
    name = "recordings_no_text" if flags.no_text else "recordings"
    everything = {"flags": vars(flags), "matmul_flops_per_s": rates} | r
    print(f"Written: {machine.write_json(flags.out, name, everything)}")
    return everything


if __name__ == "__main__":
    main()
