"""A prepared demo dataset and a config of seconds, made once for all tests."""

import os

# Before transformers, tensorflow or jax are imported anywhere.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["USE_TF"] = "0"
os.environ["USE_TORCH"] = "1"  # which the commands do without: here it is what theirs is proven by
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.expanduser("~/.cache/mmer_jax/tests"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# A train step compiles in less than half the time, and computes the same.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

import functools
import pathlib
import subprocess
import sys

import filelock
import hypothesis
import pytest
from absl import flags

ROOT = pathlib.Path(__file__).resolve().parents[1]
# grain reads a flag in its workers; without a parsed command line it raises.
flags.FLAGS.mark_as_parsed()

WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
if WORKER and hasattr(os, "sched_setaffinity"):
    # A core for each worker: in sum it does nearly twice as much as threads that share all cores.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(WORKER.removeprefix("gw")) % len(cores)]})
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

# They begin: at the end one of them would keep one worker while the other has nothing left.
LONGEST = (
    "test_ablate", "test_equality", "test_checkpoint", "test_docs", "test_training", "test_main",
    "test_refusals", "test_analyze", "test_variants", "test_parity", "test_app",
)  # fmt: skip


def pytest_addoption(parser):
    about = "points of each writer in test_faults.py, or damaged inputs of each kind in inputs/"
    parser.addoption("--points", type=int, default=3, help=f"{about} (3 and 30), and a table")


def pytest_configure(config):
    """The same inputs for everybody; others with `--hypothesis-seed=N`."""
    points = config.getoption("--points")
    hypothesis.settings.register_profile(
        "here", database=None, deadline=None, max_examples=30 if points == 3 else points,
        derandomize=config.getoption("--hypothesis-seed") is None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    hypothesis.settings.load_profile("here")


def pytest_terminal_summary(terminalreporter, config):
    guard = sys.modules.get("tests.inputs.guard")
    if guard and config.getoption("--points") != 3:
        terminalreporter.write_line("\n".join(guard.table()))


def pytest_collection_modifyitems(items):
    items.sort(key=lambda x: (*LONGEST, x.path.stem).index(x.path.stem))


def tfds_build(manual_dir, data_dir, config="emotions4"):
    """Prepares a tree as a user would."""
    subprocess.run(
        [
            *(sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build"),
            *(f"--config={config}", f"--manual_dir={manual_dir}", f"--data_dir={data_dir}"),
        ],
        cwd=ROOT / "datasets" / "iemocap",
        check=True,
        capture_output=True,
    )


def _shared(tmp_path_factory, name, make):
    """A folder that `make(folder)` fills once for all workers: only to be read."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if WORKER else base) / name
    done = folder.with_suffix(".done")
    with filelock.FileLock(folder.with_suffix(".lock")):
        if not done.exists():
            folder.mkdir()
            make(folder)
            done.touch()
    return folder


def _prepare(folder, **options):
    from mmer_jax.demo import corpus

    corpus.build(folder / "corpus", **options)
    tfds_build(folder / "corpus", folder / "tfds")


@pytest.fixture(scope="session", autouse=True)
def compiled_once():
    """Equal models share their jitted functions: tests build the same ones again and again."""
    from mmer_jax.inference import predictor
    from mmer_jax.training import step

    def shared(module, name, key):
        function, made = getattr(module, name), {}

        @functools.wraps(function)
        def once(*args, **options):
            of = key(*args, **options)
            if of not in made:
                made[of] = function(*args, **options)
            return made[of]

        setattr(module, name, once)

    def of_step(model, optimizer, config, *places):
        train = config.train.chunk_size, config.train.accumulation
        return repr((model, config.optimizer, config.losses, train, places))

    shared(predictor, "make_forward", lambda *args, **options: repr((args, options)))
    shared(step, "make_train_step", of_step)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A folder with `corpus/` (80 four-class utterances) and `tfds/`."""
    return _shared(tmp_path_factory, "prepared", lambda f: _prepare(f, per_speaker_class=2))


@pytest.fixture(scope="session")
def prepared_awkward(tmp_path_factory):
    """The same from another seed, with every awkward case of the release."""
    make = functools.partial(_prepare, per_speaker_class=2, seed=7, awkward=True)
    return _shared(tmp_path_factory, "awkward", make)


@pytest.fixture(scope="session")
def people(tmp_path_factory):
    """A data_dir with `speech_emotion/people` and `.../abroad`: see `made_corpora`."""
    from tests import made_corpora

    def make(folder):
        corpora = {"people": made_corpora.people(), "abroad": made_corpora.abroad()}
        made_corpora.prepare(folder, corpora)

    return _shared(tmp_path_factory, "people", make)


@pytest.fixture(scope="session")
def tiny_config():
    """A function: folder of `prepared` -> a config whose fold takes seconds once compiled."""

    def make(folder):
        from mmer_jax import configuration

        c = configuration.default()
        c.name = "tiny"
        c.folds = (5,)
        c.heldout_fraction = 0.2
        c.data.dir = str(folder / "tfds")
        c.data.batch_size = 8
        c.data.eval_batch_size = 8
        c.data.buckets = 1
        c.audio.family = "whisper"
        c.text.family = "bert"
        c.text.tokenizer = str(folder / "corpus" / "tokenizer")
        for size in (c.audio.size, c.text.size):
            size.width, size.layers, size.heads, size.ffn = 16, 1, 2, 16
        c.model.width, c.model.heads, c.model.ffn = 16, 2, 16
        c.optimizer.learning_rate = 1e-3
        c.train.epochs = 2
        c.train.log_every = 2
        return c

    return make


@pytest.fixture(scope="session")
def tiny_run(prepared, tiny_config, tmp_path_factory):
    """Workdir of a finished run of two folds, one epoch, held-out dialogs: only to be read."""
    from mmer_jax import main

    def make(folder):
        config = tiny_config(prepared)
        config.folds, config.train.epochs = (4, 5), 1
        main.run(config, str(folder))

    return _shared(tmp_path_factory, "tiny_run", make)


@pytest.fixture(scope="session")
def unimodal_run(prepared, tiny_config, tmp_path_factory):
    """A function: `audio` or `text` -> workdir of a finished run of it alone: only to be read."""
    from mmer_jax import configuration, main

    def make(folder):
        config = tiny_config(prepared)
        config.name, config.train.epochs = "demo_one", 1
        getattr(configuration, f"{folder.name}_only")(config)
        main.run(config, str(folder))

    return lambda modality: _shared(tmp_path_factory, modality, make)


@pytest.fixture(scope="session")
def checkpointed_run(prepared, tiny_config, tmp_path_factory):
    """Workdir of a finished run as versions before left it, with whole checkpoints: to be read."""
    from mmer_jax import main
    from mmer_jax.training import checkpoint

    def make(folder):
        config = tiny_config(prepared)
        config.train.epochs = 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(checkpoint, "write_params", lambda *_: None)
            main.run(config, str(folder))

    return _shared(tmp_path_factory, "checkpointed_run", make)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory):
    """Path of a model folder of random parameters: only to be read."""
    from tests.inference import tiny_models

    return tiny_models.written(tmp_path_factory.mktemp("tiny_model"))
