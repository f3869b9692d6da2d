"""Plots and figures of a finished run's analysis; its words are in `templates/report.html.j2`."""

import json

import numpy as np

from mmer_jax import configuration
from mmer_jax.losses import LOSSES
from mmer_jax.metrics import calibration, classification
from mmer_jax.reporting import html, plots, report
from mmer_jax.runs import FoldRun, Run

ERRORS = 20  # listed
# More of a difference than rounding on another device makes: not the weights that were tested.
TOLERANCE = 0.05
CURVES = {
    "train/loss": "training: weighted sum",
    **{f"train/{k}": f"training: {loss.title} ({k.upper()})" for k, loss in LOSSES.items()},
}
METRICS = {"select/ua": "UA", "select/wa": "WA", "select/loss": "cross-entropy"}


class Analysis:
    """Draws a run's plots and makes the page that shows them.

    Args:
      run: all of it.
      fold: the one whose test utterances are examined.

    Attributes:
      plots: name, without .png -> PNG bytes.
    """

    def __init__(self, run: Run, fold: FoldRun):
        self._run, self._fold = run, fold
        self.plots = {}
        self._confusion()
        self._metrics()
        self._reliability()
        self._curves = self._draw_curves("curve", _titles(run), lambda f: f.metrics)
        self._refit_curves = self._draw_curves("refit", CURVES, lambda f: f.refit)

    def page(self, features=None, reason: str = "") -> str:
        """The HTML page; needs no other file and no network.

        Args:
          features: of the fold's test utterances, see `embeddings.extract`; None where they can't
            be computed.
          reason: why they can't.
        """
        run, result = self._run, self._fold.result
        inside = features and self._inside(features)
        return html.environment().get_template("report.html.j2").render(
            run=run,
            config=run.config,
            synthetic=is_synthetic(run.config),
            fingerprint=configuration.fingerprint(run.config),
            options=json.dumps(configuration.to_json(run.config), indent=2),
            hardware=run.summary.get("hardware", "not recorded"),
            versions=run.summary.get("versions") or report.versions(),
            number=result["fold"],
            seed=result["seed"],
            images={name: html.image(png) for name, png in self.plots.items()},
            scaled=self._scaled,
            curves=self._curves,
            refit_curves=self._refit_curves,
            inside=inside,
            tolerance=TOLERANCE,
            reason=reason,
            errors=errors(run, run.seeds[0]),
        )  # fmt: skip

    def _confusion(self):
        run, matrices = self._run, {}
        for n in run.numbers:
            found = [f.result["confusion"] for f in run.folds if f.result["fold"] == n]
            matrices[n] = np.sum(found, axis=0)
        pooled = sum(matrices.values())
        self.plots["confusion_pooled"] = plots.confusion_png(pooled, run.label_names)
        for n, matrix in matrices.items():
            self.plots[f"confusion_fold{n}"] = plots.confusion_png(matrix, run.label_names)

    def _metrics(self):
        run, names = self._run, self._run.label_names
        values = {m.upper(): _per_fold(run, m) for m in ("wa", "ua")}
        self.plots["folds"] = plots.fold_bars_png(values, run.numbers)
        self.plots["recall"] = plots.recall_bars_png(_recall(run), names, 1 / len(names))

    def _reliability(self):
        results = [f.result for f in self._run.folds]
        label = [x for r in results for x in report.labels_of(r)]
        self._scaled = all(r["temperature"] is not None for r in results)
        plain, scaled = (
            calibration.reliability(np.array([p for r in results for p in rows(r)]), label)
            for rows in (report.probabilities_of, lambda r: report.probabilities_of(r, True))
        )
        self.plots["reliability"] = plots.reliability_png(plain, scaled if self._scaled else None)

    def _draw_curves(self, prefix, titles, lines_of):
        """(plot's name, description, "") of each quantity that was logged."""
        drawn = []
        for key, title in titles.items():
            curves = []
            for fold in self._run.folds:
                points = [(line["step"], line[key]) for line in lines_of(fold) if key in line]
                if points:
                    steps, values = map(list, zip(*points))
                    number, seed = fold.result["fold"], fold.result["seed"]
                    curves.append(plots.Curve(number, seed, steps, values))
            if curves:
                name = f"{prefix}_{key.replace('/', '_')}"
                percent = key.endswith(("/ua", "/wa"))
                self.plots[name] = plots.curves_png(title, curves, percent)
                drawn.append((name, f"{title} against step", ""))
        return drawn

    def _inside(self, features):
        from mmer_jax.reporting import embeddings  # imports jax

        result = self._fold.result
        rows, names = result["predictions"], result["label_names"]
        points, projection = embeddings.project(features.fused, result["seed"])
        speakers = [p["speaker"] for p in rows]
        for kind, groups, order in (
            ("emotion", [p["label"] for p in rows], names),
            ("speaker", speakers, sorted(set(speakers))),
        ):
            self.plots[f"map_{kind}"] = plots.map_png(points, groups, order, f"by {kind}")
        example, a = None, features.attention
        if a is not None:
            self.plots["attention"] = plots.attention_png(a.wave, a.weights, a.tokens, a.frame)
            example = next(p for p in rows if p["utterance"] == a.utterance)
        if features.gate is not None:
            label = np.array(report.labels_of(result))
            self.plots["gate"] = plots.gate_png(features.gate, label, names)
        stored = np.array([p["logits"] for p in rows])
        gap = float(np.abs(stored - features.logits).max())
        return {"count": len(rows), "projection": projection, "gap": gap, "example": example}


def is_synthetic(config) -> bool:
    """Whether a run's corpus is the demo's."""
    return config.data.dataset.startswith("demo") or config.name.startswith("demo")


