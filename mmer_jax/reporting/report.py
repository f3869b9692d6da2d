"""The files of a finished run: metrics, predictions, a table and plots."""

import csv
import functools
import io
import itertools
import json
import os
import platform
import re
from importlib import metadata

import jinja2
import markdown_it
import markupsafe
import numpy as np

from mmer_jax import configuration, files, plain, processes, runs
from mmer_jax.data.alphabet import Alphabet
from mmer_jax.data.prepared import natural
from mmer_jax.errors import UserError
from mmer_jax.metrics import METRICS, asr, calibration, classification, intervals, jackknife
from mmer_jax.metrics.asr import recognizer_rates
from mmer_jax.metrics.reliability import TEXT_SOURCES
from mmer_jax.reporting import plots
from mmer_jax.results import HELDOUT, FoldResult, RunResult

FILES = (runs.SUMMARY, runs.PREDICTIONS, runs.TABLE, "confusion.png", "reliability.png")
TITLES = {name: metric.title for name, metric in METRICS.items()}
BASELINES = "baselines.json"
VERSIONS = ("jax", "flax", "optax", "orbax-checkpoint", "transformers", "grain", "numpy")
MOST_PARTS = 12  # speakers in a table


def write(config, results: list[FoldResult], workdir: str, seconds: float | None, hardware: str,
          text_source: str = "gold", tested_on: dict | None = None, asr=None) -> str:  # fmt: skip
    """Writes the files of a run into `workdir`.

    Args:
      config: of the run.
      results: of its folds, of one seed or several.
      seconds: wall time of this call; folds that an earlier call finished are not in it. None:
        nothing was computed, and what results.json says of time, hardware and versions stays.
      hardware: the devices, in words.
      text_source: which words the model read, one of `TEXT_SOURCES`.
      tested_on: see `RunResult`.
      asr: the `Transcripts` that the source `asr` read; None with another one.

    Returns:
      The table of results.md.

    Raises:
      NotWritten: the workdir can't be written; has the table.
    """
    path = os.path.join(workdir, runs.SUMMARY)
    computed = {"seconds": round(seconds or 0, 1), "hardware": hardware, "versions": versions()}
    if seconds is None and files.exists(path):
        before = runs.read_summary(workdir)
        computed = {k: getattr(before, k) for k in computed}
    summary = summarize(config, results, text_source, tested_on, asr=asr, **computed)
    floors = os.path.join(workdir, BASELINES)
    known = _floors(floors) if files.exists(floors) else []
    table = markdown(summary, known)
    if processes.is_first():
        counts, bins = np.array(summary.pooled["confusion"]), summary.calibration
        content = {
            runs.SUMMARY: json.dumps(summary.to_json(), indent=2) + "\n",
            runs.PREDICTIONS: predictions_csv(results),
            runs.TABLE: table,
            "confusion.png": plots.png(plots.confusion(counts, summary.label_names)),
            "reliability.png": plots.png(
                plots.reliability(bins["reliability"], bins["reliability_scaled"])
            ),
        }
        files.replace_results(workdir, content, aligned(table))
    return table


def summarize(config, results: list[FoldResult], text_source: str = "gold",
              tested_on: dict | None = None, seconds: float = 0.0, hardware: str = "",
              versions: dict | None = None, asr=None) -> RunResult:  # fmt: skip
    """The results of a run's folds together.

    Args:
      config: of the run.
      results: of its folds, of one seed or several.
      text_source, tested_on, asr: see `write`.
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
        protocol=results[0].protocol,
        heldout=results[0].heldout,
        shared_speakers=_shared_speakers(results),
        selection=config.selection,
        refit=config.refit,
        label_names=results[0].label_names,
        folds=per_fold,
        mean={name: mean(per_fold, name) for name in METRICS},
        pooled={**classification.rates(pooled), "confusion": pooled.tolist()},
        intervals=intervals.estimate(results, same_test=tested_on is not None),
        calibration=_calibration(results),
        recognition=recognition_of(results),
        corpora=by_corpus(results),
        leakage=leakage(results),
        dataset_versions=sorted({r.dataset_version for r in results}),
        pretrained=next((r.pretrained for r in results if r.pretrained), {}),
        config=configuration.to_json(config),
        text_source=text_source,
        tested_on=tested_on,
        asr_transcripts=asr and _read_transcripts(results, asr),
        seconds=seconds,
        hardware=hardware,
        versions=versions or {},
    )


def _read_transcripts(results, asr):
    """What was read of a recogniser's transcripts, and its error rates there."""
    pairs = {p.utterance: p.transcript for r in results for p in r.predictions}
    rates = recognizer_rates(pairs.values(), [asr.texts[key] for key in pairs])
    return {"recognizer": asr.recognizer, "sha256": asr.sha256, **rates}


