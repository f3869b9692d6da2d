"""Whatever befalls a command, nothing is lost and nothing silently different: faults by machine.

    pytest tests/test_faults.py -m slow --points=30

draws 30 points of each writer (a fifth of them where one takes long) and prints a table, that of
docs/reliability.md. Without the option there are 3.
"""

import dataclasses
import fnmatch
import json
import os
import re
import shutil
import zlib

import numpy as np
import pytest

from mmer_jax.data.corpus import Corpus
from mmer_jax.errors import UserError
from tests import harness, system_calls
from tests.inference import odd_recordings as odd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not system_calls.available(), reason="no process can be watched here"),
]
SEED = 0
TFDS = "tensorflow_datasets.scripts.cli.main"
MOST_KILLS = 3  # of a point, one after another


def _without(*names):
    def reduced(data):
        return json.dumps({k: v for k, v in json.loads(data).items() if k not in names}).encode()

    return reduced


# Pattern -> what of a file is compared, None: nothing; each for a reason.
EXCEPTIONS = {
    # Times.
    "*log.txt": None,
    "*results.json": _without("seconds"),
    "*quality.json": _without("minutes_per_1000"),
    "*quality.html": lambda data: re.sub(rb"minutes per 1000.*?</tr>", b"", data, flags=re.S),
    "*.augment/*.jsonl": lambda data: re.sub(rb'"seconds": [\d.]+', b"", data),
    "*results.md": lambda data: re.sub(rb"[\d.]+ (s|min|h)\b", b"", data),
    # An empty file, where a kill comes between the last that is written and the end.
    "*.lock": lambda data: data or None,
    # A file for each start, with times; its scalars are compared.
    "*tensorboard/*": None,
    # What `tfds build` leaves where it is killed. It has a name of its own each time, and the
    # next one does not know of it: it is never read.
    "*/incomplete.*": None,
}


@dataclasses.dataclass(frozen=True)
class Writer:
    """A command that writes.

    Attributes:
      module: its whole name.
      arguments: function of pytest's request and the folder that it is to write below, which may
        put there what it needs.
      whole: patterns of paths below the folder: whenever it is killed, what is there is whole.
      again: share of its changes that it does again for a kill, at most; 1: it begins anew.
      once: whether it refuses to write what is there already.
      long: whether it has a fifth of the points.
    """

    module: str
    arguments: object
    whole: tuple[str, ...] = ()
    again: float = 1.0
    once: bool = False
    long: bool = False


def _tfds_build(request, root):
    corpus = request.getfixturevalue("prepared") / "corpus"
    builder = harness.ROOT / "datasets" / "iemocap"
    where = f"--manual_dir={corpus}", f"--data_dir={root / 'tfds'}"
    return ["build", builder, "--config=emotions4", *where]


def _corpus(request, root):
    return [root / "corpus", "--per-speaker-class=1"]


def _augment(request, root):
    data = request.getfixturevalue("prepared") / "tfds"
    return ["--data=iemocap", f"--data_dir={data}", "--speech=signal", "--views=1",
            f"--out={root / 'augmented'}"]  # fmt: skip


def _transcribe(request, root):
    pytest.importorskip("torch")
    from tests import tiny_whisper

    whisper = root.parent / "whisper"
    if not whisper.exists():
        tiny_whisper.save(whisper)
    data = request.getfixturevalue("prepared") / "tfds"
    return ["iemocap/emotions4", f"--data_dir={data}", f"--model={whisper}",
            f"--out={root / 'transcripts.json'}"]  # fmt: skip


def _predict(request, root):
    speech = root.parent / "speech"
    if not speech.exists():
        speech.mkdir()
        for i in range(24):
            (speech / f"{i}.wav").write_bytes(odd.encoded(odd.voice(0.3, seed=i)))
    model = request.getfixturevalue("tiny_folder")
    # Of a larger batch the last digits depend on what else is in it, and so on where it was killed.
    return [model, speech, f"--out={root / 'predictions.csv'}", "--batch-size=1"]


