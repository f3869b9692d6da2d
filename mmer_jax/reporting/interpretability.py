"""The sections that look into the model: a map of its embeddings, its attention and its gate."""

import numpy as np

from mmer_jax.reporting import html, pictures
from mmer_jax.reporting.analysis import Album
from mmer_jax.reporting.embeddings import Features, project
from mmer_jax.runs import FoldRun

# More of a difference than rounding on another device makes: not the weights that were tested.
TOLERANCE = 0.05


def sections(fold: FoldRun, found: Features, album: Album) -> list[html.Section]:
    """Map, attention and gate of one fold; a sentence for what its model lacks.

    Args:
      fold: whose test utterances they are.
      found: see `embeddings.extract`.
      album: takes the pictures.
    """
    return [_map(fold, found, album), _attention(fold, found, album), _gate(fold, found, album)]


def missing(reason: str) -> html.Section:
    """In place of `sections`, where the checkpoint or the dataset is gone."""
    text = f"Embeddings, attention and gate are left out, for they can't be computed.\n{reason}"
    return html.Section("inside", "Inside the model", html.note(text))


def _map(fold, found, album):
    rows = fold.result.predictions
    seed = fold.result.seed
    points, how = project(found.fused, seed)
    groups = {
        "emotion": [p.label for p in rows],
        "speaker": [p.speaker for p in rows],
    }
    orders = {"emotion": fold.result.label_names, "speaker": sorted(set(groups["speaker"]))}
    shown = [
        album.add(f"map_{kind}", pictures.map_png(points, groups[kind], orders[kind], f"by {kind}"),
                  f"map of the utterances, coloured by {kind}")
        for kind in groups
    ]  # fmt: skip
    caption = (
        f"The {len(rows)} test utterances of fold {fold.result.fold} (seed {seed}), each at the "
        f"place of its fused embedding, drawn in two dimensions by {how}. Same places in both "
        "pictures: where colours of emotions part and those of speakers mix, the embedding tells "
        "emotions and not voices. Who is near whom means something; the axes, the size of a "
        "cluster and the distance between clusters don't, and a two-dimensional map can hide what "
        "many dimensions keep apart."
    )
    stored = np.array([p.logits for p in rows])
    gap = float(np.abs(stored - found.logits).max())
    body = html.pictures(shown, caption)
    if gap > TOLERANCE:
        body += html.note(
            f"The checkpoint's answers differ from the stored ones by up to {gap:.2g} (logits): "
            "checkpoint, dataset or versions are not quite those that the run was tested with."
        )
    return html.Section("map", "Map of the embeddings", body)


def _lacking(fold):
    model = fold.config.model
    if len(model.modalities) == 1:
        one = model.modalities[0]
        return f"This model has {one} alone: there is nothing to attend across and no gate."
    if model.fusion == "concat":
        return "This model puts speech and text side by side: no attention across and no gate."
    return "This model was trained without the gate."


def _attention(fold, found, album):
    title = "Attention from text to speech"
    if found.attention is None:
        return html.Section("attention", title, html.paragraph(_lacking(fold)))
    a = found.attention
    row = next(p for p in fold.result.predictions if p.utterance == a.utterance)
    png = pictures.attention_png(a.wave, a.weights, a.tokens, a.frame)
    caption = (
        f"{a.utterance} ({row.speaker}): “{row.transcript}”; true {row.label}, predicted "
        f"{row.prediction} with probability {max(row.probabilities):.3f}. Each row is a "
        "token of the transcript and shows where in the speech it looks, mean over the heads; 1 "
        "is an even spread over all frames. Time runs as in the waveform above. Whether the model "
        "lines words up with their sound can be seen; that a bright spot made the decision can't: "
        "frames have already heard their neighbours, and heads that disagree are averaged. "
        "Another one: --utterance=ID."
    )
    body = album.add("attention", png, f"attention of {a.utterance}, tokens against time", caption)
    return html.Section("attention", title, body)


def _gate(fold, found, album):
    title = "Openness of the gate"
    if found.gate is None:
        return html.Section("gate", title, html.paragraph(_lacking(fold)))
    names = fold.result.label_names
    caption = (
        f"A dot is a test utterance of fold {fold.result.fold}: the mean of the gate over its "
        "tokens and all dimensions; 0 shuts out what the text drew from the speech, 1 lets all of "
        "it through. Boxes hold the middle half, the line in them is the median. The axis shows "
        "the range that occurs, not 0 to 1. A mean hides dimensions that open for one emotion and "
        "close for another; and speech reaches the decision beside the gate as well."
    )
    png = pictures.gate_png(found.gate, fold.result.labels, names)
    return html.Section(
        "gate", title, album.add("gate", png, "openness of the gate per class", caption)
    )
