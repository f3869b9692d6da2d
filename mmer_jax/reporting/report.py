"""The files of a finished run: metrics, predictions, a table and plots."""

import csv
import io
import json
import os
import platform
from importlib import metadata

import numpy as np

from mmer_jax import configuration, files, processes, runs
from mmer_jax.metrics import METRICS, asr, calibration, classification, intervals, leakage
from mmer_jax.metrics.reliability import TEXT_SOURCES
from mmer_jax.reporting import plots
from mmer_jax.results import FoldResult, RunResult

TITLES = {name: metric.title for name, metric in METRICS.items()}
VERSIONS = ("jax", "flax", "optax", "orbax-checkpoint", "transformers", "grain", "numpy")


def write(config, results: list[FoldResult], workdir: str, seconds: float | None, hardware: str,
          text_source: str = "gold") -> str:  # fmt: skip
    """Writes the files of a run into `workdir`.

    Args:
      config: of the run.
      results: of its folds, of one seed or several.
      seconds: wall time of this call; folds that an earlier call finished are not in it. None:
        nothing was computed, and what results.json says of time, hardware and versions stays.
      hardware: the devices, in words.
      text_source: which words the model read, one of `TEXT_SOURCES`.

    Returns:
      The table of results.md.

    Raises:
      NotWritten: the workdir can't be written; has the table.
    """
    path = os.path.join(workdir, runs.SUMMARY)
    made = {"seconds": round(seconds or 0, 1), "hardware": hardware, "versions": versions()}
    if seconds is None and files.exists(path):
        before = json.loads(files.read_text(path))
        made = {k: before[k] for k in made}
    summary = summarize(config, results, text_source, **made)
    table = markdown(summary)
    if not processes.is_first():
        return table
    calibrated = summary.calibration
    content = {
        runs.SUMMARY: json.dumps(summary.to_json(), indent=2) + "\n",
        "predictions.csv": predictions_csv(results),
        runs.TABLE: table,
        "confusion.png": plots.confusion_png(
            np.array(summary.pooled["confusion"]), summary.label_names
        ),
        "reliability.png": plots.reliability_png(
            calibrated["reliability"], calibrated["reliability_scaled"]
        ),
    }
    files.replace_results(workdir, content, table)
    return table


FILES = ("results.json", "predictions.csv", "results.md", "confusion.png", "reliability.png")


def summarize(config, results: list[FoldResult], text_source: str = "gold", seconds: float = 0.0,
              hardware: str = "", versions: dict | None = None) -> RunResult:  # fmt: skip
    """The results of a run's folds together.

    Args:
      config: of the run.
      results: of its folds, of one seed or several.
      text_source: see `write`.
      seconds, hardware, versions: of the computation.
    """
    per_fold = [_fold(r) for r in results]
    pooled = sum(r.confusion for r in results)
    seeds = sorted({r.seed for r in results})
    return RunResult(
        name=config.name,
        fingerprint=configuration.fingerprint(config),
        seed=seeds[0] if len(seeds) == 1 else None,
        seeds=seeds,
        protocol=config.protocol,
        selection=config.selection,
        refit=config.refit,
        label_names=results[0].label_names,
        folds=per_fold,
        mean={name: mean(per_fold, name) for name in METRICS},
        pooled={**classification.rates(pooled), "confusion": pooled.tolist()},
        intervals=intervals.estimate(results),
        calibration=_calibration(results),
        recognition=recognition_of(results),
        leakage=_leakage(results),
        dataset_versions=sorted({r.dataset_version for r in results}),
        pretrained=next((r.pretrained for r in results if r.pretrained), {}),
        config=configuration.to_json(config),
        text_source=text_source,
        seconds=seconds,
        hardware=hardware,
        versions=versions or {},
    )


def _fold(result):
    names = ("fold", "name", "seed", "confusion", "chosen", "counts", "temperature", "text_sources")
    return {
        **{k: getattr(result, k) for k in names},
        "confusion": result.confusion.tolist(),
        **classification.rates(result.confusion),
        "ece": calibration.expected_calibration_error(result.probabilities(), result.labels),
    }


def mean(per_fold: list[dict], name: str) -> dict:
    """A metric's mean over folds of the mean over seeds, and its deviations.

    Args:
      per_fold: entries with `fold`, `seed` and the metric.
      name: of the metric.

    Returns:
      `mean`; `std` over the folds and `std_seeds` over the seeds' means, None for fewer than two.
    """
    values = {(f["seed"], f["fold"]): f[name] for f in per_fold}
    seeds, folds = (sorted({key[i] for key in values}) for i in (0, 1))
    by_fold = [np.mean([v for (_, k), v in values.items() if k == fold]) for fold in folds]
    shared = intervals.folds_of_all_seeds(values)
    by_seed = [np.mean([values[s, k] for k in shared]) for s in seeds] if shared else [0.0]
    return classification.mean_and_std(by_fold) | {
        "std_seeds": classification.mean_and_std(by_seed)["std"]
    }


