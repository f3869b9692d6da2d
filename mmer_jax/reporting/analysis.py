"""Plots and numbers of a finished run's analysis; its words are in `templates/report.html.j2`."""

import base64
import io
import json

import numpy as np

from mmer_jax import configuration, runs
from mmer_jax.data.corpus import Corpus, is_synthetic, recording
from mmer_jax.data.preprocessing import SAMPLE_RATE
from mmer_jax.losses import LOSSES
from mmer_jax.metrics import METRICS, calibration, classification
from mmer_jax.reporting import findings, plots, report
from mmer_jax.results import HELDOUT
from mmer_jax.runs import FoldRun, Run

ERRORS = 20  # listed
PLAYED, SECONDS = 10, 8  # of them with a recording, and its length at most: the page stays small
# More of a difference than rounding on another device makes: not the weights that were tested.
TOLERANCE = 0.05
CURVES = {
    "train/loss": "training: weighted sum",
    **{f"train/{k}": f"training: {loss.title} ({k.upper()})" for k, loss in LOSSES.items()},
}


def render(run: Run, fold: FoldRun, features=None, reason: str = "", sounds: dict | None = None,
           no_audio: str = "") -> tuple[str, dict]:  # fmt: skip
    """The HTML page of a run's analysis, and its plots.

    Args:
      run: all of it.
      fold: the one whose test utterances are examined.
      features: of these, see `embeddings.extract`; None where they can't be computed.
      reason: why they can't.
      sounds: utterance id -> its recording, see `recordings`.
      no_audio: why there are none.

    Returns:
      The page, which needs no other file and no network, and name -> bytes of each plot's files.
    """
    result, names = fold.result, run.label_names
    results = [f.result for f in run.folds]
    scaled = all(r.temperature is not None for r in results)
    texts = findings.by_text(run)
    found = findings.facts(run, texts)
    drawn = _results(run) | {"reliability": _reliability(run, scaled)}
    chosen = {(r.fold, r.seed): r.chosen["step"] for r in results}
    curves = _curves(run, "curve", _titles(run), lambda f: f.metrics, chosen)
    refit_curves = _curves(run, "refit", CURVES, lambda f: f.refit, {})
    drawn |= {name: figure for name, (_, figure) in (curves | refit_curves).items()}
    inside = features and _inside(result, features, drawn)
    images = {name: plots.image(figure) for name, figure in drawn.items()}
    page = report.environment().get_template("report.html.j2").render(
        run=run,
        config=run.config,
        synthetic=is_synthetic(run.config),
        protocol=configuration.PROTOCOLS[results[0].protocol],
        heldout=HELDOUT[results[0].heldout],
        fingerprint=configuration.fingerprint(run.config),
        options=json.dumps(configuration.to_json(run.config), indent=2),
        hardware=(run.summary and run.summary.hardware) or "not recorded",
        versions=(run.summary and run.summary.versions) or report.versions(),
        number=result.fold,
        seed=result.seed,
        found=found,
        colours=plots.emotion_colours(names),
        images=images,
        speakers=[
            (r["name"], r["ua"], "", (*_rates(r), ", ".join(map(str, r["folds"]))))
            for r in findings.speakers(results, found["estimate"]["parts"]["speaker"])
        ],
        corpora=[
            (name, r["ua"], "", _rates(r)) for name, r in (report.by_corpus(results) or {}).items()
        ],
        scaled=scaled,
        few=plots.FEW,
        curves=[(name, title, "") for name, (title, _) in curves.items()],
        refit_curves=[(name, title, "") for name, (title, _) in refit_curves.items()],
        inside=inside,
        tolerance=TOLERANCE,
        reason=reason,
        errors=errors(run, run.seeds[0], texts.get("none", ()) if "gold" in texts else (), sounds),
        sounds=sounds,
        seconds=SECONDS,
        no_audio=no_audio,
    )  # fmt: skip
    content = {f"{name}.png": image["png"] for name, image in images.items()}
    return page, content | {f"{name}.pdf": plots.pdf(figure) for name, figure in drawn.items()}


