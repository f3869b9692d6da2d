"""The plan of a corpus: who says what in which dialog, before any sound is made."""

import zlib
from dataclasses import dataclass, replace

import numpy as np

from mmer_jax.demo import sentences, sound

SESSIONS = (1, 2, 3, 4, 5)
FOUR_CLASS = ("ang", "hap", "exc", "neu", "sad")
RARE = ("sur", "oth", "fea", "dis")
MAX_DIALOGS = 12
SCRIPTED_SHARE = 0.5
LINES_PER_SCRIPT = 6
SECOND_CLIP_SHARE = 0.2
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
# What a transcript's text shows beside the words; `quirks.shown` has what each one does.
MARKS = ("space", "laughter", "breathing", "garbage", "dashes", "dots", "colon", "repeated")
AWKWARD_MARKS = ("latin1", "quotes", "tabs")
MARKED_SHARE, AWKWARD_MARKED_SHARE = 0.2, 0.5
SHORT_SECONDS = 0.56
LONG_SENTENCES = 8


@dataclass(frozen=True)
class Turn:
    """One utterance.

    Attributes:
        session: 1..5.
        speaker: session and gender, as "1F".
        label: three letters, as in the label files.
        dialog: name, as "Ses01F_impro01".
        number: counts the speaker's turns in the dialog from 0.
        text: what is said and its paraphrase.
        prosody: how it is said.
        seed: of everything random in its sound and in its files.
        mark: one of MARKS or AWKWARD_MARKS, "empty" (nothing was transcribed) or "".
        max_seconds: the sound is cut after so many seconds, if not None.
    """

    session: int
    speaker: str
    label: str
    dialog: str
    number: int
    text: sentences.Text
    prosody: sound.Prosody
    seed: int
    mark: str = ""
    max_seconds: float | None = None

    @property
    def utterance(self):
        """The id, as IEMOCAP spells it."""
        return f"{self.dialog}_{self.speaker[1]}{self.number:03d}"

    @property
    def four_class(self):
        """Whether its label is one of the benchmark's."""
        return self.label in FOUR_CLASS


@dataclass(frozen=True)
class Clip:
    """A paraphrase with the emotion of the original, in a voice that no speaker has.

    `voice` is one of `sound.AUGMENTED_VOICES`: training on it uses no speaker's voice.
    """

    turn: Turn
    voice: str
    prosody: sound.Prosody
    seed: int

    @property
    def name(self):
        """`<anything><utterance>.wav`; the first part names the voice."""
        return f"{self.voice}_as_{self.turn.utterance}.wav"


def seed_of(*parts):
    """Returns a 31-bit seed that is the same in every process, unlike hash()."""
    return zlib.crc32("|".join(map(str, parts)).encode()) % 2**31


def stream(*parts):
    """Returns the random numbers that belong to a name."""
    return np.random.RandomState(seed_of(*parts))


def turns(seed, per_speaker_class, awkward):
    """Plans every utterance of the release tree.

    Args:
        seed: any integer.
        per_speaker_class: utterances of each speaker in each of the four classes.
        awkward: adds the rarer and worse cases.

    Returns:
        A list of Turn: sessions, dialogs and turns in the order in which they happen.
    """
    planned = []
    for session in SESSIONS:
        planned += _session(seed, session, per_speaker_class)
    if awkward:
        planned = _with_extremes(seed, planned)
    return _with_marks(seed, planned, awkward)


def clips(seed, planned):
    """Plans the augmented speech: one clip for each four-class turn, for some of them two."""
    result = []
    for turn in filter(lambda turn: turn.four_class, planned):
        random = stream(seed, "clips", turn.utterance)
        count = 2 if random.rand() < SECOND_CLIP_SHARE else 1
        for voice in random.permutation(list(sound.AUGMENTED_VOICES))[:count]:
            prosody = sound.draw_prosody(turn.label, random)
            clip_seed = seed_of(seed, "clip", turn.utterance, voice)
            result.append(Clip(turn, str(voice), prosody, clip_seed))
    return result


def dialog_names(session, per_speaker_class):
    """Returns the session's dialogs: few for a tiny corpus, so that each still mixes classes."""
    names = DIALOGS.get(session, COMMON).split()
    return [f"Ses0{session}{name}" for name in names[: max(4, min(MAX_DIALOGS, per_speaker_class))]]