def _shared_speakers(results):
    shared = [r.shared_speakers for r in results]
    return None if None in shared else sorted({name for names in shared for name in names})


def _fold(result):
    names = ("fold", "name", "shared_speakers", "seed", "confusion", "chosen", "counts",
             "temperature", "text_sources", "layer_weights")  # fmt: skip
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
    by_seed = [np.mean([values[s, k] for k in shared]) for s in seeds] if shared else []
    std, std_seeds = (
        float(np.std(means, ddof=1)) if len(means) > 1 else None for means in (by_fold, by_seed)
    )
    return {"mean": float(np.mean(by_fold)), "std": std, "std_seeds": std_seeds}


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
    alphabet = Alphabet.from_json(results[0].alphabet)
    return asr.error_rates([p.transcript for p in rows], [p.recognized for p in rows], alphabet)


def by_corpus(results: list[FoldResult]) -> dict[str, dict] | None:
    """See `RunResult.corpora`."""
    corpora = [p.corpus for r in results for p in r.predictions]
    if not any(corpora):
        return None
    different = {p.utterance: p.corpus for r in results for p in r.predictions}
    found = {}
    for name in sorted({*corpora}, key=natural):
        counts = _confusion(results, [corpus == name for corpus in corpora])
        count = sum(corpus == name for corpus in different.values())
        rates = classification.rates(counts)
        found[name] = {"utterances": count, **rates, "confusion": counts.tolist()}
    return found


def leakage(results: list[FoldResult]) -> dict | None:
    """Metrics of utterances whose words occur in training, and of the others; None: not known."""
    seen = [p.seen for r in results for p in r.predictions]
    if None in seen:
        return None
    seen = np.array(seen, bool)
    parts = {"share": float(seen.mean()), "seen": None, "unseen": None}
    for name, rows in (("seen", seen), ("unseen", ~seen)):
        if rows.any():
            rates = classification.rates(_confusion(results, rows))
            parts[name] = {"count": int(rows.sum()), **rates}
    return parts


def _confusion(results, rows):
    """Confusion [c, c] of some of all predictions, a bool for each."""
    label, predicted = (
        np.concatenate([getattr(r, name) for r in results])[np.array(rows)]
        for name in ("labels", "predicted")
    )
    return classification.confusion(label, predicted, len(results[0].label_names))


def _floors(path):
    again = "Delete it, and run `python -m mmer_jax.baselines` again if its rows are wanted."
    try:
        floors = plain.read(path, again)["floors"]
        floor_rates(floors)
        return floors
    except (AttributeError, KeyError, TypeError, ValueError) as e:
        raise UserError(f"{path} is damaged ({e!r:.200}). {again}") from e


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
    if any(p.corpus for r in results for p in r.predictions):
        known.insert(0, "corpus")
    writer.writerow(["seed", "fold", *known, *(f"p_{n}" for n in names), "seen", "recognized"])
    for result in results:
        for p in result.predictions:
            row = [result.seed, result.fold, *(getattr(p, k) for k in known)]
            row += [f"{x:.6f}" for x in p.probabilities]
            seen = "" if p.seen is None else int(p.seen)
            writer.writerow([*row, seen, p.recognized or ""])
    return out.getvalue()


