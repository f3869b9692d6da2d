"""Speed against PyTorch, or against another checkout: `python -m benchmarks.speed CASE`.

Against PyTorch (benchmarks/torch_mmer.py with Hugging Face's modules) on all cores, wav2vec2-base
and RoBERTa-base, random weights, float32:

  train       train steps on batches of one length: both views, dropout on, all losses, AdamW;
              convolutions of wav2vec2 and RoBERTa frozen, as in the authors' code
  mix         train steps over IEMOCAP's lengths: Flax in length buckets, PyTorch in random batches
              padded to their own longest
  network     logits of IEMOCAP's lengths, one view; `--batch 1` is the latency
  recordings  wav files to probabilities; `--no-text`: the CTC head writes the text first

  cached      frozen encoders, computed once or ever again: see benchmarks/cached.py

Against another checkout, any command of both:

  command --checkout ../before -- mmer_jax.main --config=configs/demo.py --workdir=WORKDIR \
    --config.train.log_every=1

WORKDIR is a new folder for each run; a training's seconds per step are the median of what its
TensorBoard files tell. Paths are relative to each checkout.

The two sides take turns, each turn in a new process, the order swapped from round to round;
compilation apart. A process is faster or some 30 % slower for as long as it lives, why is not
known: one round says little.
"""

import functools
import json
import os
import pathlib
import sys
import tempfile
import time

import jax
import numpy as np
import soundfile

from benchmarks import cached, common
from mmer_jax.data import bucketing
from mmer_jax.data.alphabet import ENGLISH
from mmer_jax.data.text import Tokenizer
from mmer_jax.inference import audio_io
from mmer_jax.inference.predictor import Predictor
from mmer_jax.models.mmer import make_forward
from mmer_jax.training import sharding
from mmer_jax.training.checkpoint_io import LoadedModel

VIEW = ("audio", "audio_length", "text_ids", "text_mask")
WORDS_PER_SECOND, MAX_TOKENS = 2.6, 128
CHECKED = 4  # recordings whose logits are compared one by one


def alternate(sides: dict, rounds: int) -> dict:
    """What each side's function returned in each round; the order is swapped round by round."""
    found = {name: [] for name in sides}
    for k in range(rounds):
        for name in list(sides) if k % 2 == 0 else reversed(list(sides)):
            common.progress(f"round {k + 1} of {rounds}: {name}")
            found[name].append(sides[name]())
    common.progress("")
    return found


def compare(found: dict) -> dict:
    """Medians over the rounds by side, and their ratios: the second side's over the first's."""
    medians = {
        name: {
            key: float(np.median([x[key] for x in rounds]))
            for key, value in rounds[0].items()
            if isinstance(value, float)
        }
        for name, rounds in found.items()
    }
    first, second = medians.values()
    ratios = {key: second[key] / first[key] for key in first if first[key] and key in second}
    return {"medians": medians, "ratios": ratios, "rounds": found}


def comparison_table(compared: dict) -> str:
    """A row per side and one of ratios."""
    sides = compared["medians"] | {"ratio": compared["ratios"]}
    keys = list(next(iter(sides.values())))
    titles = [key.replace("_", " ") for key in keys]
    rows = []
    for name, values in sides.items():
        by_round = (f"{x[keys[0]]:.3g}" for x in compared["rounds"].get(name, ()))
        rows.append([name, *(values.get(key, "") for key in keys), ", ".join(by_round)])
    return common.table(["", *titles, f"{titles[0]} by round"], rows)


