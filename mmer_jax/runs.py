"""A run's folder, read and written without jax: config, results of folds, metrics, summary."""

import contextlib
import csv
import dataclasses
import io
import json
import math
import os
import re

import ml_collections
from absl import logging
from etils import epath

from mmer_jax import configuration, files, plain, processes
from mmer_jax.data.folds import of_dataset
from mmer_jax.errors import UserError
from mmer_jax.results import FoldResult, PredictionRow, RunResult

CONFIG, RESULT, SUMMARY, TABLE = "config.json", "result.json", "results.json", "results.md"
PREDICTIONS, METRICS, LOG = "predictions.csv", "metrics.jsonl", "log.txt"


@dataclasses.dataclass(frozen=True)
class FoldRun:
    """One finished fold of one seed.

    Attributes:
      folder: its parameters and metrics.
      config: of its seed.
      result: its result.json.
      metrics: lines of metrics.jsonl, each a dict with `step`.
      refit: those of the training on the held-out dialogs as well; empty without one.
    """

    folder: str
    config: ml_collections.ConfigDict
    result: FoldResult
    metrics: list[dict]
    refit: list[dict]


@dataclasses.dataclass(frozen=True)
class Run:
    """All finished folds of a workdir.

    Attributes:
      workdir: its path.
      config: of the run as a whole.
      folds: by seed, then by number.
      missing: (seed, number) of folds that the config asks for and that aren't finished.
      summary: results.json; None where the run never came to its end.
      table: results.md, or "".
    """

    workdir: str
    config: ml_collections.ConfigDict
    folds: tuple[FoldRun, ...]
    missing: tuple[tuple[int, int], ...]
    summary: RunResult | None
    table: str

    @property
    def seeds(self) -> list[int]:
        """Rising."""
        return sorted({f.result.seed for f in self.folds})

    @property
    def numbers(self) -> list[int]:
        """Of the folds, rising."""
        return sorted({f.result.fold for f in self.folds})

    @property
    def label_names(self) -> list[str]:
        """Of the classes, in the order of the logits."""
        return self.folds[0].result.label_names

    def of(self, seed: int, number: int) -> FoldRun | None:
        """A seed's fold; None where it isn't finished."""
        return next((f for f in self.folds if f.result.key == (seed, number)), None)


def read(workdir: str) -> Run:
    """The run in `workdir`.

    Raises:
      UserError: there is none, none of its folds is finished, or a file of it is damaged.
    """
    workdir = files.resolve(workdir)
    config = read_config(workdir)
    folds = finished_folds(workdir)
    if not folds:
        raise UserError(
            f"No fold in {workdir} is finished (no fold*/{RESULT}). Run `python -m mmer_jax.main"
            f" ... --workdir={workdir}` to its end first."
        )
    summary, table = (os.path.join(workdir, name) for name in (SUMMARY, TABLE))
    return Run(
        workdir=workdir,
        config=config,
        folds=folds,
        missing=_missing(config, folds),
        summary=read_summary(workdir) if files.exists(summary) else None,
        table=_text(table) if files.exists(table) else "",
    )


def read_results(folder: str) -> tuple[Run, list[FoldResult]]:
    """A run with the results of its folds, or with those that `evaluate` wrote into a folder of it.

    Args:
      folder: a workdir, or a folder that `mmer_jax.evaluate` wrote below one.

    Raises:
      UserError: there is neither, or a file is damaged.
    """
    folder = files.resolve(folder)
    above = os.path.dirname(folder), os.path.dirname(os.path.dirname(folder))
    workdir = next((f for f in (folder, *above) if files.exists(os.path.join(f, CONFIG))), folder)
    if workdir != folder and files.exists(os.path.join(folder, PREDICTIONS)):
        run = read(workdir)
        return run, read_evaluated(folder, run)
    run = read(folder)
    return run, [fold.result for fold in run.folds]


