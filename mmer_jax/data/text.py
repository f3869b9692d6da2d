"""Transcripts: cleaned, compared, and as tokens of the text encoder."""

import functools
import hashlib
import json
import os
import re
import unicodedata

import numpy as np

from mmer_jax.errors import UserError, first_line

_EVENT = re.compile(r"\[[A-Z_ ]+\]")  # [LAUGHTER], [BREATHING], [GARBAGE], ...
_BRACKETS = re.compile(r"\[[^\]]*\]|\([^)]*\)")
# Of a tokenizer: tokenizer.json doesn't say which of its tokens have these parts.
_SPECIAL = (
    "bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token",
)  # fmt: skip
TOKENIZER_FILE, _TOKENIZER_OPTIONS = "tokenizer.json", "tokenizer_config.json"
_PUNCTUATION = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"'})


def clean(text: str, keep_events: bool = False, keep_brackets: bool = True) -> str:
    """One line with single spaces and straight quotes; `[LAUGHTER]` and the like go unless kept.

    Args:
      keep_events: keeps them.
      keep_brackets: keeps whatever else stands in [...] or (...).
    """
    text = unicodedata.normalize("NFC", text).translate(_PUNCTUATION)
    if not keep_brackets:
        is_kept = _EVENT.fullmatch if keep_events else lambda bracket: None
        text = _BRACKETS.sub(lambda m: m[0] if is_kept(m[0]) else " ", text)
    elif not keep_events:
        text = _EVENT.sub(" ", text)
    return " ".join(text.split())


def normalized(transcript: str) -> str:
    """A transcript as it is compared with others: no events, punctuation or case."""
    kept = (c if _is_spoken(c) else " " for c in clean(transcript).lower().replace("'", ""))
    return " ".join("".join(kept).split())


def _is_spoken(character):
    """Whether it is of a word: marks too, with which some languages write their vowels."""
    return character.isalnum() or unicodedata.category(character)[0] == "M"


def spoken(transcripts) -> frozenset[str]:
    """The transcripts, normalised, without the empty ones."""
    return frozenset(normalized(t) for t in transcripts) - {""}


class Tokenizer:
    """A Hugging Face tokenizer behind the two calls that the pipeline needs.

    Args:
      source: hub name, folder or tokenizer.json, see `load_tokenizer`.
      max_tokens: longer texts are cut, special tokens kept.
      keep_events, keep_brackets: see `clean`.

    Raises:
      UserError: nothing at `source`, or no network to fetch it.
    """

    def __init__(self, source: str, max_tokens: int, keep_events: bool = False,
                 keep_brackets: bool = True):  # fmt: skip
        self.source = source
        self._hf = load_tokenizer(source)
        self.max_tokens = max_tokens
        self.keep_events = keep_events
        self.keep_brackets = keep_brackets
        # Ids need not be without gaps: what counts is the largest.
        self.vocab_size = max(len(self._hf), 1 + max(self._hf.get_vocab().values(), default=0))
        self.pad_id = self._hf.pad_token_id or 0
        # Every epoch reads the same texts again.
        self._ids = functools.lru_cache(maxsize=2**16)(self._tokenized)

    def cleaned(self, text: str) -> str:
        """The part of a text that is tokenised, see `clean`."""
        return clean(text, self.keep_events, self.keep_brackets)

    def ids(self, text: str) -> np.ndarray:
        """int32 [s] token ids with the special tokens; never empty. To be read, not changed."""
        return self._ids(text)

    def _tokenized(self, text):
        text = self.cleaned(text)
        return np.array(
            self._hf(text, truncation=True, max_length=self.max_tokens)["input_ids"], np.int32
        )

    def save(self, folder: str) -> None:
        """Writes it into a new folder, see `save_tokenizer`."""
        backend = _backend(self._hf, self.source)
        backend.no_truncation()  # that of its last use
        backend.no_padding()
        save_tokenizer(self._hf, self.source, folder)

    def digest(self) -> str:
        """The SHA-256 of its tokenizer.json, however long the texts are that it was used for.

        Raises:
          UserError: see `save_tokenizer`.
        """
        state = json.loads(_backend(self._hf, self.source).to_str())
        state |= {"truncation": None, "padding": None}
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def read_tokenizer(config) -> Tokenizer | None:
    """The tokenizer that a config names; None for a model of speech alone.

    Raises:
      UserError: see `Tokenizer`.
    """
    if "text" not in config.model.modalities:
        return None
    options = config.text
    source = options.tokenizer or options.pretrained
    return Tokenizer(source, options.max_tokens, options.keep_events, options.keep_brackets)


def load_tokenizer(source: str):
    """Hugging Face's tokenizer; code that comes with one is not run.

    Args:
      source: hub name or folder; or the path of a tokenizer.json, which is read as data alone: of
        the files beside it tokenizer_config.json names special tokens, and nothing chooses a class.

    Raises:
      UserError: nothing at `source`, or no network to fetch it.
    """
    # Imported late: transformers takes seconds, and audio-only runs need none of it here.
    from transformers import AutoTokenizer

    source = os.path.expanduser(source)
    try:
        if os.path.isfile(source):
            return _from_file(source)
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as e:  # transformers raises OSError, ValueError, or its hub's own errors
        raise UserError(
            f"No tokenizer could be loaded from {source!r} ({first_line(e)}). Expected a folder "
            "with a Hugging Face tokenizer or, with a network, a hub name such as roberta-base."
        ) from e


def save_tokenizer(tokenizer, source: str, folder: str) -> None:
    """Writes a tokenizer into a new folder by its data alone, whatever class it had.

    Args:
      tokenizer: of `load_tokenizer`.
      source: where it was read.
      folder: on a disk.

    Raises:
      UserError: a slow tokenizer, which tokenizer.json can't hold.
    """
    backend = _backend(tokenizer, source)
    os.makedirs(folder)
    path = os.path.join(folder, TOKENIZER_FILE)
    backend.save(path)
    special = {k: str(v) for k, v in tokenizer.special_tokens_map.items() if k in _SPECIAL}
    with open(os.path.join(folder, _TOKENIZER_OPTIONS), "w", encoding="utf-8") as f:
        json.dump(special, f)
    _from_file(path).save_pretrained(folder)  # as it will be read


def _backend(tokenizer, source):
    """The part of a Hugging Face tokenizer that tokenizer.json holds."""
    if not tokenizer.is_fast:
        raise UserError(
            f"The tokenizer in {source!r} has no form that {TOKENIZER_FILE} could hold (it is a "
            f"{type(tokenizer).__name__}, in Python). Train with a fast one."
        )
    return tokenizer.backend_tokenizer


def _from_file(path):
    """The tokenizer of a tokenizer.json and of the special tokens named beside it."""
    from transformers import PreTrainedTokenizerFast

    with open(path, encoding="utf-8") as f:
        splitter = json.load(f).get("pre_tokenizer") or {}
    # The class would set it to False.
    prefix = {k: v for k, v in splitter.items() if k == "add_prefix_space"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=path, **prefix)
    try:
        with open(os.path.join(os.path.dirname(path), _TOKENIZER_OPTIONS), encoding="utf-8") as f:
            named = json.load(f)
    except (OSError, ValueError):
        named = None  # of an older version, or spoilt: the tokens themselves are in tokenizer.json
    for name in _SPECIAL if isinstance(named, dict) else ():
        token = named.get(name)
        if isinstance(token, str) and token in tokenizer.get_vocab():  # nothing is added
            setattr(tokenizer, name, token)
    return tokenizer
