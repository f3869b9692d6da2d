"""The sections of the analysis of a finished run, each with its pictures."""

import json

import numpy as np

from mmer_jax import configuration
from mmer_jax.losses import LOSSES
from mmer_jax.metrics import calibration, classification
from mmer_jax.reporting import html, pictures, plots, report
from mmer_jax.runs import FoldRun, Run

ERRORS = 20
CURVES = {
    "train/loss": "training: weighted sum",
    **{f"train/{k}": f"training: {loss.title} ({k.upper()})" for k, loss in LOSSES.items()},
}
RATES = {"select/ua": "UA", "select/wa": "WA", "select/loss": "cross-entropy"}


class Album:
    """Keeps each picture as a file's content and puts it into the page.

    Attributes:
      files: name -> PNG bytes.
    """

    def __init__(self):
        self.files = {}

    def add(self, name: str, png: bytes, description: str, caption: str = "") -> str:
        """HTML of a picture; `name` is its file's, without .png."""
        self.files[f"{name}.png"] = png
        return html.picture(png, description, caption)


def is_synthetic(config) -> bool:
    """Whether a run's corpus is the demo's."""
    return config.data.dataset.startswith("demo") or config.name.startswith("demo")


def introduction(run: Run, inside: FoldRun) -> str:
    """What was run, with what, and what isn't there.

    Args:
      run: all of it.
      inside: the fold whose utterances are looked into.
    """
    config, parts = run.config, []
    if is_synthetic(config):
        parts.append(html.note(
            "The corpus is synthetic: the demo's, spoken by a speech synthesiser. Everything below "
            "shows that the machinery works, and nothing about how well the model hears people."
        ))  # fmt: skip
    if run.missing:
        listed = ", ".join(f"fold {n} of seed {s}" for s, n in run.missing)
        parts.append(html.note(
            f"Not finished yet and not in any picture: {listed}. The command that began the run "
            "does the rest."
        ))  # fmt: skip
    versions = run.summary.get("versions") or report.versions()
    chosen = "the TEST side (original)" if config.selection == "original" else "held-out dialogs"
    synthetic = ", the synthetic demo" if is_synthetic(config) else ""
    pairs = [
        ("run", config.name),
        ("corpus", f"{config.data.dataset}/{config.data.emotions}{synthetic}"),
        ("modalities", " and ".join(config.model.modalities)),
        ("protocol", f"one {config.protocol} tested per fold; folds {_listed(run.numbers)}"),
        ("epoch chosen on", chosen + (", then refit" if config.refit else "")),
        ("seeds", _listed(run.seeds)),
        ("config", configuration.fingerprint(config)),
        ("looked into", f"fold {inside.result['fold']} of seed {inside.result['seed']}"),
        ("hardware", run.summary.get("hardware", "not recorded")),
        ("versions", ", ".join(f"{k} {v}" for k, v in versions.items())),
    ]
    plain = json.dumps(configuration.to_json(config), indent=2)
    return "".join(parts) + html.facts(pairs) + html.folded("All options", plain)


def _listed(values):
    return ", ".join(map(str, values))


def tables(run: Run) -> html.Section:
    """The content of results.md."""
    body = html.markdown(run.table) if run.table else html.paragraph(
        "results.md is written when all folds are finished; it is not there yet."
    )  # fmt: skip
    return html.Section("tables", "Results", body)


def confusion(run: Run, album: Album) -> html.Section:
    """Confusion matrices, of all folds together and of each."""
    names = run.label_names
    matrices = {
        n: np.sum([f.result["confusion"] for f in run.folds if f.result["fold"] == n], axis=0)
        for n in run.numbers
    }
    pooled = plots.confusion_png(sum(matrices.values()), names)
    body = album.add("confusion_pooled", pooled, "confusion matrix of all folds together")
    caption = (
        "All folds together. A row is what was meant, a column what the model took it for; the "
        "colour is the share of the row, so each row adds up to 100 %. The diagonal is right. "
        "Rows with few utterances have uncertain shares."
    )
    if len(run.seeds) > 1:
        caption += f" Every utterance counts once per seed, {len(run.seeds)} times."
    body += html.small(caption)
    if len(matrices) > 1:
        shown = [
            album.add(f"confusion_fold{n}", plots.confusion_png(m, names), f"fold {n}", f"Fold {n}")
            for n, m in matrices.items()
        ]
        body += html.pictures(shown, "Each fold by itself, read in the same way.")
    else:
        number = run.numbers[0]
        album.files[f"confusion_fold{number}.png"] = pooled
    return html.Section("confusion", "Confusions", body)


def rates(run: Run, album: Album) -> html.Section:
    """WA and UA of each fold, recall of each class."""
    found = {rate: _per_fold(run, rate) for rate in ("wa", "ua")}
    folds = pictures.fold_bars_png({k.upper(): v for k, v in found.items()}, run.numbers)
    names = run.label_names
    recall = pictures.recall_bars_png(_recall(run), names, 1 / len(names))
    spread = (
        " A bar is the mean of the seeds, its whisker their standard deviation, a dot one seed."
        if len(run.seeds) > 1
        else " One seed: nothing is said about how much chance in training moves a bar."
    )
    body = [
        album.add("folds", folds, "bars of WA and UA per fold",
                  "WA: share of right answers; UA: mean of the classes' recalls, so that each "
                  "class weighs the same. Folds differ by who speaks in them." + spread),
        album.add("recall", recall, "bars of recall per class",
                  "Recall over the utterances of all folds: of those meant so, how many were "
                  "heard so. The dotted line is guessing." + spread),
    ]  # fmt: skip
    return html.Section("rates", "Rates by fold and class", html.pictures(body))