def read_evaluated(folder: str, run: Run) -> list[FoldResult]:
    """What `mmer_jax.evaluate` wrote of a run, as results of those folds that it tested.

    Args:
      folder: below the run's workdir.
      run: that one.

    Raises:
      UserError: its predictions are damaged.
    """
    path, by_key = os.path.join(folder, PREDICTIONS), {}
    try:
        for row in csv.DictReader(io.StringIO(files.read_text(path), newline=""), strict=True):
            by_key.setdefault((int(row["seed"]), int(row["fold"])), []).append(row)
        found = [
            _evaluated(fold.result, by_key.pop(fold.result.key))
            for fold in run.folds
            if fold.result.key in by_key
        ]
        if by_key:
            raise ValueError(f"the run has no fold {next(iter(by_key))[1]} of that seed")
        _check_counts(folder, found)
        return found
    except (AttributeError, KeyError, TypeError, ValueError, csv.Error) as e:
        raise UserError(
            f"{path} is damaged ({type(e).__name__}: {e}). Write it again: `python -m "
            f"mmer_jax.evaluate {run.workdir} ...` with the options that it was made with."
        ) from e


def _check_counts(folder, results):
    """Raises ValueError where the summary beside the predictions counts others: rows are lost."""
    if files.exists(os.path.join(folder, SUMMARY)):
        folds = read_summary(folder).folds
        counted = {(f["seed"], f["fold"]): f["counts"]["test"] for f in folds if "counts" in f}
        there = {result.key: result.counts["test"] for result in results}
        if counted and counted != there:
            raise ValueError(f"{sum(there.values())} rows, {sum(counted.values())} by {SUMMARY}")


def _evaluated(result, rows):
    said, names = {p.utterance: p.transcript for p in result.predictions}, result.label_names
    has_ctc = any(p.recognized is not None for p in result.predictions)
    predictions = []
    for row in rows:
        p = [float(row[f"p_{name}"]) for name in names]
        if not {row["label"], row["prediction"]} <= set(names) or None in row:
            raise ValueError("a class that is none of the run's, or a cell too many")
        if not all(0 <= x <= 1 for x in p) or abs(sum(p) - 1) > 1e-4:
            raise ValueError(f"probabilities {p}")
        if p[names.index(row["prediction"])] < max(p) - 1e-5:  # they have six digits
            raise ValueError(f"{row['prediction']} is not the most probable class of {p}")
        predictions.append(PredictionRow(
            **{k: row[k] for k in ("utterance", "speaker", "dialog", "label", "prediction")},
            session=int(row["session"]) if row["session"].isdecimal() else row["session"],
            probabilities=p,
            logits=[math.log(max(x, 1e-6)) for x in p],  # they were written with six digits
            seen={"0": False, "1": True, "": None}[row["seen"]],
            recognized=row["recognized"] if has_ctc else None,
            transcript=said.get(row["utterance"], ""),
            corpus=row.get("corpus", ""),
        ))  # fmt: skip
    counts = result.counts | {"test": len(predictions)}
    found = dataclasses.replace(result, predictions=predictions, counts=counts, temperature=None)
    found.check()
    return found


def finished_folds(workdir: str) -> tuple[FoldRun, ...]:
    """Every finished fold of a workdir, by seed, then by number; none where there is none.

    By what is there, not by its config: a run may have been continued with other seeds, or with
    seeds at all. A fold that is finished both ways is taken from its seed's folder.
    """
    by_key = {fold.result.key: fold for fold in map(read_fold, fold_folders(workdir))}
    return tuple(by_key[key] for key in sorted(by_key))


def fold_folders(workdir: str) -> list[str]:
    """Paths of the finished folds of a workdir, those of its seeds last; none without a workdir."""
    if not files.exists(workdir):
        return []
    folders = (f for top in (workdir, *_numbered(workdir, "seed")) for f in _numbered(top, "fold"))
    return [f for f in folders if files.exists(os.path.join(f, RESULT))]


def read_fold(folder: str) -> FoldRun:
    """The finished fold in a folder of a run, or of one of its seeds.

    Raises:
      UserError: a file of it is missing or damaged.
    """
    config = _config(os.path.dirname(folder))
    result = read_result(folder, config)
    return FoldRun(folder, config, result, metrics(folder), metrics(os.path.join(folder, "refit")))


