"""The plan of a corpus: who says what, how and in which dialog, before any sound is made."""

import itertools
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmer_jax.demo import speech

SESSIONS = (1, 2, 3, 4, 5)
FOUR_CLASS = ("ang", "hap", "exc", "neu", "sad")
RARE = ("sur", "oth", "fea", "dis")
# The release's odd names come first, so that a tiny corpus has them too.
COMMON = (
    "F_impro01 M_script01_1 M_impro02 F_script01_2 F_impro03 M_impro04 F_script02_1 M_script02_2 "
    "M_impro01 F_script03_1 M_script03_2 F_impro06"
)
DIALOGS = {
    3: "M_impro05a M_impro05b F_script01_2 M_script01_1 M_impro08a M_impro08b F_impro01 "
    "F_script02_1 M_impro02 F_script03_1 M_script03_2 F_impro06",
    5: "M_script01_1 M_script01_1b F_impro01 M_impro02 F_script01_2 F_impro03 M_impro04 "
    "F_script02_1 M_script02_2 M_impro01 F_script03_1 F_impro06",
}
SCRIPTED_SHARE, LINES_PER_SCRIPT = 0.5, 6
SECOND_CLIP_SHARE = 0.2
# What a transcript's text shows beside the words; `release.shown` has what each one does.
MARKS = ("space", "laughter", "breathing", "garbage", "dashes", "dots", "colon", "repeated")
AWKWARD_MARKS = ("latin1", "quotes", "tabs")
MARKED_SHARE, AWKWARD_MARKED_SHARE = 0.2, 0.5
SHORT_SECONDS = 0.56
LONG_SENTENCES = 8

AMBIGUOUS_SHARE, NEGATIVE_SHARE = 0.38, 0.3
SLOTS = {
    "name": "Tom Anna Mark Julia Peter Laura David Emma Frank Nina Oscar Ruth".split(),
    "thing": "keys phone car letter ticket jacket camera laptop wallet guitar".split(),
    "place": "station office kitchen garden school market airport hotel library theater".split(),
    "time": "this morning,last night,yesterday,on Monday,an hour ago,again today,last week,"
    "on Sunday".split(","),
}
# Labels outside the four classes borrow the words of their neighbours.
BORROWED = {"exc": "hap", "fru": "ang", "sur": "hap", "fea": "sad", "dis": "ang"}