def _per_fold(run, rate):
    """[seeds, folds]."""
    table = np.full((len(run.seeds), len(run.numbers)), np.nan)
    for i, seed in enumerate(run.seeds):
        for j, number in enumerate(run.numbers):
            fold = run.of(seed, number)
            if fold:
                table[i, j] = classification.rates(np.array(fold.result["confusion"]))[rate]
    return table


def _recall(run):
    """[seeds, c]."""
    rows = []
    for seed in run.seeds:
        matrices = [f.result["confusion"] for f in run.folds if f.result["seed"] == seed]
        rows.append(classification.rates(np.sum(matrices, axis=0))["recall"])
    return np.array(rows, float)


def reliability(run: Run, album: Album) -> html.Section:
    """The reliability diagram."""
    results = [f.result for f in run.folds]
    label = [x for r in results for x in report.labels_of(r)]
    scaled = all(r["temperature"] is not None for r in results)
    found = [
        calibration.reliability(np.array([p for r in results for p in rows(r)]), label)
        for rows in (report.probabilities_of, lambda r: report.probabilities_of(r, True))
    ]
    png = plots.reliability_png(found[0], found[1] if scaled else None)
    caption = (
        "Above: of the answers given with some confidence, how many are right. On the dotted line "
        "the model is as often right as it says; below it, it is too sure. Below: how many "
        "utterances a point stands for; points of a few utterances jump about."
    )
    if not scaled:
        caption += " No temperature is applied: nothing was held out of what the tested model saw."
    return html.Section(
        "reliability", "Reliability", album.add("reliability", png, "reliability diagram", caption)
    )


def curves(run: Run, album: Album) -> html.Section:
    """Losses and held-out rates against step."""
    where = "TEST side" if run.config.selection == "original" else "held-out"
    titles = CURVES | {k: f"{where}: {v}" for k, v in RATES.items()}
    body = _curves(run, album, titles, "curve", lambda f: f.metrics)
    if not body:
        text = "No metrics.jsonl is there, so there are no learning curves."
        return html.Section("curves", "Learning curves", html.paragraph(text))
    caption = (
        "A line per fold"
        + (" and seed" if len(run.seeds) > 1 else "")
        + ". Losses are means over the steps since the last point; the parts are unweighted, the "
        "sum is weighted as in the options. A rate that falls while its loss is still going down "
        "in training is over-fitting."
    )
    if run.config.selection == "original":
        caption += " The epoch was chosen by the rates on the TEST side: they flatter the model."
    else:
        caption += (
            " Held-out dialogs are of the training side's speakers and few: their rates are rough, "
            "and higher than those of new speakers."
        )
    again = _curves(run, album, CURVES, "refit", lambda f: f.refit)
    out = html.pictures(body, caption)
    if again:
        out += "<h3>Refit on the held-out dialogs as well</h3>" + html.pictures(again)
    return html.Section("curves", "Learning curves", out)


def _curves(run, album, titles, prefix, lines_of):
    shown = []
    for key, title in titles.items():
        found = []
        for fold in run.folds:
            points = [(line["step"], line[key]) for line in lines_of(fold) if key in line]
            if points:
                steps, values = map(list, zip(*points))
                number, seed = fold.result["fold"], fold.result["seed"]
                found.append(pictures.Curve(number, seed, steps, values))
        if found:
            png = pictures.curves_png(title, found, percent=key.endswith(("/ua", "/wa")))
            name = f"{prefix}_{key.replace('/', '_')}"
            shown.append(album.add(name, png, f"{title} against step"))
    return shown


def errors(run: Run, seed: int) -> html.Section:
    """The most confident wrong answers of one seed.

    Args:
      run: all of it.
      seed: whose answers.
    """
    folds = [f.result for f in run.folds if f.result["seed"] == seed]
    wrong = [
        (max(p["probabilities"]), r["fold"], p)
        for r in folds
        for p in r["predictions"]
        if p["prediction"] != p["label"]
    ]
    wrong.sort(key=lambda found: (-found[0], found[2]["utterance"]))
    heard = any(p["recognized"] is not None for _, _, p in wrong)
    head = ["utterance", "fold", "speaker", "true", "predicted", "probability", "transcript"]
    rows = [
        [p["utterance"], str(fold), p["speaker"], p["label"], p["prediction"], f"{sure:.3f}",
         p["transcript"], *([p["recognized"] or "(nothing)"] if heard else [])]
        for sure, fold, p in wrong[:ERRORS]
    ]  # fmt: skip
    count = sum(len(r["predictions"]) for r in folds)
    text = (
        f"{len(wrong)} of {count} answers of seed {seed} are wrong; these are the ones that the "
        "model was surest of. Each is one utterance: look here for mislabelled or cut recordings, "
        "not for how often something happens."
    )
    if heard:
        head.append("CTC head")
    elif wrong:
        text += " The model has no CTC head, so there is no transcript of its own."
    body = html.paragraph(text)
    if rows:
        body += html.table(head, rows, wide=("transcript", "CTC head"))
    return html.Section("errors", "Most confident errors", body)


def default_utterance(fold: FoldRun) -> str:
    """Id of the answer that is right with the greatest certainty, of some words if there is one.

    Where nothing is right, of the most certain answer.
    """
    rows = fold.result["predictions"]
    right = [p for p in rows if p["prediction"] == p["label"]] or rows
    words = [p for p in right if len(p["transcript"].split()) >= 3] or right
    return max(words, key=lambda p: (max(p["probabilities"]), p["utterance"]))["utterance"]