def read_result(folder: str, config) -> FoldResult:
    """The result in a finished fold's folder.

    Raises:
      UserError: it is missing or damaged.
    """
    path = os.path.join(folder, RESULT)
    try:
        return FoldResult.from_json(_json(path), config)
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise UserError(
            f"{path} is damaged ({type(e).__name__}: {e}). Copy it again; or delete it and run "
            "`python -m mmer_jax.main` again with the same options and --workdir."
        ) from e


def read_summary(folder: str) -> RunResult:
    """The results.json in a workdir, or in a folder that `mmer_jax.evaluate` wrote.

    Raises:
      UserError: it is missing or damaged.
    """
    path = os.path.join(folder, SUMMARY)
    try:
        return RunResult.from_json(_json(path))
    except ValueError as e:
        raise UserError(
            f"{path} is damaged ({e}). Delete it and run the command that wrote it again."
        ) from e


def write_result(result: FoldResult, folder: str) -> None:
    """Writes a fold's result.json, in the first process: the fold is finished then."""
    if processes.is_first():
        files.replace_file(os.path.join(folder, RESULT), json.dumps(result.to_json()) + "\n")


def with_earlier(results: list[FoldResult], workdir: str) -> list[FoldResult]:
    """Results of folds, and of all others that are finished in their workdir, by seed and number.

    To be called when the given ones are finished, for other calls may have worked on folds of the
    same workdir meanwhile.

    Raises:
      UserError: a file of another fold is damaged.
    """
    merged = {r.key: r for r in [*(f.result for f in finished_folds(workdir)), *results]}
    return [merged[key] for key in sorted(merged)]


def listed(results: list[FoldResult]) -> str:
    """Seeds and numbers of folds, in words."""
    numbers = {}
    for seed, number in sorted(r.key for r in results):
        numbers.setdefault(seed, []).append(str(number))
    return "; ".join(
        f"seed {seed}, fold{'s' if len(which) > 1 else ''} {', '.join(which)}"
        for seed, which in numbers.items()
    )


def open_workdir(workdir: str, config):
    """Makes the workdir a home of this config, or checks that it already is.

    Its config.json names the folds and seeds of all calls so far.

    Returns:
      The config with those folds and seeds.

    Raises:
      UserError: it holds a run of another config, or can't be written.
    """
    path = os.path.join(workdir, CONFIG)
    config = config.copy_and_resolve_references()
    with writing(workdir):
        content, before = configuration.to_json(config), None
        if files.exists(path):
            before = _json(path)
            _check_same(before, content, workdir)
            config.folds = _of_all_calls(before, config, "folds", either=all)
            config.seeds = _of_all_calls(before, config, "seeds", either=any)
            content = before | {name: list(config[name]) for name in ("folds", "seeds")}
        if content != before and processes.is_first():
            try:
                files.replace_file(path, json.dumps(content, indent=2) + "\n")
            except OSError as e:
                raise UserError(
                    f"The workdir {workdir} can't be written: {e}. Name another --workdir."
                ) from e
    return config


def writing(workdir: str):
    """Calls on other folds of a workdir wait: in the block its common files are read and written.

    Else the one that read them first might write them last.
    """
    if files.is_remote(workdir) or not processes.is_first():
        return contextlib.nullcontext()
    with contextlib.suppress(OSError):  # told by what is written there
        os.makedirs(workdir, exist_ok=True)
    return files.lock(os.path.join(workdir, ".lock"))


@contextlib.contextmanager
def taken_back(workdir: str):
    """What a call that is refused wrote into a workdir is taken back, unless a fold has begun.

    Else the same command with the mistake mended would be refused, or a fold that no corpus has
    be asked for ever after.
    """
    config, log = (epath.Path(workdir, name) for name in (CONFIG, LOG))
    is_new, before = not config.exists(), config.exists() and config.read_text()
    begun = _begun(workdir)
    try:
        yield
    except UserError:
        if processes.is_first() and config.exists() and _begun(workdir) == begun:
            for folder in _numbered(workdir, "seed"):
                if not _numbered(folder, "fold"):
                    epath.Path(folder, CONFIG).unlink(missing_ok=True)
            if is_new:
                config.unlink()
                log.unlink(missing_ok=True)
            elif config.read_text() != before:
                files.replace_file(str(config), before)
        raise


