"""Prepares a corpus for training: `python -m mmer_jax.prepare demo`, or iemocap, and so on.

`demo` is generated first. All are then prepared by the builders of datasets/, as `tfds build` does.
"""

import contextlib
import glob
import importlib.util
import os
import shutil
import subprocess
import sys

from mmer_jax import cli, configuration, files
from mmer_jax.errors import UserError, installing

DEMO = "build/demo"
_TAIL = 30  # lines of a log that failed


def run(dataset: str, manual_dir: str = "", data_dir: str = "", overwrite: bool = False) -> None:
    """Prepares a corpus; what the command does, for notebooks.

    Args:
      dataset: `demo`, `iemocap`, or another builder of datasets/ with its config, such as
        `speech_emotion/ravdess`.
      manual_dir: where the corpus is; of the demo where it is written, `build/demo/corpus`.
      data_dir: where the prepared dataset goes; empty: `build/demo/tfds` of the demo,
        `~/tensorflow_datasets` of others.
      overwrite: whether to prepare anew what is there.

    Raises:
      UserError: no such builder or corpus, a package is missing, or the builder failed.
    """
    if importlib.util.find_spec("tensorflow_datasets") is None:
        raise UserError(
            "Preparing a corpus needs tensorflow-datasets, which is not installed: "
            f"{installing('espeakng_loader' if dataset == 'demo' else 'apache_beam')}"
        )
    log = None
    if dataset == "demo":
        from mmer_jax.demo import corpus

        manual_dir = manual_dir or f"{DEMO}/corpus"
        data_dir = os.path.expanduser(data_dir or f"{DEMO}/tfds")
        log = data_dir.rstrip("/") + "_build.log"
        _say("== demo corpus: speech from espeak-ng in IEMOCAP's release layout ==")
        if code := corpus.main([manual_dir]):
            raise SystemExit(code)
        _say(f"== tfds build: log in {log} ==")
    elif not manual_dir:
        raise UserError("Say where the corpus is: --manual_dir=MANUAL.")
    name, _, config = configuration.whole_name("iemocap" if log else dataset).partition("/")
    folder = os.path.join(files.shipped("datasets"), name)
    if not os.path.isdir(folder):
        choices = ", ".join(sorted(p for p in os.listdir(files.shipped("datasets")) if p[0] != "_"))
        raise UserError(f"There is no builder {name}; expected demo, or one of {choices}.")
    _build(folder, config, manual_dir, data_dir or "~/tensorflow_datasets", overwrite, log)


def _build(folder, config, manual_dir, data_dir, overwrite, log):
    words = [
        *(sys.executable, "-m", "tensorflow_datasets.scripts.cli.main", "build", folder),
        f"--config={config}", f"--manual_dir={files.resolve(manual_dir)}",
        f"--data_dir={files.resolve(data_dir)}", *["--overwrite"] * overwrite,
    ]  # fmt: skip
    place, said = os.path.join(files.resolve(data_dir), os.path.basename(folder), config), ""
    with _alone(place):
        if not log:
            code = subprocess.run(words).returncode
        else:
            os.makedirs(os.path.dirname(os.path.abspath(log)), exist_ok=True)
            with open(log, "wb") as f:
                code = subprocess.run(words, stdout=f, stderr=subprocess.STDOUT).returncode
            said = "\n".join(files.read_text(log).splitlines()[-_TAIL:] if code else [])
    if code:
        print(said, file=sys.stderr)
        raise UserError(f"{config} of {os.path.basename(folder)} could not be prepared; see above.")


@contextlib.contextmanager
def _alone(place):
    """Keeps other preparations out of a dataset's folder, and deletes what killed ones left."""
    if files.is_remote(place):
        yield
        return
    os.makedirs(place, exist_ok=True)
    taken = f"Another process is preparing {place}. Wait for it, or name another --data_dir."
    with files.lock(os.path.join(place, ".lock"), taken):
        for left in glob.glob(os.path.join(glob.escape(place), "incomplete.*")):
            shutil.rmtree(left, ignore_errors=True)
        yield


def _say(text):
    print(text, flush=True)


def main(argv: list[str] | None = None) -> int:
    """The command; 1 and one message where something is wrong."""
    parser = cli.Parser(prog="python -m mmer_jax.prepare", description=__doc__)
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="demo, iemocap, speech_emotion/ravdess, "
        "speech_emotion/table, ...")  # fmt: skip
    add("--manual_dir", default="", metavar="FOLDER", help="where the corpus is (its README in "
        f"datasets/ says how); of the demo where it is written, default {DEMO}/corpus")  # fmt: skip
    add("--data_dir", default="", metavar="FOLDER", help="for the prepared dataset; default "
        f"~/tensorflow_datasets, of the demo {DEMO}/tfds")  # fmt: skip
    add("--overwrite", action="store_true", help="prepare anew what is prepared")
    args = parser.parse_args(argv)
    return cli.attempt(lambda: run(**vars(args)), "the same command prepares it anew")


if __name__ == "__main__":
    sys.exit(main())
