"""Folds: which sessions train, which dialogs are held out, which session tests."""

import dataclasses

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from mmer_jax.data.corpus import SESSIONS, Utterance
from mmer_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Fold:
    """Leave one session out: the utterances of `test_session` test, those of the others train.

    `train_split` and `test_split` are the split expressions of the prepared dataset.
    """

    test_session: int

    @property
    def train_split(self) -> str:
        """For example `session1+session2+session3+session4`."""
        return "+".join(s for s in SESSIONS if s != self.test_split)

    @property
    def test_split(self) -> str:
        """For example `session5`."""
        return f"session{self.test_session}"


@dataclasses.dataclass(frozen=True)
class Parts:
    """A fold's utterances. `select` is what the epoch is chosen on."""

    train: tuple[Utterance, ...]
    select: tuple[Utterance, ...]
    test: tuple[Utterance, ...]


def parts(utterances, fold: Fold, selection: str, fraction: float, seed: int) -> Parts:
    """Divides the corpus.

    Args:
      utterances: all of the corpus.
      fold: which session tests.
      selection: `heldout` takes whole dialogs out of training for the choice of the epoch;
        `published` trains on all of them and chooses on the test session, as the release does.
      fraction: share of the training utterances to hold out.
      seed: of the dialogs drawn.

    Raises:
      UserError: a side of the fold is empty.
    """
    train_sessions = fold.train_split.split("+")
    train = tuple(u for u in utterances if u.split in train_sessions)
    test = tuple(u for u in utterances if u.split == fold.test_split)
    if not train or not test:
        empty = fold.test_split if train else fold.train_split
        raise UserError(
            f"Fold {fold.test_session} has {len(train)} training and {len(test)} test utterances: "
            f"the prepared dataset is empty in {empty}."
        )
    if selection == "published":
        return Parts(train, test, test)
    held = heldout_dialogs(train, fraction, seed)
    return Parts(
        train=tuple(u for u in train if u.dialog not in held),
        select=tuple(u for u in train if u.dialog in held),
        test=test,
    )


def heldout_dialogs(train, fraction: float, seed: int) -> frozenset[str]:
    """Whole dialogs with about `fraction` of the utterances and about the classes' shares.

    By dialog, because turns of one conversation are too alike to stand on both sides.
    """
    dialogs = np.array([u.dialog for u in train])
    labels = np.array([u.label for u in train])
    splits = max(2, min(round(1 / fraction), len(set(dialogs))))
    if len(set(dialogs)) < 2:
        raise UserError(
            f"The training sessions hold {len(set(dialogs))} dialog(s); holding one out for "
            "selection needs at least 2. Use a larger corpus."
        )
    folder = StratifiedGroupKFold(n_splits=splits, shuffle=True, random_state=seed)
    _, held = next(folder.split(np.zeros(len(train)), labels, groups=dialogs))
    return frozenset(dialogs[held].tolist())