def _begun(workdir):
    """Paths of folders of folds, and of the locks of those that other processes begin."""
    if not files.exists(workdir):
        return []
    folders = workdir, *_numbered(workdir, "seed")
    paths = (path for folder in folders for path in epath.Path(folder).iterdir())
    return sorted(str(path) for path in paths if re.match(r"\.?fold\d", path.name))


def _check_same(before, content, workdir):
    changed = configuration.differences(before, content)
    if changed:
        lines = "\n".join(f"  {key}: {old!r} there, {new!r} now" for key, old, new in changed)
        raise UserError(
            f"The workdir {workdir} holds a run with other options:\n{lines}\n"
            "Name another --workdir, or delete that one to start anew."
        )
    named = {name: before.get(name, []) for name in ("folds", "seeds")}  # no difference counts
    if wrong := plain.faults(named, dict.fromkeys(named, list[int])):
        raise UserError(
            f"The {CONFIG} in {workdir} has {wrong[0]}={named[wrong[0]]!r:.80}: it is damaged. "
            "Copy the run again, or name another --workdir."
        )


def _of_all_calls(before, config, name, either):
    """Numbers of an earlier call and of this one; () is all folds, but no seed of its own."""
    both = [tuple(before.get(name, ())), tuple(config[name])]
    return tuple(sorted({n for numbers in both for n in numbers})) if either(both) else ()


def _numbered(folder, prefix):
    """Folders `prefix`1, `prefix`2, ..."""
    names = (p.name for p in epath.Path(folder).iterdir() if re.fullmatch(rf"{prefix}\d+", p.name))
    in_order = sorted(names, key=lambda name: int(name.removeprefix(prefix)))
    return [os.path.join(folder, name) for name in in_order]


def read_config(workdir: str) -> ml_collections.ConfigDict:
    """The config of a run, begun or finished; raises UserError where there is none."""
    if not files.exists(os.path.join(workdir, CONFIG)):
        there = "There is no folder" if not files.exists(workdir) else f"No {CONFIG} is in"
        raise UserError(
            f"{there} {workdir}. Name the --workdir of a finished run of `python -m mmer_jax.main`:"
            " it holds config.json and folders fold1, fold2, ... or seed0, seed1, ..."
        )
    return _config(workdir)


def _config(folder):
    return configuration.from_json(_json(os.path.join(folder, CONFIG)))


def _json(path):
    """The object in a JSON file."""
    if not files.exists(path):
        raise UserError(f"{path} is missing. Copy the run's whole folder.")
    again = (
        "Delete it and run `python -m mmer_jax.main` again with the same options and --workdir; it "
        "writes what is missing."
    )
    value = plain.read(path, again)
    if not isinstance(value, dict):
        raise UserError(f"{path} holds no table of values. {again}")
    return value


def _text(path):
    try:
        return files.read_text(path)
    except UnicodeDecodeError as e:
        raise UserError(f"{path} is no text in UTF-8 ({e}): it is damaged. Delete it.") from e


def series(lines: list[dict], key: str) -> tuple[list, list] | None:
    """Steps and values of a quantity in the lines of `metrics`; None where it was never logged."""
    points = [(line["step"], line[key]) for line in lines if key in line]
    return tuple(map(list, zip(*points))) if points else None


def metrics(folder: str) -> list[dict]:
    """The whole lines of a folder's metrics.jsonl, each with its `step`; [] where there is none."""
    path = os.path.join(folder, METRICS)
    lines, damaged = [], 0
    for text in _text(path).splitlines() if files.exists(path) else ():
        with contextlib.suppress(ValueError):  # a run that was killed may have left half of one
            line = plain.parse(text)
            if isinstance(line, dict) and plain.is_kind(line.get("step"), int):
                lines.append(line)
                continue
        damaged += 1
    if damaged:
        logging.warning("%s: %d damaged lines are passed over.", path, damaged)
    return lines


def _missing(config, folds):
    """Of a config that names no folds: those of its dataset, or those that any seed finished."""
    numbers = config.folds or [f.number for f in of_dataset(config)]
    numbers = numbers or sorted({f.result.fold for f in folds})
    seeds = config.seeds or sorted({f.result.seed for f in folds})
    done = {f.result.key for f in folds}
    return tuple((s, n) for s in seeds for n in numbers if (s, n) not in done)
