"""The characters that the CTC head writes: the English ones, or those of a corpus."""

import collections
import dataclasses
import functools
import re
import unicodedata

import numpy as np

from mmer_jax.data.text import clean

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "|")  # `|` parts words
BLANK = 0
# As in wav2vec2's character vocabulary (facebook/wav2vec2-base-960h).
LETTERS = "ETAONIHSRDLUMWCFGYPBVK'XJQZ"
# Of a corpus' own: a character that one utterance alone has is trained on or tested, never both.
FEWEST = 2
MOST = 5000  # a Mandarin corpus of newspaper length has some 4 500


@dataclasses.dataclass(frozen=True)
class Alphabet:
    """Transcripts as symbols of the CTC head, and back.

    The English one has capitals, drops accents (é -> E) and digits. One of a corpus has lower case
    (NFKC of the casefolded text) and keeps letters, their marks, digits and the apostrophe. What
    is not in it is left out.

    Attributes:
      characters: after the special symbols, in the order of their ids.
    """

    characters: str = LETTERS

    @classmethod
    def of_transcripts(cls, transcripts) -> "Alphabet":
        """The characters of a corpus: those of at least 2 utterances, the 5000 most frequent.

        None where the transcripts share none.
        """
        every = cls("")
        counts, utterances = collections.Counter(), collections.Counter()
        for characters in map(every._characters, transcripts):
            counts.update(characters)
            utterances.update(set(characters))
        known = [c for c, n in utterances.items() if n >= FEWEST]
        known.sort(key=lambda c: (-counts[c], c))
        return cls("".join(known[:MOST]))

    @classmethod
    def from_json(cls, characters: str | None) -> "Alphabet":
        """The inverse of `to_json`; English for what was stored before there were others."""
        return cls(characters) if characters else ENGLISH

    def to_json(self) -> str:
        """Its characters; "" for the English ones."""
        return "" if self.is_english else self.characters

    @property
    def is_english(self) -> bool:
        """Whether it is wav2vec2's."""
        return self.characters == LETTERS

    @functools.cached_property
    def symbols(self) -> tuple[str, ...]:
        """By id; v of them."""
        return SPECIAL + tuple(self.characters)

    @functools.cached_property
    def _ids(self):
        return {symbol: i for i, symbol in enumerate(self.symbols)}

    def encode(self, text: str) -> np.ndarray:
        """A transcript as int32 [u] ids, words parted by `|`."""
        words = ("".join(c for c in word if c in self._ids) for word in self._words(text))
        return np.array([self._ids[c] for c in "|".join(w for w in words if w)], np.int32)

    def decode(self, ids) -> str:
        """The inverse of `encode` for a sequence without blanks and repeats."""
        first = len(SPECIAL) - 1
        return "".join(self.symbols[i] for i in ids if i >= first).replace("|", " ").strip()

    def reference(self, text: str) -> str:
        """A transcript as error rates compare it: what a corpus' alphabet lacks is an error."""
        return self.decode(self.encode(text)) if self.is_english else " ".join(self._words(text))

    def lacking(self, transcripts) -> tuple[dict[str, int], float]:
        """Letters and digits that it can't write -> their count; and their share of all."""
        counts = collections.Counter(c for t in transcripts for c in self._characters(t))
        counts = {c: n for c, n in counts.items() if c.isalnum()}
        lacking = {c: n for c, n in counts.items() if c not in self._ids}
        lacking = dict(sorted(lacking.items(), key=lambda x: (-x[1], x[0])))
        return lacking, sum(lacking.values()) / max(sum(counts.values()), 1)

    def _characters(self, text):
        return "".join(self._words(text))

    def _words(self, text):
        """The words of a transcript, in this alphabet's case, with the characters it might have."""
        if self.is_english:
            return re.split(r"[\s|-]+", unicodedata.normalize("NFKD", clean(text)).upper())
        plain = unicodedata.normalize("NFKC", clean(text)).casefold()
        words = re.split(r"[\s|\u2010-\u2015-]+", unicodedata.normalize("NFKC", plain))
        kept = ("".join(c for c in word if c == "'" or _is_spoken(c)) for word in words)
        return [word for word in kept if word]


def _is_spoken(character):
    """Whether it is a letter, a mark of one, or a digit."""
    return unicodedata.category(character)[0] in "LMN"


ENGLISH = Alphabet()
