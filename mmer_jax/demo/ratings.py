"""The raters' files of a dialog: the label file and the files of each single rater."""

from typing import NamedTuple

import numpy as np

from mmer_jax.demo import plan

HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
WORDS = {
    "ang": "Anger",
    "hap": "Happiness",
    "exc": "Excited",
    "neu": "Neutral",
    "sad": "Sadness",
    "fru": "Frustration",
    "sur": "Surprise",
    "fea": "Fear",
    "dis": "Disgust",
    "oth": "Other",
}
NEAR = {
    "ang": "Frustration",
    "hap": "Excited",
    "exc": "Happiness",
    "neu": "Frustration",
    "sad": "Neutral",
}
DIMENSIONS = {
    "ang": (2, 4, 4),
    "hap": (4, 3, 3),
    "exc": (4, 4, 3),
    "neu": (3, 2, 3),
    "sad": (2, 2, 2),
    "fru": (2, 4, 3),
    "sur": (3, 4, 3),
    "fea": (2, 4, 2),
    "dis": (2, 3, 3),
}


class Rated(NamedTuple):
    """The ratings of one turn.

    Attributes:
        turn: plan.Turn.
        categories: rater ("E2", ..., "F1") -> text after `C-<rater>:`.
        dimensions: rater -> text after `A-<rater>:`; some raters gave none.
        mean: valence, activation and dominance, 1..5.
    """

    turn: plan.Turn
    categories: dict
    dimensions: dict
    mean: tuple


def rate(turn, raters):
    """Rates one turn.

    Args:
        turn: plan.Turn.
        raters: the dialog's three raters, as ("E1", "E2", "E4").

    Returns:
        A Rated: two raters at least agree on the turn's label, and none do for `xxx`.
    """
    random = plan.stream(turn.seed, "rating")
    self_rater = f"{turn.speaker[1]}1"
    votes = dict(zip(raters, _votes(turn.label, random), strict=True))
    votes[self_rater] = "" if random.rand() < 0.15 else _vote(turn.label)
    scores = {
        rater: np.clip(np.array(DIMENSIONS.get(turn.label, (3, 3, 3))) + _spread(random), 1, 5)
        for rater in raters[:2]
    }
    dimensions = {rater: _dimension_text(*score) for rater, score in scores.items()}
    if random.rand() < 0.12:
        dimensions.pop(raters[1])
        scores.pop(raters[1])
    dimensions[self_rater] = _dimension_text(*random.choice(["N", "", "3"], size=1).repeat(3))
    return Rated(turn, votes, dimensions, tuple(np.mean(list(scores.values()), axis=0)))


def _vote(label):
    return WORDS.get(label, "Other") + ";"


def _votes(label, random):
    if label == "xxx":
        words = random.permutation(["Frustration; Anger;", "Neutral;", "Sadness;", "Surprise;;"])
        return [str(word) for word in words[:3]]
    third = [
        _vote(label),
        _vote(label)[:-1] + "; ;",
        f"{NEAR.get(label, 'Neutral')};",
        f"{NEAR.get(label, 'Neutral')}; {WORDS[label]};",
    ][random.randint(4)]
    votes = [_vote(label), _vote(label), third]
    return [votes[i] for i in random.permutation(3)]


def _spread(random):
    return random.randint(-1, 2, size=3) * (random.rand(3) < 0.4)


def _dimension_text(valence, activation, dominance):
    return f"val {valence}; act {activation}; dom  {dominance};"


def label_file(rated, times):
    """Returns the text of `EmoEvaluation/<dialog>.txt`.

    Args:
        rated: the dialog's Rated; F turns are written first, as in the release.
        times: utterance -> (start, end) in seconds.
    """
    by_speaker = sorted(rated, key=lambda item: item.turn.utterance)
    return HEADER + "".join(_block(item, *times[item.turn.utterance]) for item in by_speaker)


def _block(item, start, end):
    turn = item.turn
    mean = ", ".join(f"{value:.4f}" for value in item.mean)
    remark = "curious" if turn.number % 3 == 0 else ""
    lines = [f"[{start:.4f} - {end:.4f}]\t{turn.utterance}\t{turn.label}\t[{mean}]"]
    lines += [
        f"C-{rater}:\t{text}\t({remark if rater[0] in 'FM' else ''})"
        for rater, text in item.categories.items()
    ]
    lines += [f"A-{rater}:\t{text}\t()" for rater, text in item.dimensions.items()]
    return "\n".join(lines) + "\n\n"


def rater_files(dialog, rated):
    """Yields (path under EmoEvaluation, text) of the files that hold one rater's work each."""
    ordered = sorted(rated, key=lambda item: item.turn.utterance)
    for kind, suffix, folder in (
        ("categories", "cat", "Categorical"),
        ("dimensions", "atr", "Attribute"),
    ):
        for rater in sorted({rater for item in ordered for rater in getattr(item, kind)}):
            lines = [
                f"{item.turn.utterance} :{getattr(item, kind)[rater].removesuffix(';')}; ()\n"
                for item in ordered
                if rater in getattr(item, kind)
            ]
            place = "Self-evaluation" if rater[0] in "FM" else folder
            yield f"{place}/{dialog}_{rater.lower()}_{suffix}.txt", "".join(lines)
