"""Protocols: the folds of a corpus, and the train/validation/test split of each."""

import collections
import dataclasses
import re
import warnings

import numpy as np

from mmer_jax.data import text
from mmer_jax.data.corpus import Corpus, Utterance
from mmer_jax.data.prepared import natural
from mmer_jax.errors import UserError

# Protocol -> the attribute of utterances that it divides them by.
_COLUMNS = {
    "session": "session", "speaker": "speaker", "speakers": "speaker", "fold": "fold",
    "split": "part", "corpus": "corpus",
}  # fmt: skip
_FEW = 10  # speakers, each of whom is left out in turn by protocol=auto
_LISTED = 8  # names in a message


@dataclasses.dataclass(frozen=True)
class Fold:
    """The utterances of some groups are tested, all others train.

    Attributes:
      number: from 1; the group's own where the groups are called by whole numbers.
      protocol: `session`, `speaker`, `speakers`, `fold`, `split` or `corpus`. With `speaker` the
        test speaker's partner in the same conversations trains, as is the field's custom: the words
        said to the test speaker are then known, and metrics are a little better for it.
      groups: names of the sessions, speakers, folds or parts that are tested.
      name: for example `session 5`, `speaker 10 (Ses05M)`, `speakers 1 (03, 07)` or `test`.
    """

    number: int
    protocol: str
    groups: tuple[str, ...]
    name: str

    def tests(self, utterance: Utterance) -> bool:
        """Whether the fold tests on an utterance."""
        return getattr(utterance, _COLUMNS[self.protocol]) in self.groups


def make(utterances, config) -> tuple[Fold, ...]:
    """Every fold of a config's protocol; they follow from who speaks where, never from labels.

    Raises:
      UserError: some utterances don't say what the protocol divides them by, or all say the same,
        or a speaker is in two sessions.
    """
    protocol = _resolved(utterances, config.protocol)
    groups = [getattr(u, _COLUMNS[protocol]) for u in utterances]
    _check(protocol, groups, utterances)
    if protocol == "split":
        return (Fold(1, protocol, ("test",), "test"),)
    if protocol == "speakers":
        return tuple(
            Fold(number, protocol, names, f"speakers {number} ({_listed(names)})")
            for number, names in enumerate(_balanced(utterances, config.fold_count), 1)
        )
    return tuple(
        Fold(number, protocol, (group,), _name(protocol, number, group))
        for group, number in _numbers(set(groups)).items()
    )


def _resolved(utterances, protocol):
    """The protocol; `auto` is the most that the corpus gives."""
    if protocol != "auto":
        return protocol
    values = {c: {getattr(u, c) for u in utterances} for c in set(_COLUMNS.values())}
    if "" not in values["fold"] and len(values["fold"]) > 1:
        return "fold"
    if "" not in values["part"] and values["part"] >= {"train", "test"}:
        return "split"
    if "" not in values["session"] and len(values["session"]) >= 3:
        return "session"
    return "speaker" if 2 <= len(values["speaker"]) <= _FEW else "speakers"


def _check(protocol, groups, utterances):
    column = {"part": "split"}.get(_COLUMNS[protocol], _COLUMNS[protocol])
    by = f"config.protocol={protocol} divides the corpus by the column `{column}`, "
    found = sorted(set(groups), key=natural)
    if unknown := groups.count(""):
        lacking = {u.corpus for u, group in zip(utterances, groups) if not group} - {""}
        of = f" ({', '.join(sorted(lacking, key=natural))})" if lacking else ""
        raise UserError(
            f"{by}which is empty for {unknown} of {len(groups)} utterances{of}. Fill it in and "
            "build the dataset again, or use another protocol."
        )
    if protocol == "split" and not set(found) >= {"train", "test"}:
        raise UserError(f"{by}which has {_listed(found)}; expected train and test.")
    if len(found) < 2:
        raise UserError(
            f"{by}which has {_listed(found) or 'nothing'} alone; leaving that out leaves nothing "
            f"to train on. Prepare a corpus of at least two {column}s, or use another protocol."
        )
    if protocol == "session":
        sessions = {}
        for u in utterances:
            sessions.setdefault(u.speaker, set()).add(u.session)
        both = [s for s in sorted(sessions, key=natural) if s and len(sessions[s]) > 1]
        if both:
            raise UserError(
                f"{by}and {len(both)} speakers are in several sessions ({_listed(both)}): they "
                "would be trained on and tested. Use --config.protocol=speakers or speaker; if "
                "they are different people, give them different names."
            )


