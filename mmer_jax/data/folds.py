"""Folds: the train/validation/test split of each, by session or speaker and by dialog."""

import dataclasses

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from mmer_jax.configuration import PROTOCOLS
from mmer_jax.data import text
from mmer_jax.data.corpus import Utterance, sessions
from mmer_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Fold:
    """Leave one session or one speaker out: its utterances test, all others train.

    Attributes:
      number: from 1; the place of the tested group in `PROTOCOLS`.
      protocol: `session` or `speaker`. With `speaker` the test speaker's partner in the same
        conversations trains, as is the field's custom: the words said to the test speaker are then
        known, and metrics are a little better for it.
    """

    number: int
    protocol: str = "session"

    @property
    def group(self) -> int | str:
        """The session or the speaker that is tested."""
        return PROTOCOLS[self.protocol][self.number - 1]

    def tests(self, utterance: Utterance) -> bool:
        """Whether the fold tests on an utterance."""
        return getattr(utterance, self.protocol) == self.group

    @property
    def name(self) -> str:
        """For example `session 5`, or `speaker 10 (Ses05M)`."""
        group = "" if self.group == self.number else f" ({self.group})"
        return f"{self.protocol} {self.number}{group}"


def all_folds(protocol: str) -> tuple[Fold, ...]:
    """Every fold of a protocol."""
    return tuple(Fold(k, protocol) for k in range(1, len(PROTOCOLS[protocol]) + 1))


def selected(config) -> tuple[Fold, ...]:
    """The folds that a config names; where it names none, those of its dataset's sessions.

    Without the dataset, which a finished run can be read without, all of the protocol.
    """
    folds = all_folds(config.protocol)
    if config.folds:
        return tuple(f for f in folds if f.number in config.folds)
    there = sessions(config.data.dir, config.data.dataset, config.data.emotions)
    groups = {*there, *(f"Ses0{session}{gender}" for session in there for gender in "FM")}
    return tuple(f for f in folds if not there or f.group in groups)


@dataclasses.dataclass(frozen=True)
class Split:
    """A fold's utterances. `validation` is what the epoch is chosen on."""

    train: tuple[Utterance, ...]
    validation: tuple[Utterance, ...]
    test: tuple[Utterance, ...]


def train_test(utterances, fold: Fold) -> tuple[tuple[Utterance, ...], tuple[Utterance, ...]]:
    """(training utterances, test utterances) of a fold, by session or speaker and nothing else.

    An augmented recording in the voice of a speaker who is tested is not to be drawn in training.
    """
    test = tuple(u for u in utterances if fold.tests(u))
    tested = frozenset(u.speaker for u in test)
    return tuple(u.without_voices(tested) for u in utterances if not fold.tests(u)), test


def training_sets(utterances, protocol: str) -> list[tuple[Utterance, ...]]:
    """The training utterances of each fold that has some, and some to test on.

    Raises:
      UserError: there is no such fold.
    """
    divided = [train_test(utterances, fold) for fold in all_folds(protocol)]
    sets = [train for train, test in divided if train and test]
    if not sets:
        raise UserError(
            f"The prepared dataset has utterances of one {protocol} alone; leaving it out leaves "
            f"nothing to train on. Prepare a corpus of at least two {protocol}s."
        )
    return sets


def split(utterances, fold: Fold, selection: str, fraction: float, seed: int,
          exclude_seen: bool = False) -> Split:  # fmt: skip
    """The split of one fold.

    Args:
      utterances: all of the corpus.
      fold: which.
      selection: `heldout` takes whole dialogs out of training for the choice of the epoch;
        `original` trains on all of them and chooses on the test set, as the authors do.
      fraction: share of the training utterances to hold out.
      seed: of the dialogs drawn.
      exclude_seen: takes out of training what is said word for word in the test set: the
        utterances that say it, and the augmented view of those whose augmented text does.

    Raises:
      UserError: an empty training or test set, or a group that no fold tests.
    """
    _check_groups(utterances, fold.protocol)
    train, test = train_test(utterances, fold)
    if exclude_seen:
        said = text.spoken(u.transcript for u in test)
        train = tuple(
            u.without_view() if text.normalized(u.aug_transcript) in said else u
            for u in train
            if text.normalized(u.transcript) not in said
        )
    if not train or not test:
        there = [f.number for f in all_folds(fold.protocol) if any(map(f.tests, utterances))]
        raise UserError(
            f"The fold of {fold.name} has {len(train)} training and {len(test)} test utterances. "
            f"The prepared dataset has the folds {', '.join(map(str, there))}: choose among them "
            "with config.folds."
        )
    if selection == "original":
        return Split(train, test, test)
    held = heldout_dialogs(train, fraction, seed)
    return Split(
        train=tuple(u for u in train if u.dialog not in held),
        validation=tuple(u for u in train if u.dialog in held),
        test=test,
    )


def _check_groups(utterances, protocol):
    """That every utterance is tested by a fold."""
    odd = {getattr(u, protocol) for u in utterances}.difference(PROTOCOLS[protocol])
    if odd:
        raise UserError(
            f"config.protocol={protocol} leaves out one {protocol} at a time, of "
            f"{', '.join(map(str, PROTOCOLS[protocol]))}. The dataset has others: "
            f"{', '.join(sorted(map(str, odd)))}. Name the {protocol}s so in the dataset, or use "
            "another protocol."
        )


def training_texts(utterances, augmented: bool) -> frozenset[str]:
    """The texts that a training on utterances can read, normalised as by `text.spoken`.

    Args:
      utterances: those trained on.
      augmented: whether augmented views are computed. Then every augmented text counts, also one
        that a model of speech and text never reads because no recording goes with it.
    """
    augmented_texts = [u.aug_transcript for u in utterances] if augmented else []
    return text.spoken([u.transcript for u in utterances] + augmented_texts)


def heldout_dialogs(train, fraction: float, seed: int) -> frozenset[str]:
    """Whole dialogs with about `fraction` of the utterances and about the classes' shares.

    By dialog, because turns of one conversation are too alike to be in both.
    """
    dialogs = np.array([u.dialog for u in train])
    labels = np.array([u.label for u in train])
    count = len(set(dialogs))
    if count < 2:
        raise UserError(
            f"The training utterances are of {count} dialog(s); holding one out for selection "
            "needs at least 2. Use a larger corpus."
        )
    splits = max(2, min(round(1 / fraction), count))
    folder = StratifiedGroupKFold(n_splits=splits, shuffle=True, random_state=seed)
    _, held = next(folder.split(np.zeros(len(train)), labels, groups=dialogs))
    return frozenset(dialogs[held].tolist())