def _session(seed, session, per_speaker_class):
    names = dialog_names(session, per_speaker_class)
    members = {name: [] for name in names}
    for gender in "FM":
        speaker = f"{session}{gender}"
        for place, label, index in _cast(seed, speaker, per_speaker_class, len(names)):
            dialog = names[place]
            members[dialog].append(_turn(seed, session, speaker, label, index, dialog))
    planned = []
    for dialog, items in members.items():
        order = stream(seed, "order", dialog).permutation(len(items))
        planned += _numbered([items[i] for i in order])
    return planned


def _cast(seed, speaker, per_speaker_class, dialogs):
    """Yields (dialog's position, label, index within the label) for each turn of a speaker.

    Every class starts at another dialog, so that neighbouring dialogs get different mixtures and
    none is left with one class alone.
    """
    shift = 2 * (speaker[1] == "M")
    shuffled = stream(seed, speaker, "excited").permutation(per_speaker_class)
    excited = set(shuffled[: (per_speaker_class + (speaker[1] == "M")) // 2])
    for start, name in enumerate(("ang", "hap", "neu", "sad")):
        for index in range(per_speaker_class):
            place = (index + start * (dialogs // 4) + shift) % dialogs
            yield place, "exc" if name == "hap" and index in excited else name, index
    for index, label in enumerate(_other_labels(speaker, per_speaker_class)):
        yield (index + shift) % dialogs, label, index


def _other_labels(speaker, per_speaker_class):
    """Labels that a four-class reader has to leave out; each occurs in the smallest corpus."""
    many = max(1, round(0.4 * per_speaker_class))
    rare = RARE[list(sound.VOICES).index(speaker) % len(RARE)]
    return ["fru", "xxx"] * many + ["sur"] * round(0.12 * per_speaker_class) + [rare]


def _turn(seed, session, speaker, label, index, dialog):
    key = (seed, speaker, label, index)
    return Turn(
        session=session,
        speaker=speaker,
        label=label,
        dialog=dialog,
        number=0,
        text=_text(key, label, dialog),
        prosody=sound.draw_prosody(label, stream(*key, "prosody")),
        seed=seed_of(*key),
    )


def _text(key, label, dialog):
    """Draws a text: in a scripted dialog often a line that other sessions' actors say too."""
    random = stream(*key, "text")
    pool = sentences.draw_pool(label, random)
    script = dialog.split("_", 1)[1]
    if script.startswith("script") and random.rand() < SCRIPTED_SHARE:
        # A line belongs to a pool, not to a label: an ambiguous one must not give its label away.
        random = stream(key[0], script, pool, random.randint(LINES_PER_SCRIPT))
    return sentences.draw_text(pool, random)


def _numbered(items):
    counts = {}
    result = []
    for turn in items:
        number = counts.setdefault(turn.speaker, 0)
        counts[turn.speaker] += 1
        result.append(replace(turn, number=number))
    return result


def _with_extremes(seed, planned):
    """Makes one utterance shorter than 0.6 s, one longer than 14 s and one without transcript."""
    changes = {
        1: lambda turn: {"text": sentences.Text("No.", "Not so."), "max_seconds": SHORT_SECONDS},
        2: lambda turn: {"text": _long_text(seed, turn)},
        3: lambda turn: {"mark": "empty"},
    }
    planned = list(planned)
    for session, change in changes.items():
        chosen = next(i for i, t in enumerate(planned) if t.session == session and t.four_class)
        planned[chosen] = replace(planned[chosen], **change(planned[chosen]))
    return planned


def _long_text(seed, turn):
    random = stream(seed, "long")
    pools = [sentences.draw_pool(turn.label, random) for _ in range(LONG_SENTENCES)]
    texts = [sentences.draw_text(pool, random) for pool in pools]
    return sentences.Text(*map(" ".join, zip(*texts, strict=True)))


def _with_marks(seed, planned, awkward):
    kinds = MARKS + AWKWARD_MARKS if awkward else MARKS
    share = AWKWARD_MARKED_SHARE if awkward else MARKED_SHARE
    planned = list(planned)
    # In turn rather than by chance: even a tiny corpus has each of them.
    order = stream(seed, "marks").permutation(len(planned))[: round(share * len(planned))]
    for rank, position in enumerate(order):
        turn = planned[position]
        if not turn.mark and turn.max_seconds is None:
            planned[position] = _marked(turn, kinds[rank % len(kinds)])
    return planned


def _marked(turn, mark):
    if mark == "colon":
        spoken = f"Listen: {turn.text.sentence}"
        return replace(turn, mark=mark, text=turn.text._replace(sentence=spoken))
    return replace(turn, mark=mark)