def _balanced(utterances, count):
    """The names of `count` groups of speakers, about equal in utterances: the largest go first.

    Of several corpora, each is divided about equally.
    """
    sizes = collections.Counter(u.speaker for u in utterances)
    corpus = {u.speaker: u.corpus for u in utterances}
    groups = [[] for _ in range(min(count, len(sizes)))]
    for name in sorted(sizes, key=lambda name: (-sizes[name], natural(name))):

        def size(group, of=corpus[name]):
            same = sum(sizes[other] for other in group if corpus[other] == of)
            return same, sum(map(sizes.get, group))

        min(groups, key=size).append(name)
    return [tuple(sorted(group, key=natural)) for group in groups]


def _numbers(groups):
    """Group -> number of its fold, in order."""
    in_order = sorted(groups, key=natural)
    if all(re.fullmatch(r"Ses\d+[FM]", g) for g in groups):  # IEMOCAP's, of a part of it as well
        return {g: 2 * int(g[3:-1]) - (g[-1] == "F") for g in in_order}
    if all(re.fullmatch(r"0*[1-9]\d*", g, re.ASCII) for g in groups):
        if len({int(g) for g in groups}) == len(groups):
            return {g: int(g) for g in in_order}
    return {g: place for place, g in enumerate(in_order, 1)}


def _name(protocol, number, group):
    own = group.isdecimal() and int(group) == number
    return f"{protocol} {group}" if own else f"{protocol} {number} ({group})"


def _listed(names):
    more = f", ... {len(names)} in all" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def selected(utterances, config) -> tuple[Fold, ...]:
    """The folds that a config names; where it names none, all of its protocol.

    Raises:
      UserError: see `make`; or there is no fold of such a number.
    """
    folds = make(utterances, config)
    unknown = set(config.folds) - {f.number for f in folds}
    if unknown:
        raise UserError(
            f"config.folds is {tuple(config.folds)!r}; the prepared dataset has the folds "
            f"{', '.join(str(f.number) for f in folds)} ({_listed([f.name for f in folds])}): "
            "choose among them."
        )
    return tuple(f for f in folds if not config.folds or f.number in config.folds)


def of_dataset(config) -> tuple[Fold, ...]:
    """`selected` of the config's own dataset; () where it isn't there."""
    try:
        return selected(Corpus.of(config).utterances, config)
    except UserError:
        return ()


@dataclasses.dataclass(frozen=True)
class Split:
    """A fold's utterances.

    Attributes:
      train, test: of the two sides.
      validation: those that the epoch is chosen on.
      heldout: what was held out of training for that: `dialog`, `speaker`, `session`, `fold`,
        `corpus` or `utterance`, `validation` for the corpus' own part; "" where the epoch is chosen
        on `test`.
    """

    train: tuple[Utterance, ...]
    validation: tuple[Utterance, ...]
    test: tuple[Utterance, ...]
    heldout: str

    @property
    def shared_speakers(self) -> list[str] | None:
        """Speakers of both sides; None where they are not known."""
        training = self.train + (self.validation if self.heldout else ())
        train, test = ({u.speaker for u in us} for us in (training, self.test))
        return None if "" in train | test else sorted(train & test, key=natural)


def train_test(utterances, fold: Fold) -> tuple[tuple[Utterance, ...], tuple[Utterance, ...]]:
    """(training utterances, test utterances) of a fold, by its groups and nothing else.

    An augmented recording in the voice of a speaker who is tested is not to be drawn in training,
    unless it is the utterance's own speaker, whom it trains on anyway.
    """
    test = tuple(u for u in utterances if fold.tests(u))
    tested = frozenset(u.speaker for u in test if u.speaker)
    train = (u for u in utterances if not fold.tests(u))
    return tuple(u.without_voices(tested - {u.speaker}) for u in train), test