class TorchSide:
    """The PyTorch model with the weights of a Flax one, trained as in the authors' code."""

    def __init__(self, trainer, params: dict):
        import torch  # here alone: the other side's process is free of it

        from benchmarks import torch_mmer

        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.manual_seed(0)
        self._torch, self._mmer, self._options = torch, torch_mmer, trainer.config.optimizer
        self.model = torch_mmer.TorchMMER.like(trainer.model, params)
        self._optimizer = torch_mmer.adamw(self.model, self._options)

    def train(self, batch: dict) -> float:
        """One step; returns the loss."""
        self.model.train()
        self.model.text_encoder.eval()
        clip_norm = self._options.clip_norm
        return self._mmer.update(self.model, self._optimizer, [batch], clip_norm=clip_norm)[0]

    def logits(self, batch: dict):
        """Of one view."""
        self.model.eval()
        given = self._mmer.tensors(batch)
        with self._torch.inference_mode():
            return self.model.emotion(self.model.fuse(*(given[k] for k in VIEW))[-1]).numpy()

    def recordings(self, preprocessor, paths, texts, size: int):
        """Logits [n, c], batches in the order of the files; `texts` None: the CTC head's."""

        def padded(examples):
            longest = max(len(x) for example in examples for x in example.values())
            bucket = bucketing.Bucket(longest, longest)
            return self._mmer.tensors(preprocessor.collate(examples, bucket))

        self.model.eval()
        found = []
        for at in range(0, len(paths), size):
            audio = padded([preprocessor.example(audio_io.read(x)) for x in paths[at : at + size]])
            with self._torch.inference_mode():
                frames, mask = self.model.encode_audio(audio["audio"], audio["audio_length"])
                words = texts[at : at + size] if texts else self._written(frames, mask)
                text = padded([preprocessor.example(text=x) for x in words])
                fused = self.model.fuse_text(frames, mask, text["text_ids"], text["text_mask"])
                found.append(self.model.emotion(fused).numpy())
        return np.concatenate(found)

    def _written(self, frames, mask):
        best = self.model.ctc(frames).argmax(-1)
        symbols = (self._torch.unique_consecutive(row[m]) for row, m in zip(best, mask))
        return [ENGLISH.decode(row.tolist()).lower() for row in symbols]


def _model(flags):
    """(trainer, vocabulary, parameters); both sides have the same ones."""
    encoders = common.tiny_encoders() if flags.tiny else common.base_encoders()
    trainer = common.make_trainer(encoders)
    return trainer, encoders[1].vocab_size, common.drawn_params(trainer.model, seed=0)


def _step(flags):
    """(batch -> loss, vocabulary, batch -> FLOPs)."""
    trainer, vocabulary, params = _model(flags)
    if flags.side == "PyTorch":
        return TorchSide(trainer, params).train, vocabulary, None
    state = trainer.initial_state(total_steps=1000, params=params)

    def step(batch):
        nonlocal state
        state, metrics = trainer.train_step(state, sharding.place(batch, trainer.mesh))
        return float(metrics["loss"])

    return (
        step,
        vocabulary,
        lambda batch: common.product_flops(trainer.train_step.function, state, batch),
    )


def train(flags) -> dict:
    """One side's seconds per step."""
    step, vocabulary, flops = _step(flags)
    lengths = [flags.seconds] * flags.batch
    batch = common.make_batch(lengths, lengths, vocabulary, np.random.default_rng(0))
    found = _measured(step, [batch], [batch] * flags.steps)
    found = {"s_per_step": float(np.median(found.pop("seconds")))} | found
    return found | ({"gflop": flops(batch) / 1e9} if flops else {})


def mix(flags) -> dict:
    """One side's seconds per utterance in a pass over the same utterances."""
    step, vocabulary, _ = _step(flags)
    batches = _batches(flags, vocabulary)
    views = ("", "aug_")
    fed = sum(b[f"{v}audio"].size for b in batches for v in views)
    real = sum(int(b[f"{v}audio_length"].sum()) for b in batches for v in views)
    return _per_utterance(flags, step, batches) | {"padding": 1 - real / fed}


def network(flags) -> dict:
    """One side's seconds per utterance, batch to logits."""
    trainer, vocabulary, params = _model(flags)
    batches = [{k: b[k] for k in VIEW} for b in _batches(flags, vocabulary)]
    if flags.side == "PyTorch":
        return _per_utterance(flags, TorchSide(trainer, params).logits, batches)
    forward, placed = make_forward(trainer.model), jax.device_put(params)
    return _per_utterance(flags, lambda batch: forward(placed, batch)["logits"], batches)


def _batches(flags, vocabulary):
    """The same utterances in the batches of a side."""
    buckets = flags.buckets if flags.side == "Flax" else None
    return common.mix_batches(flags.utterances, flags.batch, vocabulary, buckets)


