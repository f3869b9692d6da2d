"""The files of a finished run: results.json, predictions.csv, results.md, confusion.png."""

import csv
import io
import json
import os
import platform
from importlib import metadata

import numpy as np

from mmer_jax import configuration, processes
from mmer_jax.evaluation import metrics, plots
from mmer_jax.files import replace_file

RATES = ("wa", "ua", "macro_f1", "weighted_f1")
TITLES = {"wa": "WA", "ua": "UA", "macro_f1": "macro-F1", "weighted_f1": "weighted F1"}
VERSIONS = ("jax", "flax", "optax", "orbax-checkpoint", "transformers", "grain", "numpy")


def write(config, results: list[dict], workdir: str, seconds: float, hardware: str) -> str:
    """Writes the four files into `workdir`.

    Args:
      config: of the run.
      results: what `cross_validation.run` returned.
      seconds: wall time of this call; folds that an earlier call finished are not in it.
      hardware: the devices, in words.

    Returns:
      The table of results.md.
    """
    summary = summarize(config, results)
    summary |= {"seconds": round(seconds, 1), "hardware": hardware, "versions": versions()}
    table = markdown(summary)
    if not processes.is_first():
        return table
    replace_file(os.path.join(workdir, "results.json"), json.dumps(summary, indent=2) + "\n")
    replace_file(os.path.join(workdir, "predictions.csv"), predictions_csv(results))
    replace_file(os.path.join(workdir, "results.md"), table)
    picture = plots.confusion_png(np.array(summary["pooled"]["confusion"]), summary["label_names"])
    replace_file(os.path.join(workdir, "confusion.png"), picture)
    return table


def summarize(config, results: list[dict]) -> dict:
    """The content of results.json but for time, hardware and versions."""
    per_fold = [
        {"fold": r["fold"], **metrics.rates(np.array(r["confusion"])), "confusion": r["confusion"],
         "chosen": r["chosen"], "counts": r["counts"]}
        for r in results
    ]  # fmt: skip
    pooled = np.sum([r["confusion"] for r in results], axis=0)
    return {
        "name": config.name,
        "fingerprint": configuration.fingerprint(config),
        "seed": config.seed,
        "selection": config.selection,
        "label_names": results[0]["label_names"],
        "folds": per_fold,
        "mean": {name: metrics.mean_and_std([f[name] for f in per_fold]) for name in RATES},
        "pooled": {**metrics.rates(pooled), "confusion": pooled.tolist()},
        "config": configuration.to_json(config),
    }


def versions() -> dict:
    """Installed versions of what the numbers depend on."""
    return {"python": platform.python_version()} | {
        name: metadata.version(name) for name in VERSIONS
    }


def predictions_csv(results: list[dict]) -> str:
    """utterance, session, label, prediction, and a probability per class."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = results[0]["label_names"]
    writer.writerow(["utterance", "session", "label", "prediction", *(f"p_{n}" for n in names)])
    for result in results:
        for p in result["predictions"]:
            row = [p["utterance"], p["session"], p["label"], p["prediction"]]
            writer.writerow(row + [f"{x:.6f}" for x in p["probabilities"]])
    return out.getvalue()


def markdown(summary: dict) -> str:
    """The table that a paper prints, and what it was made with."""
    names = summary["label_names"]
    head = [
        "test session",
        *TITLES.values(),
        *(f"recall {n}" for n in names),
        "utterances",
        "epoch",
    ]
    rows = [_fold_row(fold) for fold in summary["folds"]]
    rows.append(_mean_row(summary["mean"], summary["pooled"]))
    lines = [f"# {summary['name']}", ""]
    lines += ["| " + " | ".join(head) + " |", "|" + "-|" * len(head)]
    lines += ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", _selection_note(summary), ""]
    lines += [
        "WA = correct / all; UA = mean of the classes' recalls. In percent; last row: mean and "
        "standard deviation over the folds, recalls over all utterances.",
        "",
        f"Seed {summary['seed']}, config {summary['fingerprint']}, {summary['hardware']}, "
        f"{summary['seconds']:.0f} s, "
        + ", ".join(f"{k} {v}" for k, v in summary["versions"].items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def _fold_row(fold):
    rates = [f"{100 * fold[name]:.1f}" for name in RATES]
    return [str(fold["fold"]), *rates, *_recalls(fold["recall"]), str(fold["counts"]["test"]),
            str(fold["chosen"]["epoch"])]  # fmt: skip


def _mean_row(mean, pooled):
    rates = [f"{100 * mean[name]['mean']:.1f} ± {100 * mean[name]['std']:.1f}" for name in RATES]
    return ["all", *rates, *_recalls(pooled["recall"]), str(int(np.sum(pooled["confusion"]))), ""]


def _recalls(values):
    return ["-" if v is None else f"{100 * v:.1f}" for v in values]


def _selection_note(summary):
    if not summary["config"]["train"]["epochs"]:
        return "Nothing was trained and no epoch chosen: this is what the run started from."
    if summary["selection"] == "published":
        return (
            "**Epoch chosen ON THE TEST SESSION** (selection=published, as the released code does):"
            " these figures are optimistic and no estimate of performance on new speakers."
        )
    return "Epoch chosen on held-out dialogs of the training sessions (selection=heldout)."