def _pools():
    """Pool -> rows of sentences.txt: a sentence, then paraphrases that keep its ambiguity.

    A slot stands in all of a row's texts or in none.
    """
    pools = {}
    for line in Path(__file__).with_name("sentences.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            rows = pools[line.strip("[]")] = []
        elif line:
            rows.append(tuple(line.split(" | ")))
    return pools


POOLS = _pools()


class Text(NamedTuple):
    """A sentence and its paraphrase."""

    sentence: str
    paraphrase: str


@dataclass
class Turn:
    """One utterance.

    Attributes:
        session: 1..5.
        speaker: session and gender, as "1F".
        label: three letters, as in the label files.
        dialog: name, as "Ses01F_impro01".
        text: its sentence and paraphrase.
        prosody: how it is said.
        seed: of everything random in its sound and in its files.
        number: counts the speaker's turns in the dialog from 0.
        mark: one of MARKS or AWKWARD_MARKS, "empty" (nothing was transcribed) or "".
        max_seconds: the sound is cut after so many seconds, if not None.
    """

    session: int
    speaker: str
    label: str
    dialog: str
    text: Text
    prosody: speech.Prosody
    seed: int
    number: int = 0
    mark: str = ""
    max_seconds: float | None = None

    @property
    def voice(self):
        """The speaker's own."""
        return self.speaker

    @property
    def spoken(self):
        """What its sound says."""
        return self.text.sentence

    @property
    def utterance(self):
        """The id, as IEMOCAP spells it."""
        return f"{self.dialog}_{self.speaker[1]}{self.number:03d}"

    @property
    def four_class(self):
        """Whether its label is one of the benchmark's."""
        return self.label in FOUR_CLASS


@dataclass
class Clip:
    """A turn's paraphrase with the turn's emotion, in a voice that no speaker has.

    `voice` is one of `speech.AUGMENTED_VOICES`: training on it uses no speaker's voice.
    """

    turn: Turn
    voice: str
    prosody: speech.Prosody
    seed: int
    max_seconds = None

    @property
    def spoken(self):
        """What its sound says."""
        return self.turn.text.paraphrase

    @property
    def name(self):
        """`<anything><utterance>.wav`; the first part names the voice."""
        return f"{self.voice}_as_{self.turn.utterance}.wav"


def _seed_of(*parts):
    """Returns a 31-bit seed that is the same in every process, unlike hash()."""
    return zlib.crc32("|".join(map(str, parts)).encode()) % 2**31


def stream(*parts):
    """Returns the random numbers that belong to a name."""
    return np.random.RandomState(_seed_of(*parts))


def turns(seed, per_speaker_class, awkward):
    """Plans every utterance of the release tree.

    Args:
        seed: any integer.
        per_speaker_class: utterances of each speaker in each of the four classes.
        awkward: adds the rarer and worse cases.

    Returns:
        A list of Turn: sessions, dialogs and turns in the order in which they happen.
    """
    planned = [turn for s in SESSIONS for turn in _session(seed, s, per_speaker_class)]
    if awkward:
        _add_extremes(seed, planned)
    _add_marks(seed, planned, awkward)
    return planned


def clips(seed, planned):
    """Plans the augmented speech: one clip for each four-class turn, for some of them two."""
    result = []
    for turn in filter(lambda turn: turn.four_class, planned):
        random = stream(seed, "clips", turn.utterance)
        count = 2 if random.rand() < SECOND_CLIP_SHARE else 1
        for voice in random.permutation(list(speech.AUGMENTED_VOICES))[:count]:
            prosody = speech.draw_prosody(turn.label, random)
            clip_seed = _seed_of(seed, "clip", turn.utterance, voice)
            result.append(Clip(turn, str(voice), prosody, clip_seed))
    return result


def _session(seed, session, per_speaker_class):
    """Yields a session's turns; a tiny corpus has few dialogs, so that each still mixes classes."""
    names = DIALOGS.get(session, COMMON).split()[: max(4, per_speaker_class)]
    dialogs = {f"Ses0{session}{name}": [] for name in names}
    for gender in "FM":
        speaker = f"{session}{gender}"
        for place, label, index in _cast(seed, speaker, per_speaker_class, len(names)):
            dialog = list(dialogs)[place]
            dialogs[dialog].append(_turn((seed, speaker, label, index), dialog))
    for dialog, items in dialogs.items():
        numbers = {"F": itertools.count(), "M": itertools.count()}
        for i in stream(seed, "order", dialog).permutation(len(items)):
            items[i].number = next(numbers[items[i].speaker[1]])
            yield items[i]


def _cast(seed, speaker, per_speaker_class, dialogs):
    """Yields (dialog's position, label, index within the label) for each turn of a speaker.

    Every class starts at another dialog, so that neighbouring dialogs get different mixtures and
    none is left with one class alone. The labels that a four-class reader has to leave out occur
    in the smallest corpus too.
    """
    male = speaker[1] == "M"
    shuffled = stream(seed, speaker, "excited").permutation(per_speaker_class)
    excited = set(shuffled[: (per_speaker_class + male) // 2])
    for start, name in enumerate(("ang", "hap", "neu", "sad")):
        for index in range(per_speaker_class):
            place = (index + start * (dialogs // 4) + 2 * male) % dialogs
            yield place, "exc" if name == "hap" and index in excited else name, index
    others = ["fru", "xxx"] * max(1, round(0.4 * per_speaker_class))
    others += ["sur"] * round(0.12 * per_speaker_class)
    others += [RARE[list(speech.VOICES).index(speaker) % len(RARE)]]
    for index, label in enumerate(others):
        yield (index + 2 * male) % dialogs, label, index


def _turn(key, dialog):
    """Returns the turn of a key: (seed, speaker, label, index within the label)."""
    _, speaker, label, _ = key
    prosody = speech.draw_prosody(label, stream(*key, "prosody"))
    session, text = int(speaker[0]), _text(key, dialog)
    return Turn(session, speaker, label, dialog, text, prosody, _seed_of(*key))


def _text(key, dialog):
    """Draws a text: in a scripted dialog often a line that other sessions' actors say too."""
    random = stream(*key, "text")
    pool = _draw_pool(key[2], random)
    script = dialog.split("_", 1)[1]
    if script.startswith("script") and random.rand() < SCRIPTED_SHARE:
        # A line belongs to a pool, not to a label: an ambiguous one must not give its label away.
        random = stream(key[0], script, pool, random.randint(LINES_PER_SCRIPT))
    return _draw_text(pool, random)


def _draw_pool(label, random):
    """Draws the key of `POOLS` that an utterance with an emotion label takes its sentence from.

    Words carry mostly valence: a share of all labels is said with sentences that fit any of them,
    and a share of anger and sadness with bad news that fits both.
    """
    chance = random.rand()
    pool = BORROWED.get(label, label)
    if chance < AMBIGUOUS_SHARE or pool not in POOLS:
        return "ambiguous"
    if pool in ("ang", "sad") and chance < AMBIGUOUS_SHARE + NEGATIVE_SHARE:
        return "negative"
    return pool


def _draw_text(pool, random):
    row = POOLS[pool][random.randint(len(POOLS[pool]))]
    slots = {name: values[random.randint(len(values))] for name, values in SLOTS.items()}
    templates = row[0], row[1 + random.randint(len(row) - 1)]
    filled = [template.format(**slots) for template in templates]
    return Text(*(text[0].upper() + text[1:] for text in filled))


def _add_extremes(seed, planned):
    """Makes one utterance shorter than 0.6 s, one longer than 14 s and one without transcript."""
    short, long, empty = (
        next(turn for turn in planned if turn.session == session and turn.four_class)
        for session in SESSIONS[:3]
    )
    short.text, short.max_seconds = Text("No.", "Not so."), SHORT_SECONDS
    random = stream(seed, "long")
    pools = [_draw_pool(long.label, random) for _ in range(LONG_SENTENCES)]
    long.text = Text(*map(" ".join, zip(*(_draw_text(pool, random) for pool in pools))))
    empty.mark = "empty"


def _add_marks(seed, planned, awkward):
    """Marks a share of the turns: in turn, so that even a tiny corpus has each of the marks."""
    kinds = MARKS + AWKWARD_MARKS if awkward else MARKS
    share = AWKWARD_MARKED_SHARE if awkward else MARKED_SHARE
    order = stream(seed, "marks").permutation(len(planned))[: round(share * len(planned))]
    for kind, position in zip(itertools.cycle(kinds), order):
        turn = planned[position]
        if not turn.mark and turn.max_seconds is None:
            turn.mark = kind
            if kind == "colon":
                turn.text = turn.text._replace(sentence=f"Listen: {turn.text.sentence}")