def _per_utterance(flags, call, batches):
    # Flax compiles every shape before the clock starts; to PyTorch all are alike.
    shapes = list({batch["audio"].shape: batch for batch in batches}.values())
    found = _measured(call, shapes if flags.side == "Flax" else shapes[:1], batches)
    return {"s_per_utterance": sum(found.pop("seconds")) / flags.utterances} | found


def _measured(call, first, batches):
    """Seconds of each of `batches` and the processor's per batch, after a call on each of `first`.

    Raises:
      ValueError: a result is not finite.
    """
    for batch in first:
        call(batch)
    seconds, cpu = [], time.process_time()
    for batch in batches:
        took, result = common.timed(call, batch)
        seconds.append(took)
        if not np.isfinite(result).all():
            raise ValueError(f"the result is {result}")
    return {"seconds": seconds, "cpu_s": (time.process_time() - cpu) / len(batches)}


def recordings(flags) -> dict:
    """One side's seconds per recording from the file on, and the first ones' logits."""
    trainer, _, params = _model(flags)
    with tempfile.TemporaryDirectory() as folder:
        paths, texts = write_files(pathlib.Path(folder), flags.utterances, np.random.default_rng(0))
        tokenizer = write_tokenizer(f"{folder}/tokenizer", texts)
        loaded = LoadedModel(
            "benchmark", trainer.config, trainer.model, params, common.LABELS, {},
            Tokenizer(tokenizer, MAX_TOKENS), {},
        )  # fmt: skip
        if flags.side == "PyTorch":
            side = TorchSide(trainer, params)
            predict = functools.partial(side.recordings, loaded.preprocessor, size=flags.batch)
            alone = functools.partial(predict, size=1)  # for HF's group norm sees padding
        else:
            predictor = Predictor(loaded, detect_speech=False)
            predict = alone = lambda *given: np.stack([p.logits for p in predictor.predict(*given)])

        def some(which):
            return paths[which], None if flags.no_text else texts[which]

        few, everything = some(slice(None, None, 4)), some(slice(None))
        found = _measured(lambda given: predict(*given), [few], [everything])
        logits = alone(*some(slice(CHECKED))).tolist()
    [seconds], count = found["seconds"], flags.utterances
    return {"s_per_recording": seconds / count, "cpu_s": found["cpu_s"] / count, "logits": logits}


def write_files(folder: pathlib.Path, count: int, rng) -> tuple[list[str], list[str]]:
    """Paths of 16-bit wavs of noise with IEMOCAP's lengths, and words for each."""
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, rng.integers(2, 9))) for _ in range(1000)]
    paths, texts = [], []
    for i, length in enumerate(common.draw_lengths(count, rng)[0]):
        paths.append(str(folder / f"{i:05d}.wav"))
        noise = rng.normal(0, 3000, int(length * common.SAMPLE_RATE)).astype(np.int16)
        soundfile.write(paths[-1], noise, common.SAMPLE_RATE)
        texts.append(" ".join(rng.choice(words, max(1, round(length * WORDS_PER_SECOND)))))
    return paths, texts


