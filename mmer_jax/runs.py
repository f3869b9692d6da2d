"""A finished run read back from its workdir: config, results and metrics, without jax."""

import dataclasses
import json
import os
import re

import ml_collections
from etils import epath

from mmer_jax import configuration, files
from mmer_jax.data import folds as data_folds
from mmer_jax.errors import UserError
from mmer_jax.metrics import reliability


@dataclasses.dataclass(frozen=True)
class FoldRun:
    """One fold of one seed.

    Attributes:
      folder: its parameters and metrics.
      config: of its seed.
      result: see `cross_validation.run`.
      metrics: lines of metrics.jsonl, each a dict with `step`.
      refit: those of the training on the held-out dialogs as well; empty without one.
    """

    folder: str
    config: ml_collections.ConfigDict
    result: dict
    metrics: list[dict]
    refit: list[dict]


@dataclasses.dataclass(frozen=True)
class Run:
    """All folds of a workdir.

    Attributes:
      workdir: where they lie.
      config: of the run as a whole.
      folds: by seed, then by number.
      missing: (seed, number) of folds that the config asks for and that aren't finished.
      summary: results.json; {} where the run never came to its end.
      table: results.md, or "".
    """

    workdir: str
    config: ml_collections.ConfigDict
    folds: tuple[FoldRun, ...]
    missing: tuple[tuple[int, int], ...]
    summary: dict
    table: str

    @property
    def seeds(self) -> list[int]:
        """Rising."""
        return sorted({f.result["seed"] for f in self.folds})

    @property
    def numbers(self) -> list[int]:
        """Of the folds, rising."""
        return sorted({f.result["fold"] for f in self.folds})

    @property
    def label_names(self) -> list[str]:
        """Of the classes, in the order of the logits."""
        return self.folds[0].result["label_names"]

    def of(self, seed: int, number: int) -> FoldRun | None:
        """A seed's fold; None where it isn't finished."""
        wanted = (seed, number)
        return next((f for f in self.folds if _key(f.result) == wanted), None)


def read(workdir: str) -> Run:
    """The run in `workdir`.

    Raises:
      UserError: there is none, none of its folds is finished, or a file of it is damaged.
    """
    workdir = files.resolve(workdir)
    if not files.exists(os.path.join(workdir, "config.json")):
        there = "There is no folder" if not files.exists(workdir) else "No config.json is in"
        raise UserError(
            f"{there} {workdir}. Name the --workdir of a finished run of `python -m mmer_jax.main`:"
            " it holds config.json and folders fold1, fold2, ... or seed0, seed1, ..."
        )
    config = _config(workdir)
    folds = all_of(workdir)
    if not folds:
        raise UserError(
            f"No fold in {workdir} is finished (no fold*/result.json). Run `python -m mmer_jax.main"
            f" ... --workdir={workdir}` to its end first."
        )
    path = os.path.join(workdir, "results.md")
    return Run(
        workdir=workdir,
        config=config,
        folds=folds,
        missing=_missing(config, folds),
        summary=_json(os.path.join(workdir, "results.json"), {}),
        table=files.read_text(path) if files.exists(path) else "",
    )


def all_of(workdir: str) -> tuple[FoldRun, ...]:
    """Every finished fold of a workdir, by seed, then by number; none where there is none.

    By what is there, not by its config: a run may have been continued with other seeds, or with
    seeds at all. A fold that is finished both ways is taken from its seed's folder.
    """
    if not files.exists(workdir):
        return ()
    folders = [f for f in (workdir, *_numbered(workdir, "seed")) if _results(f)]
    folds = {_key(fold.result): fold for folder in folders for fold in _folds(folder)}
    return tuple(folds[key] for key in sorted(folds))


def read_fold(folder: str) -> FoldRun:
    """The finished fold in a folder `fold1`, `fold2`, ... of a run, or of one of its seeds.

    Raises:
      UserError: the folder has another name, or a file of it is missing or damaged.
    """
    folder = files.resolve(folder)
    if not re.fullmatch(r"fold\d+", os.path.basename(folder)):
        raise UserError(
            f"{folder} is not named as a fold of a run; expected a folder such as runs/demo/fold5 "
            "or runs/x/seed0/fold5. Give a copy of one that name."
        )
    return _fold(folder, _config(os.path.dirname(folder)))


def with_earlier(results: list[dict], workdir: str) -> list[dict]:
    """Results of folds, and of all others that are finished in their workdir, by seed and number.

    To be called when the given ones are finished, for other calls may have worked on folds of the
    same workdir meanwhile.

    Args:
      results: see `cross_validation.run`.
      workdir: of the run.

    Raises:
      UserError: a file of another fold is damaged.
    """
    merged = {_key(f.result): f.result for f in all_of(workdir)} | {_key(r): r for r in results}
    return [merged[key] for key in sorted(merged)]


def listed(results: list[dict]) -> str:
    """Seeds and numbers of folds, in words."""
    numbers = {}
    for seed, number in sorted(map(_key, results)):
        numbers.setdefault(seed, []).append(str(number))
    return "; ".join(
        f"seed {seed}, fold{'s' if len(which) > 1 else ''} {', '.join(which)}"
        for seed, which in numbers.items()
    )


def _key(result):
    return result["seed"], result["fold"]


def _numbered(folder, prefix):
    """Folders `prefix`1, `prefix`2, ..."""
    names = (p.name for p in epath.Path(folder).iterdir())
    return [os.path.join(folder, n) for n in names if re.fullmatch(rf"{prefix}\d+", n)]


def _results(folder):
    found = ((f, os.path.join(f, "result.json")) for f in _numbered(folder, "fold"))
    return [(f, path) for f, path in found if files.exists(path)]


def _folds(folder):
    config = _config(folder)
    return [_fold(f, config) for f, _ in _results(folder)]


def _fold(folder, config):
    result = parsed(_json(os.path.join(folder, "result.json")), config)
    return FoldRun(folder, config, result, _lines(folder), _lines(os.path.join(folder, "refit")))


def parsed(result: dict, config) -> dict:
    """A fold's result.json as this version reads it, whatever version wrote it.

    Before `text_sources` came there was one temperature, and a refit kept that of the state before.
    """
    if "text_sources" in result:
        return result
    refit = config.refit and result["chosen"]["step"]
    temperature = None if refit else result["temperature"]
    reads = "text" in config.model.modalities
    sources = reliability.of_old_run(temperature, refit, reads)
    return result | {"text_sources": sources, "temperature": temperature}


def _config(folder):
    return configuration.from_json(_json(os.path.join(folder, "config.json")))


def _json(path, otherwise=None):
    if not files.exists(path):
        if otherwise is None:
            raise UserError(f"{path} is missing. Copy the run's whole folder.")
        return otherwise
    try:
        return json.loads(files.read_text(path))
    except ValueError as e:
        raise UserError(
            f"{path} is not JSON ({e}). Delete it and run `python -m mmer_jax.main` again with the "
            "same options and --workdir; it writes what is missing."
        ) from e


def _lines(folder):
    path = os.path.join(folder, "metrics.jsonl")
    lines = files.read_text(path).splitlines() if files.exists(path) else []
    return [line for line in map(_line, lines) if line]


def _line(text):
    try:
        return json.loads(text)
    except ValueError:
        return None  # a run that was killed may have left half of one


def _missing(config, folds):
    numbers = [f.number for f in data_folds.selected(config)]
    seeds = config.seeds or sorted({f.result["seed"] for f in folds})
    done = {_key(f.result) for f in folds}
    return tuple((s, n) for s in seeds for n in numbers if (s, n) not in done)
