"""Folds: the train/validation/test split of each, by session or speaker and by dialog."""

import collections
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
      number: from 1; the session's, or the speaker's place in alphabetical order.
      protocol: `session` or `speaker`. With `speaker` the test speaker's partner in the same
        conversations trains, as is the field's custom: the words said to the test speaker are then
        known, and metrics are a little better for it.
    """

    number: int
    protocol: str = "session"

    def tests(self, utterance: Utterance) -> bool:
        """Whether the fold tests on an utterance."""
        if self.protocol == "session":
            return utterance.session == self.number
        return speaker_number(utterance) == self.number

    @property
    def session(self) -> int:
        """The session of those that it tests on."""
        return self.number if self.protocol == "session" else (self.number + 1) // 2

    @property
    def name(self) -> str:
        """For example `session 5`, or `speaker 10 (Ses05M)`."""
        if self.protocol == "session":
            return f"session {self.number}"
        session, gender = divmod(self.number - 1, 2)
        return f"speaker {self.number} (Ses{session + 1:02d}{'FM'[gender]})"


def speaker_number(utterance: Utterance) -> int:
    """1 for the woman of session 1, 2 for its man, ... 10 for the man of session 5."""
    return 2 * utterance.session - (utterance.speaker[-1] == "F")


def all_folds(protocol: str) -> tuple[Fold, ...]:
    """Every fold of a protocol."""
    return tuple(Fold(k, protocol) for k in range(1, PROTOCOLS[protocol] + 1))


def selected(config) -> tuple[Fold, ...]:
    """The folds that a config names; where it names none, those of its dataset's sessions.

    Without the dataset, which a finished run can be read without, all of the protocol.
    """
    folds = all_folds(config.protocol)
    if config.folds:
        return tuple(f for f in folds if f.number in config.folds)
    there = sessions(config.data.dir, config.data.dataset, config.data.emotions)
    return tuple(f for f in folds if not there or f.session in there)


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
      UserError: an empty training or test set, or a fold of one speaker isn't one.
    """
    if fold.protocol == "speaker":
        _check_speakers(utterances)
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


def _check_speakers(utterances):
    """That each number is one speaker and each speaker one number."""
    numbers = {(speaker_number(u), u.speaker) for u in utterances}
    counts = collections.Counter(x for pair in numbers for x in pair)
    wrong = sorted(
        {
            speaker
            for number, speaker in numbers
            if counts[number] > 1 or counts[speaker] > 1 or not speaker.endswith(("F", "M"))
        }
    )
    if wrong:
        raise UserError(
            "config.protocol=speaker leaves out one speaker at a time, which needs one woman and "
            "one man in each session and in no other, whose ids end in F and M. These do not fit: "
            f"{', '.join(wrong)}. Use --config.protocol=session, or name the speakers so in the "
            "dataset."
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
    splits = max(2, min(round(1 / fraction), len(set(dialogs))))
    if len(set(dialogs)) < 2:
        raise UserError(
            f"The training sessions hold {len(set(dialogs))} dialog(s); holding one out for "
            "selection needs at least 2. Use a larger corpus."
        )
    folder = StratifiedGroupKFold(n_splits=splits, shuffle=True, random_state=seed)
    _, held = next(folder.split(np.zeros(len(train)), labels, groups=dialogs))
    return frozenset(dialogs[held].tolist())