def _calibration(results):
    label = np.concatenate([r.labels for r in results])
    out = {"temperatures": {f"{r.seed}/{r.fold}": r.temperature for r in results}}
    for scaled, suffix in ((False, ""), (True, "_scaled")):
        p = np.concatenate([r.probabilities(scaled) for r in results])
        out[f"ece{suffix}"] = calibration.expected_calibration_error(p, label)
        out[f"reliability{suffix}"] = calibration.reliability(p, label)
    if any(r.temperature is None for r in results):
        out["ece_scaled"] = out["reliability_scaled"] = None
    return out


def recognition_of(results: list[FoldResult]) -> dict | None:
    """Error rates of what the CTC head wrote; None without a trained one."""
    rows = [p for r in results for p in r.predictions]
    if any(p.recognized is None for p in rows):
        return None
    return asr.error_rates([p.transcript for p in rows], [p.recognized for p in rows])


def _leakage(results):
    seen = [p.seen for r in results for p in r.predictions]
    if None in seen:
        return None
    label = np.concatenate([r.labels for r in results])
    predicted = np.concatenate([r.predicted for r in results])
    return leakage.split_rates(seen, label, predicted, len(results[0].label_names))


def versions() -> dict:
    """Installed versions of what the numbers depend on."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in VERSIONS
    }


def predictions_csv(results: list[FoldResult]) -> str:
    """Who said it, label, prediction, a probability per class, and what the CTC head wrote."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = results[0].label_names
    known = ["utterance", "session", "speaker", "dialog", "label", "prediction"]
    writer.writerow(["seed", "fold", *known, *(f"p_{n}" for n in names), "seen", "recognized"])
    for result in results:
        for p in result.predictions:
            row = [result.seed, result.fold, *(getattr(p, k) for k in known)]
            row += [f"{x:.6f}" for x in p.probabilities]
            seen = "" if p.seen is None else int(p.seen)
            writer.writerow([*row, seen, p.recognized or ""])
    return out.getvalue()


