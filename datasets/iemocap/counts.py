"""How many utterances of which label a tree has, against the published counts."""

import collections

from .files import ReleaseError, listing
from .release import LABELS, Utterance

EMOTIONS4 = ("ang", "hap", "neu", "sad")
MERGED = {"exc": "hap"}
SESSIONS = (1, 2, 3, 4, 5)

# Busso et al. 2008 as distributed; happiness and excitement merged.
RELEASE_CELLS = {
    1: {"ang": 229, "hap": 278, "neu": 384, "sad": 194},
    2: {"ang": 137, "hap": 327, "neu": 362, "sad": 197},
    3: {"ang": 240, "hap": 286, "neu": 320, "sad": 305},
    4: {"ang": 327, "hap": 303, "neu": 258, "sad": 143},
    5: {"ang": 170, "hap": 442, "neu": 384, "sad": 245},
}
RELEASE_TOTAL = 10_039
RELEASE_DIALOGS = 151


def render(utterances: list[Utterance]) -> str:
    """Draws the session x label table, one row a session and a last one for all."""
    lines = [" " * 9 + "".join(f"{label:>6}" for label in (*LABELS, "all"))]
    for name, sessions in (*((f"session{s}", (s,)) for s in SESSIONS), ("all", SESSIONS)):
        row = collections.Counter(u.label for u in utterances if u.session in sessions)
        cells = (*(row[label] for label in LABELS), row.total())
        lines.append(f"{name:9}" + "".join(f"{cell:6}" for cell in cells))
    return "\n".join(lines)


def is_release(utterances: int, dialogs: int) -> bool:
    """Whether a tree claims to be the whole release: its 151 dialogs, or over half its turns."""
    return dialogs == RELEASE_DIALOGS or 2 * utterances > RELEASE_TOTAL


def check_counts(utterances: list[Utterance], dialogs: int) -> bool:
    """Compares a tree with the published counts if it claims to be the release.

    Args:
      utterances: every labelled utterance of the tree.
      dialogs: how many label files it has.

    Returns:
      Whether the tree was compared: False for a small or a synthetic one.

    Raises:
      ReleaseError: a cell differs; names each with what was found and expected.
    """
    if not is_release(len(utterances), dialogs):
        return False
    found = collections.Counter((u.session, MERGED.get(u.label, u.label)) for u in utterances)
    wrong = [
        f"session{session} {label}: found {found[session, label]}, expected {expected}"
        for session, row in RELEASE_CELLS.items()
        for label, expected in row.items()
        if found[session, label] != expected
    ]
    if len(utterances) != RELEASE_TOTAL:
        wrong.append(f"all labels: found {len(utterances)}, expected {RELEASE_TOTAL}")
    if wrong:
        raise ReleaseError(
            f"The tree has {dialogs} label files and {len(utterances)} labelled utterances, so it "
            "was compared with the IEMOCAP release (hap is happiness and excitement), and "
            f"differs:\n{listing(wrong)}\nUnpack the release again and leave its label files as "
            "they are; numbers on other data would not compare with published ones."
        )
    return True
