"""The published counts, on made-up records: no label of the release is here."""

import collections

import pytest

from . import counts
from .files import ReleaseError
from .release import Utterance

# By label over all sessions, as published; happiness and excitement apart.
TOTALS = {"fru": 1849, "xxx": 2507, "sur": 107, "fea": 40, "oth": 3, "dis": 2}
EXC = {1: 143, 2: 210, 3: 151, 4: 238, 5: 299}


def made(session: int, label: str, number: int) -> list[Utterance]:
    name = f"Ses0{session}F_impro01_F"
    return [Utterance(f"{name}{n:03d}", label, 0, 1, 1, 1, 1) for n in range(number)]


@pytest.fixture
def whole() -> list[Utterance]:
    found = []
    for session, row in counts.RELEASE_CELLS.items():
        for label, number in row.items():
            exc = EXC[session] if label == "hap" else 0
            found += made(session, label, number - exc) + made(session, "exc", exc)
    for label, number in TOTALS.items():
        found += made(1, label, number)
    return found


def test_published_table_adds_up(whole):
    labels = collections.Counter(utterance.label for utterance in whole)
    assert len(whole) == counts.RELEASE_TOTAL
    assert (labels["ang"], labels["exc"], labels["hap"]) == (1103, 1041, 595)
    assert (labels["neu"], labels["sad"]) == (1708, 1084)


def test_the_release_passes(whole):
    assert counts.check_counts(whole, dialogs=151)


def test_every_cell_that_differs_is_named(whole):
    changed = whole[1:] + made(5, "exc", 2)  # The first is an `ang` of session 1.
    with pytest.raises(ReleaseError) as error:
        counts.check_counts(changed, dialogs=151)
    message = str(error.value)
    assert "session1 ang: found 228, expected 229" in message
    assert "session5 hap: found 444, expected 442" in message
    assert "all labels: found 10040, expected 10039" in message
    assert message.count("found") == 3


def test_a_lost_session_is_found_though_the_tree_is_smaller(whole):
    four = [utterance for utterance in whole if utterance.session != 4]
    with pytest.raises(ReleaseError, match="session4 sad: found 0, expected 143"):
        counts.check_counts(four, dialogs=121)


@pytest.mark.parametrize("utterances, dialogs, compared", [(5019, 150, False), (5020, 1, True)])
def test_what_is_taken_for_the_release(utterances, dialogs, compared):
    assert counts.is_release(utterances, dialogs) is compared
    assert counts.is_release(1, 151)


def test_a_small_tree_is_not_compared():
    assert not counts.check_counts(made(1, "ang", 3), dialogs=1)


def test_rendered_table():
    lines = counts.render(made(2, "ang", 3) + made(2, "xxx", 1)).splitlines()
    assert lines[0].split() == [*counts.LABELS, "all"]
    assert lines[2].split() == ["session2", "3", *["0"] * 9, "1", "4"]
    assert lines[-1].split() == ["all", "3", *["0"] * 9, "1", "4"]