def markdown(summary: RunResult) -> str:
    """The table that a paper prints, and what it was made with."""
    names, protocol = summary.label_names, summary.protocol
    head = [f"test {protocol}", *TITLES.values(), *(f"recall {n}" for n in names), "utterances"]
    rows = [_fold_row(summary, k) for k in sorted({f["fold"] for f in summary.folds})]
    lines = [f"# {summary.name}", "", *table([*head, "epoch"], [*rows, _mean_row(summary)])]
    lines += [
        "",
        *_source_lines(summary),
        *_dataset_lines(summary),
        _selection_note(summary),
        "",
        _legend(summary),
        "",
    ]
    lines += [*_interval_lines(summary), *_leakage_lines(summary), *_other_lines(summary)]
    seeds = ", ".join(map(str, summary.seeds))
    lines += [
        f"Seed{'s' if len(summary.seeds) > 1 else ''} {seeds}, config {summary.fingerprint}, "
        f"{summary.hardware}, {summary.seconds:.0f} s, "
        + ", ".join(f"{k} {v}" for k, v in summary.versions.items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def table(head, rows) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(head) + " |", "|" + "-|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


MOST_PARTS = 12  # speakers in a table


def percent(value) -> str:
    """0.785 -> 78.5; a dash where there is nothing."""
    return "-" if value is None else f"{100 * value:.1f}"


def _fold_row(summary, number):
    same = [f for f in summary.folds if f["fold"] == number]
    rates = [percent(np.mean([f[name] for f in same])) for name in METRICS]
    recalls = classification.rates(np.sum([f["confusion"] for f in same], axis=0))["recall"]
    epochs = ", ".join(str(f["chosen"]["epoch"]) for f in same)
    tested = str(same[0]["counts"]["test"])
    return [str(number), *rates, *map(percent, recalls), tested, epochs]


def _mean_row(summary):
    mean, pooled = summary.mean, summary.pooled
    rates = [spread(mean[name]) for name in METRICS]
    tested = sum({f["fold"]: f["counts"]["test"] for f in summary.folds}.values())
    return ["all", *rates, *map(percent, pooled["recall"]), str(tested), ""]


def spread(rate: dict) -> str:
    """Mean ± deviation over the folds, see `mean`; the mean alone for one fold."""
    text = percent(rate["mean"])
    return text if rate["std"] is None else f"{text} ± {percent(rate['std'])}"


def _legend(summary):
    folds = len({f["fold"] for f in summary.folds})
    last = f"mean ± standard deviation over the {folds} folds" if folds > 1 else "the one fold"
    text = (
        "WA = correct / all; UA = mean of the classes' recalls. In percent; last row: "
        f"{last}, recalls over all utterances."
    )
    if len(summary.seeds) > 1:
        text += f" Each row is the mean of {intervals.number_of_seeds(summary.intervals)}."
    stds = {TITLES[n]: summary.mean[n]["std_seeds"] for n in METRICS}
    if None not in stds.values():
        listed = ", ".join(f"{title} {percent(std)}" for title, std in stds.items())
        text += f" Standard deviation over the seeds' means: {listed}."
    return text


def _interval_lines(summary):
    found = summary.intervals
    head = ["", *TITLES.values()]
    rows = _interval_rows(found) if found["over"] else _part_rows(found["parts"])
    words = intervals.explain(found)
    if any("-" in row for row in rows):
        words += " A dash: no spread to go by, or a class that too few folds or speakers have."
    return [words, "", *table(head, rows), ""]


def _interval_rows(found):
    known = found["metrics"]
    rows = [_rates_row("all test utterances", {n: known[n]["value"] for n in METRICS})]
    rows += [["95 % interval", *(bounds(known[n]["interval"]) for n in METRICS)]]
    if found["test_to_train"]:
        larger = [(known[n]["corrected"] or {}).get("interval") for n in METRICS]
        rows += [["95 % interval (NB)", *map(bounds, larger)]]
    return rows


def _part_rows(parts):
    """Speakers and seeds by themselves; the folds are in the table above."""
    rows = [_rates_row(f"speaker {name}", values) for name, values in parts["speaker"].items()]
    if len(rows) > MOST_PARTS:
        rows = [[f"{len(rows)} speakers: in results.json", *[""] * len(METRICS)]]
    seeds = parts["seed"].items() if len(parts["seed"]) > 1 else ()
    return rows + [_rates_row(f"seed {seed}", values) for seed, values in seeds]


def _rates_row(title, values):
    return [title, *(percent(values[n]) for n in METRICS)]


def bounds(ends, sign: str = "") -> str:
    """`74.1 to 84.3`; a dash where there is no interval. `sign` is `+` for differences."""
    return "-" if ends is None else " to ".join(f"{100 * x:{sign}.1f}" for x in ends)


def _dataset_lines(summary):
    found = summary.dataset_versions
    if len(found) < 2:
        return []
    return [f"**The folds are of different versions of the dataset**: {', '.join(found)}.", ""]


def _leakage_lines(summary):
    found = summary.leakage
    if found is None:
        return ["Words known from training: not known, for the run started from another model.", ""]
    out = [
        f"Words known from training: {percent(found['share'])} % of the test utterances have a "
        "transcript that a training utterance has too.",
        "",
    ]
    parts = [(name, found[name]) for name in ("seen", "unseen") if found[name]]
    rows = [[n, str(f["count"]), *(percent(f[r]) for r in METRICS)] for n, f in parts]
    return [*out, *table(["transcript", "utterances", *TITLES.values()], rows), ""]


def _other_lines(summary):
    found = summary.calibration
    text = f"Expected calibration error {percent(found['ece'])} %"
    if found["ece_scaled"] is not None:
        text += (
            f", {percent(found['ece_scaled'])} % with the temperature fitted on held-out dialogs "
            f"of the training sessions{_read_there(summary)}"
        )
    elif summary.config["init_from"]:
        text += ", without a temperature, for the model begun with may know the held-out dialogs"
    elif summary.refit:
        text += ", without a temperature, for the refit trained on the held-out dialogs"
    lines = [text + " (15 bins; reliability.png).", ""]
    written = summary.recognition
    if written and written["wer"] is not None:
        lines += [
            f"The CTC head's greedy transcript: WER {percent(written['wer'])} %, CER "
            f"{percent(written['cer'])} % over {written['utterances']} utterances.",
            "",
        ]
    return lines


def _read_there(summary):
    """The words that the held-out dialogs came with when their temperature was fitted."""
    if "text" not in summary.config["model"]["modalities"]:
        return ""
    return f", read with {TEXT_SOURCES[summary.text_source]}"


def _source_lines(summary):
    source = summary.text_source
    if source == "gold":
        return []
    return [f"**Tested without transcripts**: the model read {TEXT_SOURCES[source]}.", ""]


def _selection_note(summary):
    if not summary.config["train"]["epochs"]:
        return "Nothing was trained and no epoch chosen: this is what the run started from."
    if summary.selection == "original":
        return (
            "**Epoch chosen ON THE TEST SIDE** (selection=original, as the authors' code does):"
            " these figures are optimistic and no estimate of performance on new speakers."
        )
    note = (
        "Epoch chosen on held-out dialogs of the training side (selection=heldout). Their speakers "
        "train as well, so held-out figures and temperatures are optimistic for new speakers."
    )
    if summary.refit:
        note += " Then trained anew on all of that side for as many steps (refit)."
    return note
