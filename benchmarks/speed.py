"""Speed against PyTorch, or against another checkout: `python -m benchmarks.speed CASE`.

Against PyTorch (benchmarks/torch_mmer.py with Hugging Face's modules) on all cores, wav2vec2-base
and RoBERTa-base, random weights, float32:

  train       train steps on batches of one length: both views, dropout on, all losses, AdamW;
              convolutions of wav2vec2 and RoBERTa frozen, as in the authors' code
  mix         train steps over IEMOCAP's lengths: Flax in length buckets, PyTorch in random batches
              padded to their own longest
  network     logits of IEMOCAP's lengths, one view; `--batch 1` is the latency
  recordings  wav files to probabilities; `--no-text`: the CTC head writes the text first

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

import numpy as np

from benchmarks import common
from mmer_jax.training import sharding

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
    keys = list(next(iter(compared["medians"].values())))
    by_round = {
        name: ", ".join(f"{x[keys[0]]:.3g}" for x in rounds)
        for name, rounds in compared["rounds"].items()
    }
    rows = [
        [name, *(median.get(key, "") for key in keys), by_round[name]]
        for name, median in compared["medians"].items()
    ]
    rows.append(["ratio", *(compared["ratios"].get(key, "") for key in keys), ""])
    titles = [key.replace("_", " ") for key in keys]
    return common.table(["", *titles, f"{titles[0]} by round"], rows)


class TorchSide:
    """The PyTorch model with the weights of a Flax one, frozen where the authors' code is."""

    def __init__(self, trainer, params: dict):
        import torch
        from flax import traverse_util
        from transformers import RobertaModel, Wav2Vec2Model

        from benchmarks import torch_mmer

        config, model = trainer.config, trainer.model
        torch.set_num_threads(len(os.sched_getaffinity(0)))
        torch.manual_seed(0)
        audio = model.audio_encoder.config
        audio = type(audio)(**audio.to_dict() | {"layerdrop": 0.0, "apply_spec_augment": False})
        self._torch, self._mmer = torch, torch_mmer
        self.model = torch_mmer.TorchMMER(
            Wav2Vec2Model(audio), RobertaModel(model.text_encoder.config), common.CLASSES,
            common.SYMBOLS, model.width, model.heads, model.ffn, model.dropout,
        )  # fmt: skip
        torch_mmer.load_flax(self.model, traverse_util.flatten_dict(params, sep="/"))
        self.model.audio_encoder.freeze_feature_encoder()  # also spares the gradient through it
        self._optimizer = torch_mmer.adamw(self.model, config.optimizer)
        self._clip_norm = config.optimizer.clip_norm

    def train(self, batch: dict) -> float:
        """One step; returns the loss."""
        self.model.train()
        self.model.text_encoder.eval()
        given = self._mmer.tensors(batch)
        self._optimizer.zero_grad()
        loss = self._mmer.losses(self.model(given), given)["total"]
        loss.backward()
        self._torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm)
        self._optimizer.step()
        return loss.item()

    def logits(self, batch: dict):
        """Of one view."""
        self.model.eval()
        given = self._mmer.tensors(batch)
        with self._torch.inference_mode():
            return self.model.emotion(self.model.fuse(*(given[k] for k in VIEW))[-1]).numpy()

    def recordings(self, tokenizer, paths, texts, size: int):
        """Logits [n, c], batches in the order of the files; `texts` None: the CTC head's."""
        import soundfile

        from mmer_jax.data import preprocessing, text

        self.model.eval()
        found, torch = [], self._torch
        for at in range(0, len(paths), size):
            files = paths[at : at + size]
            waves = [preprocessing.normalize(soundfile.read(f, dtype="float32")[0]) for f in files]
            padded, lengths = map(torch.from_numpy, preprocessing.pad(waves, max(map(len, waves))))
            with torch.inference_mode():
                frames, mask = self.model.encode_audio(padded, lengths)
                best = self.model.ctc(frames).argmax(-1)
                symbols = (torch.unique_consecutive(row[m]) for row, m in zip(best, mask))
                words = (
                    [text.clean(text.ctc_text(row.tolist()).lower()) for row in symbols]
                    if texts is None
                    else texts[at : at + size]
                )
                tokens = tokenizer(
                    words, padding=True, truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
                )
                fused = self.model.fuse_text(
                    frames, mask, tokens["input_ids"], tokens["attention_mask"]
                )
                found.append(self.model.emotion(fused).numpy())
        return np.concatenate(found)


def _model(flags):
    """(trainer, vocabulary, parameters); both sides have the same ones."""
    trainer, vocabulary = common.make_trainer(flags.tiny)
    example = common.make_batch([1.0], [1.0], vocabulary, np.random.default_rng(0))
    return trainer, vocabulary, common.drawn_params(trainer.model, example, seed=0)


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

    return step, vocabulary, lambda batch: common.flops(trainer.train_step, state, batch)


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
    import jax

    from mmer_jax.models.forward import make_forward

    trainer, vocabulary, params = _model(flags)
    batches = [{k: b[k] for k in VIEW} for b in _batches(flags, vocabulary)]
    forward, placed = make_forward(trainer.model), jax.device_put(params)
    call = lambda batch: forward(placed, batch)["logits"]  # noqa: E731
    if flags.side == "PyTorch":
        call = TorchSide(trainer, params).logits
    return _per_utterance(flags, call, batches)