def _rates(r):
    return report.percent(r["ua"]), report.percent(r["wa"]), r["utterances"]


def _results(run):
    """Plots of confusion matrices and of metrics by fold and class."""
    names = run.label_names
    by_fold, by_seed = (
        {k: sum(f.result.confusion for f in run.folds if getattr(f.result, key) == k) for k in keys}
        for key, keys in (("fold", run.numbers), ("seed", run.seeds))
    )
    pooled = sum(by_fold.values())
    recall = [classification.rates(counts)["recall"] for counts in (pooled, *by_seed.values())]
    metrics = {name: np.full((len(run.seeds), len(run.numbers)), np.nan) for name in ("wa", "ua")}
    for fold in run.folds:
        at = run.seeds.index(fold.result.seed), run.numbers.index(fold.result.fold)
        for name, values in metrics.items():
            values[at] = classification.rates(fold.result.confusion)[name]
    metrics = {name.upper(): values for name, values in metrics.items()}
    return {
        "confusion_pooled": plots.confusion(pooled, names),
        **{f"confusion_fold{n}": plots.confusion(m, names, f"fold {n}: {_utterances(run, n)}")
           for n, m in by_fold.items()},
        "folds": plots.fold_bars(metrics, run.numbers),
        "recall": plots.recall_bars(recall[1:], recall[0], names, 1 / len(names)),
    }  # fmt: skip


def _utterances(run, number):
    return f"n = {next(len(f.result.predictions) for f in run.folds if f.result.fold == number)}"


def _reliability(run, scaled):
    results = [f.result for f in run.folds]
    label = np.concatenate([r.labels for r in results])
    stated, with_temperature = (
        calibration.reliability(np.concatenate([r.probabilities(s) for r in results]), label)
        for s in (False, True)
    )
    return plots.reliability(stated, with_temperature if scaled else None)


def _titles(run):
    """Title of each curve, by its key in metrics.jsonl."""
    where = "TEST side" if run.config.selection == "original" else "held-out"
    titles = {name: metric.title for name, metric in METRICS.items()} | {"loss": "cross-entropy"}
    return CURVES | {f"select/{name}": f"{where}: {title}" for name, title in titles.items()}


def _curves(run, prefix, titles, lines_of, chosen):
    """Plot's name -> (description, figure) of each quantity that was logged."""
    drawn = {}
    for key, title in titles.items():
        curves = []
        for fold in run.folds:
            if logged := runs.series(lines_of(fold), key):
                curves.append((fold.result.fold, fold.result.seed, *logged))
        if curves:
            percent = key.removeprefix("select/") in METRICS
            name = f"{prefix}_{key.replace('/', '_')}"
            drawn[name] = f"{title} against step", plots.curves(title, curves, chosen, percent)
    return drawn


def _inside(result, features, drawn):
    """Facts for the page; adds the plots of features to those drawn."""
    rows, names = result.predictions, result.label_names
    points, projection = project(features.fused, result.seed)
    speakers = [p.speaker for p in rows]
    for kind, groups, order, colours in (
        ("emotion", [p.label for p in rows], names, plots.emotion_colours(names)),
        ("speaker", speakers, sorted(set(speakers)), None),
    ):
        drawn[f"map_{kind}"] = plots.embedding_map(points, groups, order, f"by {kind}", colours)
    example, a = None, features.attention
    if a is not None:
        drawn["attention"] = plots.attention(a.wave, a.weights, a.tokens, a.frame)
        example = next(p for p in rows if p.utterance == a.utterance)
    if features.gate is not None:
        drawn["gate"] = plots.gate(features.gate, result.labels, names)
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