def split(corpus: Corpus, fold: Fold, config) -> Split:
    """The split of one fold.

    With `config.selection="heldout"` a share of `config.heldout_fraction` of the training side is
    held out for the choice of the epoch, in whole units of `config.heldout`; with `original` all of
    it trains, and the epoch is chosen on the test side, as the authors do. With
    `config.exclude_seen_transcripts` what is said word for word in the test set is taken out of
    training: the utterances that say it, and the augmented view of those whose augmented text does.

    Args:
      corpus: all utterances, and the names of their classes.
      fold: one of `make`.
      config: of the run; its seed draws what is held out.

    Raises:
      UserError: a class is missing in training, or nothing can be held out.
    """
    train, test = train_test(corpus.utterances, fold)
    if config.exclude_seen_transcripts:
        said = text.spoken(u.transcript for u in test)
        train = tuple(
            u.without_view() if text.normalized(u.aug_transcript) in said else u
            for u in train
            if text.normalized(u.transcript) not in said
        )
    unit, held = "", frozenset()
    if config.selection == "heldout":
        unit = _heldout_unit(train, fold, config.heldout)
        held = _held_out(train, unit, config.heldout_fraction, config.seed)
    left = tuple(u for u in train if u.index not in held)
    validation = tuple(u for u in train if u.index in held) if unit else test
    missing = {u.label for u in corpus.utterances} - {u.label for u in left}
    if missing and config.train.epochs:
        names = [corpus.label_names[label] for label in sorted(missing)]
        raise UserError(
            f"The fold of {fold.name} has {len(left)} training and {len(test)} test utterances, "
            f"and trains on none of {', '.join(names)}. Leave such classes out (config.data.labels)"
            ", merge them (config.data.label_map), or use another protocol."
        )
    return Split(left, validation, test, unit)


def _heldout_unit(train, fold, wanted):
    """What is held out, see `Split.heldout`; `auto` is the most independent that there is."""
    if wanted != "auto":
        return wanted
    values = {c: {getattr(u, c) for u in train} for c in ("corpus", "dialog", "speaker")}
    official = {u.corpus for u in train if u.part == "validation"}
    if fold.protocol == "split" and official == values["corpus"]:
        return "validation"
    if "" not in values["dialog"] and len(values["dialog"]) > 1:
        return "dialog"
    if "" not in values["speaker"] and len(values["speaker"]) >= 3:
        return "speaker"
    return "utterance"


def _held_out(train, unit, fraction, seed) -> frozenset[int]:
    """Whole units with about `fraction` of the utterances and about the classes' shares.

    By dialog, for example, because turns of one conversation are too alike to be in both.

    Returns:
      `index` of the utterances held out.
    """
    if unit == "validation":
        return frozenset(u.index for u in train if u.part == unit)
    units = np.array([u.id if unit == "utterance" else getattr(u, unit) for u in train])
    # Of several corpora each has its share.
    corpora = sorted({u.corpus for u in train})
    labels = np.array([u.label + 1000 * corpora.index(u.corpus) for u in train])
    count, unknown = len(set(units)), int((units == "").sum())
    if count < 2 or unknown:
        raise UserError(
            f"config.heldout={unit} holds whole {unit}s of the training side out for the choice of "
            f"the epoch: it has {count}, and {unknown} of its {len(train)} utterances don't say "
            "which. It takes at least 2; name another unit, or use a larger corpus."
        )
    largest = max(collections.Counter(labels.tolist()).values())
    if largest < 2:
        raise UserError(
            f"The training side has {len(train)} utterances, no two of one class: nothing can be "
            "held out for the choice of the epoch. Use a larger corpus."
        )
    splits = max(2, min(round(1 / fraction), count, largest))
    # Here, for a prediction needs no scikit-learn.
    from sklearn.model_selection import StratifiedGroupKFold

    folder = StratifiedGroupKFold(n_splits=splits, shuffle=True, random_state=seed)
    with warnings.catch_warnings():  # of classes with fewer utterances than splits
        warnings.simplefilter("ignore", UserWarning)
        _, held = next(folder.split(np.zeros(len(train)), labels, groups=units))
    return frozenset(train[i].index for i in held)


def training_texts(utterances, augmented: bool) -> frozenset[str]:
    """The texts that a training on utterances can read, normalised as by `text.spoken`.

    Args:
      utterances: those trained on.
      augmented: whether augmented views are computed. Then every augmented text counts, also one
        that a model of speech and text never reads because no recording goes with it.
    """
    augmented_texts = [u.aug_transcript for u in utterances] if augmented else []
    return text.spoken([u.transcript for u in utterances] + augmented_texts)