def markdown(summary: RunResult, floors=()) -> str:
    """The table that a paper prints, and what it was made with: `templates/results.md.j2`.

    Args:
      summary: the run's results.
      floors: see `training.baselines.measure`; those of other folds are passed over.
    """
    tested = {fold["fold"] for fold in summary.folds}
    floors = floor_rates([f for f in floors if tested <= {int(k) for k in f["confusions"]}], tested)
    estimate, names = summary.intervals, summary.label_names
    first = "model of fold" if summary.tested_on else f"test {summary.protocol}"
    head = [first, *TITLES.values(), *(f"recall {n}" for n in names)]
    rows = _interval_rows(estimate) if estimate["over"] else _part_rows(estimate["parts"])
    return environment().get_template("results.md.j2").render(
        run=summary,
        titles=TITLES,
        text_read=TEXT_SOURCES[summary.text_source],
        heldout=HELDOUT[summary.heldout],
        # Those that say more than their number.
        fold_names=list(dict.fromkeys(f["name"] for f in summary.folds if "(" in f["name"])),
        folds=len({f["fold"] for f in summary.folds}),
        fold_table=table([*head, "utterances", "epoch"], _fold_rows(summary)),
        interval_table=table(["", *TITLES.values()], rows),
        has_dash=any("-" in row for row in rows),
        corpus_table=_corpus_table(summary.corpora or {}, names),
        layer_weights=_layer_weights(summary.folds),
        floor_table=floor_table(floors) if floors else "",
        highest=max(((rates["ua"]["mean"], title) for title, rates in floors.items()),
                    default=None),
    ) + "\n"  # fmt: skip


def floor_rates(floors: list[dict], tested=None) -> dict[str, dict]:
    """Title -> metric -> mean and deviation, see `mean`, over the folds tested; None: over all."""
    rates = {}
    for floor in floors:
        per_fold = [
            {"fold": int(k), "seed": 0, **classification.rates(np.array(confusion))}
            for k, confusion in floor["confusions"].items()
            if tested is None or int(k) in tested
        ]
        rates[floor["title"]] = {name: mean(per_fold, name) for name in METRICS}
    return rates


def floor_table(rates: dict[str, dict]) -> str:
    """A Markdown table of what `floor_rates` gives."""
    rows = [[title, *(spread(r[name]) for name in METRICS)] for title, r in rates.items()]
    return table(["floor", *TITLES.values()], rows)


def _layer_weights(folds):
    """Means over folds and seeds, as texts in percent; None where there are none."""
    weights = [fold.get("layer_weights") for fold in folds]
    return None if None in weights else [percent(mean) for mean in np.mean(weights, axis=0)]


def _fold_rows(summary):
    rows, folds = [], {}
    for fold in summary.folds:
        folds.setdefault(fold["fold"], []).append(fold)
    for number, seeds in sorted(folds.items()):
        metrics = [percent(np.mean([f[name] for f in seeds])) for name in METRICS]
        recalls = classification.rates(np.sum([f["confusion"] for f in seeds], axis=0))["recall"]
        epochs = ", ".join(str(f["chosen"]["epoch"]) for f in seeds)
        tested = str(seeds[0]["counts"]["test"])
        rows.append([str(number), *metrics, *map(percent, recalls), tested, epochs])
    metrics = [spread(summary.mean[name]) for name in METRICS]
    counts = [seeds[-1]["counts"]["test"] for seeds in folds.values()]
    tested = str(counts[0] if summary.tested_on else sum(counts))
    rows.append(["all", *metrics, *map(percent, summary.pooled["recall"]), tested, ""])
    ensemble = summary.tested_on and summary.tested_on["ensemble"]
    if ensemble:
        metrics = [percent(ensemble[name]) for name in METRICS]
        rows.append(["ensemble", *metrics, *map(percent, ensemble["recall"]), tested, ""])
    return rows


def _corpus_table(corpora, label_names):
    rows = [
        [name, *(percent(rates[k]) for k in METRICS), *map(percent, rates["recall"]),
         str(rates["utterances"])]
        for name, rates in corpora.items()
    ]  # fmt: skip
    recalls = (f"recall {name}" for name in label_names)
    return table(["corpus", *TITLES.values(), *recalls, "utterances"], rows)


