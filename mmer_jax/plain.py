"""JSON of files that may be damaged: read strictly, or refused in one message."""

import dataclasses
import json
import types
import typing

from mmer_jax import files
from mmer_jax.errors import UserError

_LARGEST = 2**63


def parse(text: str):
    """The value of a JSON text, in which nothing is doubtful.

    Raises:
      ValueError: no JSON, nested too deeply to be ours, an object with a key that comes twice (the
        last one would count), or half of a character (a lone surrogate), which no file can be
        written with.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if "\\ud" in text.lower():
        json.dumps(value, ensure_ascii=False).encode()  # a UnicodeEncodeError is a ValueError
    return value


def read(path: str, advice: str):
    """The value of a JSON file, see `parse`.

    Args:
      path: on a disk or in a bucket.
      advice: ends the message.

    Raises:
      UserError: it can't be read.
    """
    try:
        return parse(files.read_text(path))
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or e
        raise UserError(f"{path} is not JSON ({reason}). {advice}") from e


def _object(pairs):
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key comes twice in one object")
    return value


def faults(value, kinds: dict) -> list[str]:
    """Keys under which an object does not hold what it should, see `is_kind`; all, if it is none.

    Args:
      value: as `parse` gives it.
      kinds: key -> kind; one that may be missing is `... | None`.
    """
    stored = value if isinstance(value, dict) else {}
    return [
        key for key, kind in kinds.items()
        if not is_kind(stored.get(key), kind) or stored is not value
    ]  # fmt: skip


def check(record) -> None:
    """Raises ValueError where a field of a dataclass holds something else than its annotation says.

    Args:
      record: of plain values, as JSON has them.
    """
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if not is_kind(value, field.type):
            raise ValueError(f"{field.name} is {value!r:.80}")


def is_kind(value, kind) -> bool:
    """Whether a plain value is of a type such as `dict[str, list[float]]` or `int | None`.

    Of numbers: True and False are none, nor are NaN and infinity, nor whole ones beyond 64 bits. A
    text has no NUL in it. A list may be a tuple.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return any(is_kind(value, k) for k in inner)
    if kind in (int, float):
        kinds = (int, float) if kind is float else int
        is_number = isinstance(value, kinds) and not isinstance(value, bool)
        return is_number and -_LARGEST < value < _LARGEST
    if kind is str:
        return isinstance(value, str) and "\0" not in value
    if list in (kind, origin):
        entries = inner or (object,)
        return isinstance(value, (list, tuple)) and all(is_kind(x, entries[0]) for x in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            is_kind(k, inner[0]) and is_kind(x, inner[1]) for k, x in value.items()
        )
    return isinstance(value, kind)  # of None, type(None) is the kind
