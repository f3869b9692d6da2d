"""An utterance in other words: candidates from a table, a function or back and forth translation.

Of the candidates the one is taken that keeps the meaning most; one that is the source itself, but
for case and punctuation, is no augmentation.
"""

import collections
import csv
import hashlib
import os

import numpy as np

from mmer_jax import files
from mmer_jax.augmentation.speech import resolve
from mmer_jax.data.text import normalized
from mmer_jax.errors import UserError, first_line

WAYS = "marian, a CSV file or module:function"
SAME, FAR, NONE = "only the source's own words", "too far from the source", "no candidate"
PUBLISHED = "AugmentedText"  # column of the table that MMER's authors hand out
_TEXT = ("text", "augmented_text", PUBLISHED.lower())
_LEAST = 0.5  # share of a table's rows whose utterance the corpus must have


def overlap(sources: list[str], candidates: list[str]) -> np.ndarray:
    """F1 of the words of each pair, float [n] from 0 to 1: without case, punctuation and order."""
    scores = []
    for a, b in zip(sources, candidates):
        a, b = (collections.Counter(normalized(x).split()) for x in (a, b))
        scores.append(2 * (a & b).total() / max(a.total() + b.total(), 1))
    return np.array(scores)


def choose(source: str, candidates: list[str], scores, minimum: float) -> tuple[str, float, str]:
    """The candidate that is most similar to the source and has other words.

    Args:
      source: the transcript.
      candidates: texts; empty ones count as none.
      scores: similarity of each to the source.
      minimum: similarity below which a candidate is taken for nonsense.

    Returns:
      (text, similarity, ""), or ("", similarity of the best, why there is none).
    """
    others = [
        (score, -i, text)
        for i, (score, text) in enumerate(zip(scores, candidates))
        if normalized(text) not in ("", normalized(source))
    ]
    if not others:
        return "", 1.0, SAME if any(map(normalized, candidates)) else NONE
    score, _, text = max(others)
    return (text, score, "") if score >= minimum else ("", score, FAR)


class Table:
    """A user's CSV, or the one that MMER's authors hand out.

    Its texts are in the column `text`, `augmented_text` or `AugmentedText`; that of the utterances
    is the one whose cells, file names without folder and suffix too, are utterances of the corpus.

    Raises:
      UserError: not such a table, or hardly any row is of the corpus.
    """

    batch = 256

    def __init__(self, path: str, ids):
        ids = frozenset(ids)
        files.check_regular(os.path.expanduser(path))
        try:
            with open(os.path.expanduser(path), encoding="utf-8-sig", newline="") as f:
                head, *rows = [row for row in csv.reader(f, strict=True) if any(row)] or [[]]
        except (OSError, UnicodeError, csv.Error) as e:
            raise UserError(f"{path} can't be read as a CSV in UTF-8 ({first_line(e)}).") from e
        wrong = [i for i, row in enumerate(rows, 1) if len(row) != len(head)]
        if wrong:
            raise UserError(
                f"{path}: {len(wrong)} rows (the first is row {wrong[0]}) have not {len(head)} "
                "cells as the header has. Quote cells with commas in them."
            )
        if len(set(head)) < len(head):
            raise UserError(f"{path} has two columns of one name among {', '.join(head)}.")
        texts = [i for i, name in enumerate(head) if name.strip().lower() in _TEXT]
        if not texts:
            raise UserError(
                f"{path} has the columns {', '.join(head)}; expected `text` or `{PUBLISHED}`."
            )
        names = [[_utterance(row[i], ids) for row in rows] for i in range(len(head))]
        owners = max(names, key=lambda column: sum(name in ids for name in column))
        known = sum(name in ids for name in owners)
        if known < _LEAST * len(rows) or not known:
            raise UserError(
                f"{path}: of {len(rows)} rows {known} name an utterance of this corpus in any one "
                f"column. Utterances are called like {min(ids)}."
            )
        # An older column may stand before the one that counts.
        self._texts = collections.defaultdict(list)
        for name, row in zip(owners, rows):
            self._texts[name].append(row[texts[-1]])
        content = sorted((name, found) for name, found in self._texts.items() if name in ids)
        digest = hashlib.sha256(repr(content).encode()).hexdigest()
        self.settings = {"way": "table", "column": head[texts[-1]], "sha256": digest}

    def candidates(self, utterances, sources: list[str], seed: int) -> list[list[str]]:
        """The texts of each utterance, none or more."""
        return [self._texts.get(u.id, []) for u in utterances]


def _utterance(cell, ids):
    """The utterance that a cell names, as it stands or as the path of its recording."""
    cell = cell.strip()
    stem = os.path.splitext(os.path.basename(cell.replace("\\", "/")))[0]
    return cell if cell in ids or stem not in ids else stem


class Function:
    """A user's function `(texts, seed) -> a list of candidates for each`."""

    batch = 64

    def __init__(self, name: str):
        self._function, self._name = resolve(name), name
        self.settings = {"way": name}

    def candidates(self, utterances, sources: list[str], seed: int) -> list[list[str]]:
        """The texts of each utterance, none or more.

        Raises:
          UserError: the function fails, or returns something else.
        """
        try:
            found = [[x] if isinstance(x, str) else list(x) for x in self._function(sources, seed)]
        except Exception as e:  # of the user's code, whatever it is
            raise UserError(f"{self._name} failed: {type(e).__name__}: {first_line(e)}") from e
        if len(found) != len(sources) or not all(isinstance(x, str) for xs in found for x in xs):
            raise UserError(
                f"{self._name} got {len(sources)} texts and returned {len(found)} entries; "
                "expected for each text a list of texts."
            )
        return found