def _export(request, root):
    return [request.getfixturevalue("tiny_run") / "fold5", root / "model"]


def _config(request, root, **options):
    """Path of a config file, of a run that reads its data from a folder that is written too."""
    from mmer_jax import configuration

    folder = request.getfixturevalue("prepared")
    config = request.getfixturevalue("tiny_config")(folder)
    config.update_from_flattened_dict(options)
    if not (root / "data" / "iemocap").exists():
        (root / "data").mkdir(parents=True)
        (root / "data" / "iemocap").symlink_to(folder / "tfds" / "iemocap")
    config.data.dir = str(root / "data")
    beside = root.parent / "config"
    beside.mkdir(exist_ok=True)
    content = json.dumps(configuration.to_json(configuration.validate(config)))
    (beside / "config.json").write_text(content)
    return harness.config_file(beside / "config.py", beside)


def _features(request, root):
    frozen = "audio_encoder/.*", "text_encoder/.*"
    options = {"data.cache_features": True, "optimizer.frozen": frozen, "train.epochs": 0}
    return [f"--config={_config(request, root, **options)}", f"--workdir={root / 'run'}"]


def _train(request, root):
    return [f"--config={_config(request, root)}", f"--workdir={root / 'run'}"]


def _ablate(request, root):
    config = _config(request, root, **{"train.epochs": 1, "seeds": (0,)})
    return [f"--config={config}", f"--workdir={root / 'run'}", "--variants=text_only"]


_FOLD = "*/result.json", "*/params.safetensors", "*/shared/*.safetensors"
WRITERS = {
    "tfds build": Writer(TFDS, _tfds_build, ("tfds/iemocap/emotions4/2.0.0/*",)),
    "demo corpus": Writer("mmer_jax.demo.corpus", _corpus, ("corpus/*",)),
    "augment": Writer("mmer_jax.augment", _augment, ("*.wav", "*/augmented.csv"), again=0.2),
    "transcribe": Writer("mmer_jax.transcribe", _transcribe, ("transcripts.json",), again=0.3),
    "encoding": Writer("mmer_jax.main", _features, _FOLD, again=0.5),
    "predict": Writer("mmer_jax.predict", _predict, again=0.3),
    "export": Writer("mmer_jax.export", _export, ("model/*",), once=True),
    "train": Writer("mmer_jax.main", _train, _FOLD, long=True),
    "ablate": Writer("mmer_jax.ablate", _ablate, (*_FOLD, "run/ablation.*"), long=True),
}