def errors(run: Run, seed: int, alone=(), sounds: dict | None = None) -> dict:
    """The most confident wrong predictions of one seed.

    Args:
      run: a finished one.
      seed: of it.
      alone: results of its folds without words.
      sounds: see `recordings`.

    Returns:
      `wrong` of `count` predictions, and `head` and `rows` of a table.
    """
    results = [f.result for f in run.folds if f.result.seed == seed]
    without = {(r.key, p.utterance): _ranked(r, p)[0] for r in alone for p in r.predictions}
    rows = [
        _error(r, p, without.get((r.key, p.utterance)), (sounds or {}).get(p.utterance))
        for r, p in most_confident(run, seed)
    ]
    # A column that would be empty is left out.
    head = [name for name in (rows[0] if rows else ()) if any(row[name] for row in rows)]
    return {
        "wrong": sum(int((r.labels != r.predicted).sum()) for r in results),
        "count": sum(len(r.predictions) for r in results),
        "head": head,
        "rows": [[row[name] for name in head] for row in rows],
    }


def _error(result, p, without, sound):
    """Column -> cell."""
    parts = report.environment().get_template("parts.html.j2").module
    first, second, *_ = _ranked(result, p)
    return {
        "utterance": parts.player(sound, p.utterance, p.utterance) if sound else p.utterance,
        "fold": str(result.fold),
        "speaker": p.speaker,
        "true": parts.emotion(p.label, plots.emotion_colours(result.label_names)[p.label]),
        "predicted": parts.emotion(*first),
        "second guess": parts.emotion(*second),
        "without words": parts.emotion(*without) if without else "",
        "transcript": p.transcript,
        "CTC head": "" if p.recognized is None else p.recognized or "(nothing)",
    }


def most_confident(run: Run, seed: int) -> list[tuple]:
    """(result of its fold, row) of at most `ERRORS` wrong predictions, the surest first."""
    rows = [(f.result, p) for f in run.folds if f.result.seed == seed for p in f.result.predictions]
    wrong = [row for row in rows if row[1].prediction != row[1].label]
    wrong.sort(key=lambda row: (-max(row[1].probabilities), row[1].utterance))
    return wrong[:ERRORS]


def _ranked(result, p):
    """(class, its colour, its probability) of a prediction, the surest first."""
    colours = plots.emotion_colours(result.label_names)
    ranked = sorted(zip(p.probabilities, result.label_names), reverse=True)
    return [(name, colours[name], share) for share, name in ranked]


def recordings(run: Run, data_dir: str = "") -> dict[str, str]:
    """Utterance id -> the recording as a data URI, of the first of the `most_confident` errors.

    Those that the dataset which is there now does not have, or has for another recording, are left
    out; longer ones are cut.

    Args:
      run: a finished one.
      data_dir: where the prepared dataset is now; empty: where the run had it.

    Raises:
      UserError: it is not there.
    """
    import soundfile

    config = run.config.copy_and_resolve_references()
    config.data.dir = data_dir or config.data.dir
    corpus, sounds = Corpus.of(config), {}
    known = {u.id: u for u in corpus.utterances}
    for _, p in most_confident(run, run.seeds[0])[:PLAYED]:
        u = known.get(p.utterance)
        names = [(x.speaker, x.transcript, x.corpus) for x in (u, p) if x]
        if u and recording(u.id, *names[0]) == recording(p.utterance, *names[1]):
            out = io.BytesIO()
            wave = corpus.recordings(u)[0][: SECONDS * SAMPLE_RATE]
            soundfile.write(out, wave, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            sounds[u.id] = "data:audio/flac;base64," + base64.b64encode(out.getvalue()).decode()
    return sounds


def default_utterance(fold: FoldRun) -> str:
    """Id of the correct prediction of greatest confidence, with some words if there is one.

    Where nothing is correct, of the most confident prediction.
    """
    rows = fold.result.predictions
    right = [p for p in rows if p.prediction == p.label] or rows
    words = [p for p in right if len(p.transcript.split()) >= 3] or right
    return max(words, key=lambda p: (max(p.probabilities), p.utterance)).utterance