def write_tokenizer(folder: str, texts) -> str:
    """A byte-pair tokenizer as RoBERTa has it, small, in HF's format; returns its folder."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaTokenizerFast

    trained = ByteLevelBPETokenizer()
    special, size = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"], common.TINY_VOCABULARY
    trained.train_from_iterator(texts, size, special_tokens=special, show_progress=False)
    os.makedirs(folder)
    RobertaTokenizerFast(*trained.save_model(folder)).save_pretrained(folder)
    return folder


def command(flags, folder) -> dict:
    """Seconds, peak memory and, of a training, seconds per step of a command in a checkout."""
    with tempfile.TemporaryDirectory() as workdir:
        arguments = [x.replace("WORKDIR", workdir) for x in flags.arguments]
        found = common.child(["-m", *arguments], folder)
        del found["output"]
        step = _step_seconds(pathlib.Path(workdir))
        return ({"s_per_step": step} if step else {}) | found


def _step_seconds(workdir):
    """Median seconds between the logged steps of a run; None: no training."""
    import tensorflow as tf

    times = {}
    for path in sorted(workdir.rglob("events.out.tfevents*")):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            if any(value.tag.startswith("train/") for value in event.summary.value):
                times[event.step] = event.wall_time
    passed = np.diff(list(times.values())) / np.diff(list(times))
    return float(np.median(passed)) if len(passed) else None


CASES = {"train": train, "mix": mix, "network": network, "recordings": recordings}


def _one_side(argv, side):
    found = common.child(["-m", "benchmarks.speed", *argv, "--side", side])
    return json.loads(found["output"].splitlines()[-1]) | {"peak_gib": found["peak_gib"]}


def _flags(argv):
    parser = common.parser(__doc__)
    cases = [*CASES, "cached", "command"]
    parser.add_argument("case", choices=cases, help="or --only=CASE")
    parser.add_argument("--checkout", help="folder of another checkout of this repository")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a turn")
    parser.add_argument("--batch", type=int, default=4, help="utterances per batch")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each (train)")
    parser.add_argument("--utterances", type=int, help="of a pass; default 64, 553 for cached")
    parser.add_argument("--buckets", type=int, default=4, help="of Flax (mix, network)")
    parser.add_argument("--no-text", action="store_true", help="the CTC head writes the text")
    sides = ("Flax", "PyTorch", *cached.SIDES)
    parser.add_argument("--side", choices=sides, help="measures this one alone")
    parser.add_argument("--folder", help="of the corpus of such a side (cached)")
    end = argv.index("--") if "--" in argv else len(argv)
    flags = parser.parse_args([argument.removeprefix("--only=") for argument in argv[:end]])
    flags.arguments = argv[end + 1 :]
    flags.utterances = flags.utterances or (cached.MEASURED if flags.case == "cached" else 64)
    if flags.case in ("mix", "network") and flags.utterances % flags.batch:
        parser.error("--utterances must be a multiple of --batch: both sides see whole batches")
    if [bool(flags.checkout), bool(flags.arguments)] != 2 * [flags.case == "command"]:
        parser.error("`command`, and it alone, needs --checkout and, after --, what to run")
    return flags


def main(argv=None) -> None:
    """Prints the table of a case, and writes speed_CASE.json."""
    argv = sys.argv[1:] if argv is None else argv
    flags = _flags(argv)
    if flags.side:
        measure = cached.measure if flags.case == "cached" else CASES[flags.case]
        print(json.dumps(measure(flags)))
        return
    if flags.case == "cached":

        def one_side(folder, side):
            return _one_side([*argv, "--folder", folder], side)

        common.report(flags, "speed_cached", *cached.run(flags, one_side, write_tokenizer))
        return
    if flags.case == "command":
        sides = {"here": common.ROOT, flags.checkout: os.path.abspath(flags.checkout)}
        sides = {name: functools.partial(command, flags, at) for name, at in sides.items()}
    else:
        sides = {name: functools.partial(_one_side, argv, name) for name in ("Flax", "PyTorch")}
    compared = compare(alternate(sides, flags.rounds))
    text = f"{comparison_table(compared)}\n\nMedians of {flags.rounds} alternating rounds."
    common.report(flags, f"speed_{flags.case}", compared, f"{text}{_notes(flags, compared)}")


def _notes(flags, compared):
    """What the table does not say: FLOPs against the matrix product's rate, equal logits."""
    rounds = compared["rounds"]
    if flags.case == "train":
        gflop, step = rounds["Flax"][0]["gflop"], compared["medians"]["Flax"]["s_per_step"]
        rate = common.matmul_rate(256 if flags.tiny else common.MATMUL_WIDTH) / 1e9
        return (
            f" A step is {gflop:.0f} GFLOP of products; Flax reaches {gflop / step / rate:.0%} "
            f"of the measured rate of matrix products, {rate:.0f} GFLOP/s."
        )
    if flags.case == "recordings":
        ours, theirs = (np.array(rounds[name][0]["logits"]) for name in ("Flax", "PyTorch"))
        compared["difference"] = float(np.abs(ours - theirs).max())
        return (
            f" The logits of {CHECKED} recordings differ by {compared['difference']:.1e} at most "
            f"(largest: {np.abs(theirs).max():.2g})."
        )
    return ""


if __name__ == "__main__":
    main()