class Trial:
    """A writer that can be started as often as one likes, and what it writes if nothing befalls it.

    Attributes:
      root: the folder that it writes below.
      count: changes that it makes there.
      points, few: how many are to be tried, and a third of them.
    """

    def __init__(self, name, request, folder):
        self.name, self.writer, self.root = name, WRITERS[name], folder / "root"
        self._request = request
        points = request.config.getoption("points")
        self.points = max(1, points // 5) if self.writer.long else points
        self.few = -(-self.points // 3)  # of what takes longer than a kill
        self.verbose = points != 3
        self.reset()
        done = self.start(watch={})
        assert done.returncode == 0, done.stderr
        self.count = done.changes
        self._whole, self._scalars = _content(self.root), _scalars(self.root)

    def places(self, fault, words):
        """Of a third of the points, each from the beginning: what it is called, and the change."""
        rng = self.random(fault)
        for point in range(self.few):
            self.reset()
            at = int(rng.integers(1, self.count + 1))
            yield f"{self.name}, point {point}, {words} {at} of {self.count}", at

    def random(self, purpose):
        """A generator that gives the same whichever tests run."""
        return np.random.default_rng([SEED, zlib.crc32(f"{self.name} {purpose}".encode())])

    def reset(self):
        """As before the first start."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        self._arguments = self.writer.arguments(self._request, self.root)

    def start(self, watch=None, **faults):
        """The finished command; `watch` as for `Watch`, without its root."""
        if watch is not None:
            watch = {"root": str(self.root), **watch}
        return harness.faulty_command(self.writer.module, *self._arguments, watch=watch, **faults)

    def check_end(self, done, where):
        """After a start that nothing befell all is as if nothing had befallen any."""
        is_there = self.writer.once and "exists and is not empty" in done.stderr
        assert done.returncode == 0 or is_there, f"{where}: {done.stderr}"
        assert self.is_quiet(done), f"{where}: {done.stderr}"
        found = _content(self.root)
        differing = {p for p in found | self._whole if found.get(p) != self._whole.get(p)}
        assert not differing, f"{where}: {sorted(differing)}"
        assert _scalars(self.root) == self._scalars, where

    def check_whole(self, where):
        """What is there under its own name is there whole."""
        for path, content in _content(self.root).items():
            if any(fnmatch.fnmatch(path, pattern) for pattern in self.writer.whole):
                assert content == self._whole[path], f"{where}: {path}"

    def is_quiet(self, done):
        """Whether it is without a traceback; tfds' own are not ours."""
        return "Traceback" not in done.stdout + done.stderr or self.writer.module == TFDS

    def check_message(self, done, where, *words):
        """It said why it ended, once."""
        said = f"{where}: {done.stderr}"
        assert done.returncode == 1 and self.is_quiet(done), said
        if self.writer.module != TFDS:
            # A library's words in it may be an error's as well.
            assert len(re.findall("^error: ", done.stderr, re.MULTILINE)) == 1, said
        assert all(word in done.stderr for word in words), said

    def row(self, capsys, fault, points, hits, again=""):
        """A row of the table, where one was asked for: what it says is 0 differing files."""
        if self.verbose:
            with capsys.disabled():
                print(f"| {self.name} | {fault} | {self.count} | {points} | {hits} | {again} | 0 |")


def _content(root):
    """Path below a folder -> bytes, of a folder None; of all but the exceptions."""
    content = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        compared = [f for pattern, f in EXCEPTIONS.items() if fnmatch.fnmatch(f"/{name}", pattern)]
        if not compared:
            content[name] = None if path.is_dir() else path.read_bytes()
        elif compared[0] and (left := compared[0](path.read_bytes())) is not None:
            content[name] = left
    return content


def _scalars(root):
    """(folder, name, step) -> value, of TensorBoard's files; a step done again has the same."""
    from tensorboard.backend.event_processing import event_file_loader
    from tensorboard.util import tensor_util

    found = {}
    for path in sorted(root.rglob("*tfevents*")):
        for event in event_file_loader.EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                key = str(path.parent.relative_to(root)), value.tag, event.step
                scalar = tensor_util.make_ndarray(value.tensor).tolist()
                assert found.setdefault(key, scalar) == scalar, key
    return found


@pytest.fixture(scope="module", params=WRITERS)
def trial(request, tmp_path_factory):
    return Trial(request.param, request, tmp_path_factory.mktemp(request.param.replace(" ", "_")))


def test_killed_anywhere_it_ends_with_the_same_bytes(trial, capsys):
    """Once or several times in a row, before a change or in the middle of a write."""
    rng, kills, changes = trial.random("kill"), 0, 0
    for point in range(trial.points):
        trial.reset()
        left, places, is_last = trial.count, [], False
        while True:
            at = 0 if is_last else int(rng.integers(1, left + 1))
            done = trial.start({"at": at, "kill": float(rng.random())})
            changes += done.changes
            if done.returncode != -9:  # it was the last, or had less to do
                break
            places.append(at)
            trial.check_whole(f"{trial.name}, point {point}, killed at {places}")
            left = max(1, left - at)
            is_last = len(places) == MOST_KILLS or rng.random() < 0.5
        kills += len(places)
        trial.check_end(done, f"{trial.name}, point {point}, killed at {places} of {trial.count}")
    again = (changes / trial.count - trial.points) / max(kills, 1)
    trial.row(capsys, "killed", trial.points, kills, f"{again:.2f}")
    assert again <= trial.writer.again


def test_a_disk_that_is_full_from_anywhere_on(trial, capsys):
    """One message; with space again it ends as if there had always been some."""
    refused = 0
    for where, at in trial.places("full disk", "full from"):
        done = trial.start({"at": at, "error": "ENOSPC"})
        if done.returncode:
            trial.check_message(done, where, "No space left on device")
            refused += 1
        trial.check_end(trial.start(), where)
    trial.row(capsys, "full disk", trial.few, refused)


def test_a_folder_that_can_not_be_written(trial):
    trial.reset()
    before = _content(trial.root)
    done = trial.start({"at": 1, "error": "EROFS"})
    trial.check_message(done, trial.name, "Read-only file system")
    assert _content(trial.root) == before


def test_two_at_once(trial, capsys):
    """A second one runs while the first stands still somewhere: refused, or the same in the end."""
    refused = 0
    for where, at in trial.places("two", "two at"):
        first = trial.start({"at": at}, beside=True)
        for done in filter(None, (first, first.second)):
            assert trial.is_quiet(done), f"{where}: {done.stderr}"
            if done.returncode:
                trial.check_message(done, where)
                refused += 1
        ended = first if first.returncode == 0 else first.second
        trial.check_end(ended, where)
    trial.row(capsys, "two at once", trial.few, refused)


@pytest.fixture(scope="module")
def training(request, tmp_path_factory):
    """The trial of a training, and a copy of its folder when its last epoch was saved."""
    folder = tmp_path_factory.mktemp("training")
    trial = Trial("train", request, folder)
    trial.reset()
    kill = "mmer_jax.training.checkpoint", "write_params", 1
    assert trial.start(kill=kill).returncode == -9
    shutil.copytree(trial.root, folder / "saved", symlinks=True)
    return trial, folder / "saved"


def _restore(trial, saved):
    shutil.rmtree(trial.root)
    shutil.copytree(saved, trial.root, symlinks=True)


def test_a_clock_that_goes_back(training):
    """While it trains, and by a day between two starts: all files are of tomorrow."""
    trial, _ = training
    rng = trial.random("clock")
    trial.reset()
    at = int(rng.integers(1, trial.count + 1))
    trial.start({"at": at, "kill": 0.5})
    for path in trial.root.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (path.stat().st_atime + 86_400,) * 2)
    done = trial.start(clock=int(rng.integers(1, 50)))
    trial.check_end(done, f"killed at {at}")


def _damage(path, rng, kind):
    data = bytearray(path.read_bytes())
    if kind == "truncated":
        path.write_bytes(data[: rng.integers(len(data))])
    else:
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        path.write_bytes(data)


def _drawn(paths, rng, request):
    """(path, kind) of damages: some of the files, or with --points all."""
    points = request.config.getoption("points")
    pairs = [(p, kind) for p in paths for kind in ("truncated", "flipped")]
    chosen = rng.permutation(len(pairs))[: points if points != 3 else 4]
    return [pairs[i] for i in sorted(chosen)]


def test_a_damaged_checkpoint(training, request, capsys):
    """It is told by name, and deleted all goes on; or what is damaged makes no difference."""
    trial, saved = training
    rng, told = trial.random("checkpoint"), 0
    files = [p.relative_to(saved) for p in sorted(saved.glob("run/fold5/checkpoints/**/*"))
             if p.is_file() and p.stat().st_size]  # fmt: skip
    drawn = _drawn(files, rng, request)
    for path, kind in drawn:
        _restore(trial, saved)
        _damage(trial.root / path, rng, kind)
        where = f"{path} {kind}"
        done = trial.start()
        if done.returncode:
            trial.check_message(done, where, "fold5/checkpoints")
            told += 1
            path, delete = re.search(
                r"checkpoint (\S+) can't.* delete (/\S+)?", done.stderr
            ).groups()
            shutil.rmtree(delete or path)
            done = trial.start()
        trial.check_end(done, where)
    trial.row(capsys, "checkpoint damaged", len(drawn), told)


def test_a_damaged_dataset(prepared, tmp_path, request, capsys):
    """It is told by name, or every utterance is as it was."""

    def read(data_dir):
        corpus = Corpus(str(data_dir))
        return corpus.label_names, [
            (u, [a.tobytes() for a in (own, *augmented)])
            for u in corpus.utterances for own, augmented in [corpus.recordings(u)]
        ]  # fmt: skip

    whole = read(prepared / "tfds")
    source = prepared / "tfds" / "iemocap"
    paths = [p.relative_to(source) for p in sorted(source.rglob("emotions4/*/*")) if p.is_file()]
    rng = np.random.default_rng(SEED)
    drawn, told, differing = _drawn(paths, rng, request), 0, []
    for i, (path, kind) in enumerate(drawn):
        shutil.copytree(source, tmp_path / str(i) / "iemocap")
        _damage(tmp_path / str(i) / "iemocap" / path, rng, kind)
        try:
            if read(tmp_path / str(i)) != whole:
                differing.append((path.name, kind))
        except UserError as e:
            assert str(tmp_path / str(i)) in str(e)
            told += 1
    assert not differing
    if request.config.getoption("points") != 3:
        with capsys.disabled():
            print(f"| dataset | damaged | {len(paths)} | {len(drawn)} | {told} | | 0 |")


@pytest.mark.parametrize("megabytes", [0, 64, 400])
def test_memory_that_is_short(training, megabytes):
    """Wherever the system gives no more addresses, nothing is lost.

    How it ends is not ours to say: native code of jax answers with an error of memory, which is one
    message, aborts, or returns nothing, which is Python's SystemError.
    """
    trial, saved = training
    _restore(trial, saved)
    trial.start(memory=megabytes)
    trial.check_end(trial.start(), f"{megabytes} MB")


@pytest.mark.parametrize("megabytes", [64, 128, 192, 256])
def test_memory_that_the_kernel_takes(training, megabytes):
    """It kills what needs more than its control group has: in the end all is the same."""
    trial, saved = training
    _restore(trial, saved)
    with harness.memory_group(megabytes) as group:
        if not group:
            pytest.skip("no control group of memory can be made here")
        done = trial.start(group=group)
    assert done.returncode == -9, done.stderr
    trial.check_end(trial.start(), f"{megabytes} MB")


CHANGES = """
import os, subprocess, sys
open("a", "wb").write(b"0123456789")
subprocess.run([sys.executable, "-S", "-c", "open('b', 'wb').write(b'0')"])
os.rename("a", "c")
open("c", "rb").read()
print("elsewhere", flush=True)
with open("c", "ab") as f: f.write(b"abcdefgh")
os.unlink("c")
"""


@pytest.mark.parametrize(
    "watch, code, left",
    [
        ({}, 0, {"b": b"0"}),
        ({"at": 2, "kill": 0.2}, -9, {"a": b"01"}),
        ({"at": 4, "kill": 0.5}, -9, {"a": b"0123456789", "b": b""}),
        ({"at": 5, "kill": 0.5}, -9, {"a": b"0123456789", "b": b"0"}),
        ({"at": 6, "kill": 0.5}, -9, {"c": b"0123456789abcd", "b": b"0"}),
        ({"at": 6, "error": "ENOSPC"}, 1, {"c": b"0123456789", "b": b"0"}),
        ({"at": 7, "error": "ENOSPC"}, 0, {"b": b"0"}),
        ({"at": 7, "error": "EROFS"}, 1, {"c": b"0123456789abcdefgh", "b": b"0"}),
    ],
)
def test_what_is_watched_is_what_is_changed(tmp_path, watch, code, left):
    """Seven changes, those of a child among them."""
    watch = {"root": str(tmp_path), **watch}
    done = harness.faulty_command("timeit", "-n1", "-r1", CHANGES, cwd=tmp_path, watch=watch)
    assert done.returncode == code, done.stderr
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == left
    assert code or done.changes == 7
