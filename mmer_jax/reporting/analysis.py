"""Plots and numbers of a finished run's analysis; its words are in `templates/report.html.j2`."""

import json

import numpy as np

from mmer_jax import configuration
from mmer_jax.losses import LOSSES
from mmer_jax.metrics import METRICS, calibration, classification
from mmer_jax.reporting import html, plots, report
from mmer_jax.runs import FoldRun, Run

ERRORS = 20  # listed
# More of a difference than rounding on another device makes: not the weights that were tested.
TOLERANCE = 0.05
CURVES = {
    "train/loss": "training: weighted sum",
    **{f"train/{k}": f"training: {loss.title} ({k.upper()})" for k, loss in LOSSES.items()},
}


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
            hardware=(run.summary and run.summary.hardware) or "not recorded",
            versions=(run.summary and run.summary.versions) or report.versions(),
            number=result.fold,
            seed=result.seed,
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
            found = [f.result.confusion for f in run.folds if f.result.fold == n]
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
        label = np.concatenate([r.labels for r in results])
        self._scaled = all(r.temperature is not None for r in results)
        plain, scaled = (
            calibration.reliability(np.concatenate([r.probabilities(s) for r in results]), label)
            for s in (False, True)
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
                    number, seed = fold.result.fold, fold.result.seed
                    curves.append(plots.Curve(number, seed, steps, values))
            if curves:
                name = f"{prefix}_{key.replace('/', '_')}"
                percent = key.removeprefix("select/") in METRICS
                self.plots[name] = plots.curves_png(title, curves, percent)
                drawn.append((name, f"{title} against step", ""))
        return drawn

    def _inside(self, features):
        from mmer_jax.reporting import embeddings  # imports jax

        result = self._fold.result
        rows, names = result.predictions, result.label_names
        points, projection = embeddings.project(features.fused, result.seed)
        speakers = [p.speaker for p in rows]
        for kind, groups, order in (
            ("emotion", [p.label for p in rows], names),
            ("speaker", speakers, sorted(set(speakers))),
        ):
            self.plots[f"map_{kind}"] = plots.map_png(points, groups, order, f"by {kind}")
        example, a = None, features.attention
        if a is not None:
            self.plots["attention"] = plots.attention_png(a.wave, a.weights, a.tokens, a.frame)
            example = next(p for p in rows if p.utterance == a.utterance)
        if features.gate is not None:
            self.plots["gate"] = plots.gate_png(features.gate, result.labels, names)
        stored = np.array([p.logits for p in rows])
        gap = float(np.abs(stored - features.logits).max())
        return {"count": len(rows), "projection": projection, "gap": gap, "example": example}


def is_synthetic(config) -> bool:
    """Whether a run's corpus is the demo's."""
    return config.data.dataset.startswith("demo") or config.name.startswith("demo")


def _titles(run):
    """Title of each curve, by its key in metrics.jsonl."""
    where = "TEST side" if run.config.selection == "original" else "held-out"
    titles = {name: metric.title for name, metric in METRICS.items()} | {"loss": "cross-entropy"}
    return CURVES | {f"select/{name}": f"{where}: {title}" for name, title in titles.items()}


def _per_fold(run, metric):
    """[seeds, folds]."""
    table = np.full((len(run.seeds), len(run.numbers)), np.nan)
    for fold in run.folds:
        at = run.seeds.index(fold.result.seed), run.numbers.index(fold.result.fold)
        table[at] = classification.rates(fold.result.confusion)[metric]
    return table


def _recall(run):
    """[seeds, c]."""
    rows = []
    for seed in run.seeds:
        matrices = [f.result.confusion for f in run.folds if f.result.seed == seed]
        rows.append(classification.rates(np.sum(matrices, axis=0))["recall"])
    return np.array(rows, float)


def errors(run: Run, seed: int) -> dict:
    """The most confident wrong predictions of one seed.

    Returns:
      `wrong` of `count` predictions, and `head` and `rows` of a table.
    """
    results = [f.result for f in run.folds if f.result.seed == seed]
    rows = [(max(p.probabilities), r.fold, p) for r in results for p in r.predictions]
    wrong = [row for row in rows if row[2].prediction != row[2].label]
    wrong.sort(key=lambda row: (-row[0], row[2].utterance))
    head = ["utterance", "fold", "speaker", "true", "predicted", "probability", "transcript"]
    table = [
        [p.utterance, fold, p.speaker, p.label, p.prediction, f"{sure:.3f}", p.transcript]
        for sure, fold, p in wrong[:ERRORS]
    ]
    if any(p.recognized is not None for _, _, p in wrong):
        head.append("CTC head")
        for row, (_, _, p) in zip(table, wrong):
            row.append(p.recognized or "(nothing)")
    return {"wrong": len(wrong), "count": len(rows), "head": head, "rows": table}


def default_utterance(fold: FoldRun) -> str:
    """Id of the correct prediction of greatest confidence, with some words if there is one.

    Where nothing is correct, of the most confident prediction.
    """
    rows = fold.result.predictions
    right = [p for p in rows if p.prediction == p.label] or rows
    words = [p for p in right if len(p.transcript.split()) >= 3] or right
    return max(words, key=lambda p: (max(p.probabilities), p.utterance)).utterance
