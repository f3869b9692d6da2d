"""Plots and numbers of a finished run's analysis; its words are in `templates/report.html.j2`."""

import json

import numpy as np

from mmer_jax import configuration
from mmer_jax.data.corpus import is_synthetic
from mmer_jax.losses import LOSSES
from mmer_jax.metrics import METRICS, calibration, classification
from mmer_jax.reporting import plots, report
from mmer_jax.results import HELDOUT
from mmer_jax.runs import FoldRun, Run

ERRORS = 20  # listed
# More of a difference than rounding on another device makes: not the weights that were tested.
TOLERANCE = 0.05
CURVES = {
    "train/loss": "training: weighted sum",
    **{f"train/{k}": f"training: {loss.title} ({k.upper()})" for k, loss in LOSSES.items()},
}


def render(run: Run, fold: FoldRun, features=None, reason: str = "") -> tuple[str, dict]:
    """The HTML page of a run's analysis, and its plots.

    Args:
      run: all of it.
      fold: the one whose test utterances are examined.
      features: of these, see `embeddings.extract`; None where they can't be computed.
      reason: why they can't.

    Returns:
      The page, which needs no other file and no network, and name, without .png -> PNG bytes.
    """
    result = fold.result
    scaled = all(f.result.temperature is not None for f in run.folds)
    drawn = _results(run) | {"reliability": _reliability(run, scaled)}
    curves = _curves(run, "curve", _titles(run), lambda f: f.metrics)
    refit_curves = _curves(run, "refit", CURVES, lambda f: f.refit)
    drawn |= {name: png for name, (_, png) in (curves | refit_curves).items()}
    inside = features and _inside(result, features, drawn)
    page = report.environment().get_template("report.html.j2").render(
        run=run,
        config=run.config,
        synthetic=is_synthetic(run.config),
        protocol=configuration.PROTOCOLS[run.folds[0].result.protocol],
        heldout=HELDOUT[run.folds[0].result.heldout],
        fingerprint=configuration.fingerprint(run.config),
        options=json.dumps(configuration.to_json(run.config), indent=2),
        hardware=(run.summary and run.summary.hardware) or "not recorded",
        versions=(run.summary and run.summary.versions) or report.versions(),
        number=result.fold,
        seed=result.seed,
        images={name: plots.image(png) for name, png in drawn.items()},
        scaled=scaled,
        curves=[(name, title, "") for name, (title, _) in curves.items()],
        refit_curves=[(name, title, "") for name, (title, _) in refit_curves.items()],
        inside=inside,
        tolerance=TOLERANCE,
        reason=reason,
        errors=errors(run, run.seeds[0]),
    )  # fmt: skip
    return page, drawn


def _results(run):
    """Plots of confusion matrices and of metrics by fold and class."""
    names = run.label_names
    by_fold, by_seed = (
        {k: sum(f.result.confusion for f in run.folds if getattr(f.result, key) == k) for k in keys}
        for key, keys in (("fold", run.numbers), ("seed", run.seeds))
    )
    recall = [classification.rates(counts)["recall"] for counts in by_seed.values()]
    metrics = {name: np.full((len(run.seeds), len(run.numbers)), np.nan) for name in ("wa", "ua")}
    for fold in run.folds:
        at = run.seeds.index(fold.result.seed), run.numbers.index(fold.result.fold)
        for name, values in metrics.items():
            values[at] = classification.rates(fold.result.confusion)[name]
    metrics = {name.upper(): values for name, values in metrics.items()}
    return {
        "confusion_pooled": plots.confusion_png(sum(by_fold.values()), names),
        **{f"confusion_fold{n}": plots.confusion_png(m, names) for n, m in by_fold.items()},
        "folds": plots.fold_bars_png(metrics, run.numbers),
        "recall": plots.recall_bars_png(np.array(recall, float), names, 1 / len(names)),
    }


def _reliability(run, scaled):
    results = [f.result for f in run.folds]
    label = np.concatenate([r.labels for r in results])
    stated, with_temperature = (
        calibration.reliability(np.concatenate([r.probabilities(s) for r in results]), label)
        for s in (False, True)
    )
    return plots.reliability_png(stated, with_temperature if scaled else None)


def _titles(run):
    """Title of each curve, by its key in metrics.jsonl."""
    where = "TEST side" if run.config.selection == "original" else "held-out"
    titles = {name: metric.title for name, metric in METRICS.items()} | {"loss": "cross-entropy"}
    return CURVES | {f"select/{name}": f"{where}: {title}" for name, title in titles.items()}


def _curves(run, prefix, titles, lines_of):
    """Plot's name -> (description, PNG bytes) of each quantity that was logged."""
    drawn = {}
    for key, title in titles.items():
        curves = []
        for fold in run.folds:
            points = [(line["step"], line[key]) for line in lines_of(fold) if key in line]
            if points:
                steps, values = map(list, zip(*points))
                curves.append((fold.result.fold, fold.result.seed, steps, values))
        if curves:
            percent = key.removeprefix("select/") in METRICS
            name = f"{prefix}_{key.replace('/', '_')}"
            drawn[name] = f"{title} against step", plots.curves_png(title, curves, percent)
    return drawn


def _inside(result, features, drawn):
    """Facts for the page; adds the plots of features to those drawn."""
    rows, names = result.predictions, result.label_names
    points, projection = project(features.fused, result.seed)
    speakers = [p.speaker for p in rows]
    for kind, groups, order in (
        ("emotion", [p.label for p in rows], names),
        ("speaker", speakers, sorted(set(speakers))),
    ):
        drawn[f"map_{kind}"] = plots.map_png(points, groups, order, f"by {kind}")
    example, a = None, features.attention
    if a is not None:
        drawn["attention"] = plots.attention_png(a.wave, a.weights, a.tokens, a.frame)
        example = next(p for p in rows if p.utterance == a.utterance)
    if features.gate is not None:
        drawn["gate"] = plots.gate_png(features.gate, result.labels, names)
    stored = np.array([p.logits for p in rows])
    gap = float(np.abs(stored - features.logits).max())
    return {"count": len(rows), "projection": projection, "gap": gap, "example": example}


def project(fused: np.ndarray, seed: int) -> tuple[np.ndarray, str]:
    """Embeddings [n, d] -> points [n, 2], and in words how.

    Each dimension is first brought to zero mean and unit variance: those of the pooled speech and
    those of the text are of different size. Then t-SNE, begun at the principal components; a few
    utterances, or embeddings that are all the same, get the principal components alone.

    Args:
      fused: of n utterances.
      seed: of t-SNE.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    spread = fused.std(0)
    scaled = (fused - fused.mean(0)) / np.where(spread > 0, spread, 1)
    n, d = scaled.shape
    if n < 3 or not spread.any():
        return np.pad(scaled[:, :2], ((0, 0), (0, max(0, 2 - d)))), "its first two dimensions"
    reduced = PCA(min(50, n, d), random_state=seed).fit_transform(scaled)
    if n < 12:
        return reduced[:, :2], "PCA"
    perplexity = min(30.0, (n - 1) / 3)
    tsne = TSNE(perplexity=perplexity, init="pca", random_state=seed)
    return tsne.fit_transform(reduced), f"t-SNE, perplexity {perplexity:.0f}, seed {seed}"


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
