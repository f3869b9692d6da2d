"""The sentences that are spoken, each with paraphrases that keep its meaning and its ambiguity."""

from pathlib import Path
from typing import NamedTuple

AMBIGUOUS_SHARE = 0.38
NEGATIVE_SHARE = 0.3
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
    """Pool -> rows of sentences.txt: a sentence as it is said first, then its paraphrases.

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


def draw_pool(label, random):
    """Draws which pool an utterance with an emotion label takes its sentence from.

    Words carry mostly valence: a share of all labels is said with sentences that fit any of them,
    and a share of anger and sadness with bad news that fits both.

    Args:
        label: three letters, as in the label files.
        random: numpy RandomState.

    Returns:
        A key of `POOLS`.
    """
    chance = random.rand()
    pool = BORROWED.get(label, label)
    if chance < AMBIGUOUS_SHARE or pool not in POOLS:
        return "ambiguous"
    if pool in ("ang", "sad") and chance < AMBIGUOUS_SHARE + NEGATIVE_SHARE:
        return "negative"
    return pool


def draw_text(pool, random):
    """Draws a sentence of a pool, a Text."""
    row = POOLS[pool][random.randint(len(POOLS[pool]))]
    slots = {name: values[random.randint(len(values))] for name, values in SLOTS.items()}
    paraphrase = row[1 + random.randint(len(row) - 1)]
    return Text(_fill(row[0], slots), _fill(paraphrase, slots))


def _fill(template, slots):
    text = template.format(**slots)
    return text[0].upper() + text[1:]