def _interval_rows(estimate):
    metrics = [estimate["metrics"][name] for name in METRICS]
    rows = [
        ["all test utterances", *(percent(m["value"]) for m in metrics)],
        ["95 % interval", *(bounds(m["interval"]) for m in metrics)],
    ]
    if estimate["test_to_train"]:
        larger = (m["corrected"] and m["corrected"]["interval"] for m in metrics)
        rows.append(["95 % interval (NB)", *map(bounds, larger)])
    return rows


def _part_rows(parts):
    """Speakers and seeds by themselves; the folds have a table of their own."""
    rows = {
        kind: [[f"{kind} {name}", *(percent(values[n]) for n in METRICS)]
               for name, values in parts[kind].items()]
        for kind in ("speaker", "seed")
    }  # fmt: skip
    if len(rows["speaker"]) > MOST_PARTS:
        many = f"{len(rows['speaker'])} speakers: in results.json"
        rows["speaker"] = [[many, *[""] * len(METRICS)]]
    return rows["speaker"] + (rows["seed"] if len(rows["seed"]) > 1 else [])


def percent(value) -> str:
    """0.785 -> 78.5; a dash where there is nothing."""
    return "-" if value is None else f"{100 * value:.1f}"


def spread(metric: dict) -> str:
    """Mean ± deviation over the folds, see `mean`; the mean alone for one fold."""
    text = percent(metric["mean"])
    return text if metric["std"] is None else f"{text} ± {percent(metric['std'])}"


def bounds(ends, sign: str = "") -> str:
    """`74.1 to 84.3`; a dash where there is no interval. `sign` is `+` for differences."""
    return "-" if ends is None else " to ".join(f"{100 * x:{sign}.1f}" for x in ends)


def p_value(p: float | None) -> str:
    """`0.031`; nothing where there is none."""
    return "" if p is None else "<0.001" if p < 0.0005 else f"{p:.3f}"


def table(head, rows) -> str:
    """A Markdown table."""
    lines = [head, *rows]
    lines = ["| " + " | ".join(cells) + " |" for cells in lines]
    return "\n".join([lines[0], "|" + "-|" * len(head), *lines[1:]])


def aligned(markdown: str) -> str:
    """The same with the columns of each table as wide as their widest cell, for terminals."""
    out = []
    for is_table, lines in itertools.groupby(markdown.split("\n"), lambda x: x.startswith("|")):
        lines = list(lines)
        if is_table:
            rows = [[x.strip() for x in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
            widths = [max(map(len, column)) for column in zip(*rows)]
            rows[1] = ["-" * width for width in widths]
            lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
        out += lines
    return "\n".join(out)


def explain(estimate: dict) -> str:
    """Words for what `intervals.estimate` gave: over what an interval is, or why there is none."""
    return environment().get_template("intervals.md.j2").module.explain(estimate)


def plural(count: int, name: str) -> str:
    """`1 fold`, `2 folds`."""
    return f"{count} {name}{'s' if count > 1 else ''}"


@functools.cache
def environment() -> jinja2.Environment:
    """The templates beside this file; in those of HTML everything from outside is escaped.

    Filters: `markdown` makes HTML of headings, tables and bold text, `one_line` one line of a
    paragraph, `percent` and `bounds` see there.
    """
    env = jinja2.Environment(
        loader=jinja2.PackageLoader("mmer_jax.reporting"), undefined=jinja2.StrictUndefined,
        autoescape=lambda name: not (name or "").endswith(".md.j2"), trim_blocks=True,
    )  # fmt: skip
    # Nothing else is enabled: no HTML, no links, no images.
    parser = markdown_it.MarkdownIt("zero").enable(["heading", "table", "emphasis"])
    env.filters["markdown"] = lambda text: markupsafe.Markup(parser.render(text))
    env.filters["one_line"] = lambda text: " ".join(text.split())
    env.filters |= {"percent": percent, "bounds": bounds}
    env.globals.update(table=table, plural=plural, jackknife=jackknife)
    return env