def _batches(flags, vocabulary):
    """The same utterances in the batches of a side: in length buckets, or in random ones."""
    from mmer_jax.data import bucketing

    rng = np.random.default_rng(0)
    lengths = common.draw_lengths(flags.utterances, rng)
    rows = rng.permutation(flags.utterances).reshape(-1, flags.batch)
    plan = [(None, at) for at in rows]
    if flags.side == "Flax":
        samples, tokens, symbols = common.counts(np.maximum(*lengths))
        longest = int(common.LONGEST * common.SAMPLE_RATE)
        edges = bucketing.edges_by_count(samples, flags.buckets, longest)[-1]
        buckets = bucketing.make_buckets(edges, samples, tokens, symbols)
        plan = [(buckets[k], at) for k, at in bucketing.plan(samples, edges, flags.batch, rng)]
    return [
        common.make_batch(lengths[0][at], lengths[1][at], vocabulary, rng, bucket)
        for bucket, at in plan
    ]


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
        texts = None if flags.no_text else texts
        make = _torch_recordings if flags.side == "PyTorch" else _flax_recordings
        predict = make(flags, trainer, params, tokenizer)
        few = slice(0, None, 4)
        predict(paths[few], texts and texts[few])
        start, cpu = time.perf_counter(), time.process_time()
        logits = predict(paths, texts)
        found = {
            "s_per_recording": (time.perf_counter() - start) / flags.utterances,
            "cpu_s": (time.process_time() - cpu) / flags.utterances,
        }
        if flags.side == "PyTorch":  # alone, because HF's group norm sees padding
            logits = predict(paths[:CHECKED], texts and texts[:CHECKED], 1)
    return found | {"logits": logits[:CHECKED].tolist()}


def _torch_recordings(flags, trainer, params, tokenizer):
    from transformers import AutoTokenizer

    side = TorchSide(trainer, params)
    reader = AutoTokenizer.from_pretrained(tokenizer, trust_remote_code=False)
    return lambda paths, texts, size=flags.batch: side.recordings(reader, paths, texts, size)


def _flax_recordings(_, trainer, params, tokenizer):
    from mmer_jax.data import text
    from mmer_jax.inference.predictor import Predictor
    from mmer_jax.training.checkpoint_io import LoadedModel

    reader = text.Tokenizer(tokenizer, MAX_TOKENS)
    loaded = LoadedModel(
        "benchmark", trainer.config, trainer.model, params, common.LABELS, {}, reader, {}
    )
    predictor = Predictor(loaded, detect_speech=False)
    return lambda paths, texts: np.stack(
        [p.logits for _, p in predictor.predict_each(paths, texts)]
    )


def write_files(folder: pathlib.Path, count: int, rng) -> tuple[list[str], list[str]]:
    """Paths of 16-bit wavs of noise with IEMOCAP's lengths, and words for each."""
    import soundfile

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

    files = sorted(map(str, workdir.rglob("events.out.tfevents*")))
    events = [e for f in files for e in tf.compat.v1.train.summary_iterator(f)]
    steps = {
        e.step: e.wall_time
        for e in events
        if any(value.tag.startswith("train/") for value in e.summary.value)
    }
    passed = np.diff(list(steps.values())) / np.diff(list(steps))
    return float(np.median(passed)) if len(passed) else None


CASES = {"train": train, "mix": mix, "network": network, "recordings": recordings}


def _one_side(argv, side):
    found = common.child(["-m", "benchmarks.speed", *argv, "--side", side])
    return json.loads(found["output"].splitlines()[-1]) | {"peak_gib": found["peak_gib"]}


def _flags(argv):
    parser = common.parser(__doc__)
    parser.add_argument("case", choices=[*CASES, "command"])
    parser.add_argument("--checkout", help="folder of another checkout of this repository")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each side")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a turn")
    parser.add_argument("--batch", type=int, default=4, help="utterances per batch")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each (train)")
    parser.add_argument("--utterances", type=int, default=64, help="of a pass (all but train)")
    parser.add_argument("--buckets", type=int, default=4, help="of Flax (mix, network)")
    parser.add_argument("--no-text", action="store_true", help="the CTC head writes the text")
    parser.add_argument("--side", choices=("Flax", "PyTorch"), help="measures this one alone")
    end = argv.index("--") if "--" in argv else len(argv)
    flags = parser.parse_args(argv[:end])
    flags.arguments = argv[end + 1 :]
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
        print(json.dumps(CASES[flags.case](flags)))
        return
    if flags.case == "command":
        sides = {"here": None, flags.checkout: os.path.abspath(flags.checkout)}
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
            f" A step is {gflop:.0f} GFLOP by XLA's count; Flax reaches {gflop / step / rate:.0%} "
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