<<<<<<< HEAD
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
    versions = (run.summary and run.summary.versions) or report.versions()
    hardware = (run.summary and run.summary.hardware) or "not recorded"
    chosen = "the TEST side (published)" if config.selection == "published" else "held-out dialogs"
    synthetic = ", the synthetic demo" if is_synthetic(config) else ""
    pairs = [
        ("run", config.name),
        ("corpus", f"{config.data.dataset}/{config.data.emotions}{synthetic}"),
        ("modalities", " and ".join(config.model.modalities)),
        ("protocol", f"one {config.protocol} tested per fold; folds {_listed(run.numbers)}"),
        ("epoch chosen on", chosen + (", then refit" if config.refit else "")),
        ("seeds", _listed(run.seeds)),
        ("config", configuration.fingerprint(config)),
        ("looked into", f"fold {inside.result.fold} of seed {inside.result.seed}"),
        ("hardware", hardware),
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
        n: np.sum([f.result.confusion for f in run.folds if f.result.fold == n], axis=0)
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
                table[i, j] = classification.rates(fold.result.confusion)[rate]
=======
def _titles(run):
    """Title of each curve, by its key in metrics.jsonl."""
    where = "TEST side" if run.config.selection == "original" else "held-out"
    return CURVES | {key: f"{where}: {title}" for key, title in METRICS.items()}


def _per_fold(run, metric):
    """[seeds, folds]."""
    table = np.full((len(run.seeds), len(run.numbers)), np.nan)
    for fold in run.folds:
        at = run.seeds.index(fold.result["seed"]), run.numbers.index(fold.result["fold"])
        table[at] = classification.rates(np.array(fold.result["confusion"]))[metric]
>>>>>>> main
    return table


def _recall(run):
    """[seeds, c]."""
    rows = []
    for seed in run.seeds:
        matrices = [f.result.confusion for f in run.folds if f.result.seed == seed]
        rows.append(classification.rates(np.sum(matrices, axis=0))["recall"])
    return np.array(rows, float)


<<<<<<< HEAD
def reliability(run: Run, album: Album) -> html.Section:
    """The reliability diagram."""
    results = [f.result for f in run.folds]
    label = np.concatenate([r.labels for r in results])
    scaled = all(r.temperature is not None for r in results)
    found = [
        calibration.reliability(np.concatenate([r.probabilities(s) for r in results]), label)
        for s in (False, True)
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
    where = "TEST side" if run.config.selection == "published" else "held-out"
    titles = LOSSES | {k: f"{where}: {v}" for k, v in RATES.items()}
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
    if run.config.selection == "published":
        caption += " The epoch was chosen by the rates on the TEST side: they flatter the model."
    else:
        caption += (
            " Held-out dialogs are of the training side's speakers and few: their rates are rough, "
            "and higher than those of new speakers."
        )
    again = _curves(run, album, LOSSES, "refit", lambda f: f.refit)
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
                number, seed = fold.result.fold, fold.result.seed
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
    folds = [f.result for f in run.folds if f.result.seed == seed]
    wrong = [
        (max(p.probabilities), r.fold, p)
        for r in folds
        for p in r.predictions
        if p.prediction != p.label
    ]
    wrong.sort(key=lambda found: (-found[0], found[2].utterance))
    heard = any(p.recognized is not None for _, _, p in wrong)
    head = ["utterance", "fold", "speaker", "true", "predicted", "probability", "transcript"]
    rows = [
        [p.utterance, str(fold), p.speaker, p.label, p.prediction, f"{sure:.3f}",
         p.transcript, *([p.recognized or "(nothing)"] if heard else [])]
        for sure, fold, p in wrong[:ERRORS]
    ]  # fmt: skip
    count = sum(len(r.predictions) for r in folds)
    text = (
        f"{len(wrong)} of {count} answers of seed {seed} are wrong; these are the ones that the "
        "model was surest of. Each is one utterance: look here for mislabelled or cut recordings, "
        "not for how often something happens."
    )
    if heard:
=======
def errors(run: Run, seed: int) -> dict:
    """The most confident wrong predictions of one seed.

    Returns:
      `wrong` of `count` predictions, and `head` and `rows` of a table.
    """
    results = [f.result for f in run.folds if f.result["seed"] == seed]
    rows = [(max(p["probabilities"]), r["fold"], p) for r in results for p in r["predictions"]]
    wrong = [row for row in rows if row[2]["prediction"] != row[2]["label"]]
    wrong.sort(key=lambda row: (-row[0], row[2]["utterance"]))
    head = ["utterance", "fold", "speaker", "true", "predicted", "probability", "transcript"]
    table = [
        [p["utterance"], fold, p["speaker"], p["label"], p["prediction"], f"{sure:.3f}",
         p["transcript"]]
        for sure, fold, p in wrong[:ERRORS]
    ]  # fmt: skip
    if any(p["recognized"] is not None for _, _, p in wrong):
>>>>>>> main
        head.append("CTC head")
        for row, (_, _, p) in zip(table, wrong):
            row.append(p["recognized"] or "(nothing)")
    return {"wrong": len(wrong), "count": len(rows), "head": head, "rows": table}


def default_utterance(fold: FoldRun) -> str:
    """Id of the correct prediction of greatest confidence, with some words if there is one.

    Where nothing is correct, of the most confident prediction.
    """
    rows = fold.result.predictions
    right = [p for p in rows if p.prediction == p.label] or rows
    words = [p for p in right if len(p.transcript.split()) >= 3] or right
    return max(words, key=lambda p: (max(p.probabilities), p.utterance)).utterance
