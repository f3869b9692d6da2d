"""The one error that a release which cannot be used ends in."""

SHOWN = 20


class ReleaseError(ValueError):
    """The release or the augmented data cannot be used as they are.

    The message says what was found, what was expected and what to do.
    """


def listing(lines: list[str]) -> str:
    """Joins `lines`, one indented line each, cut to the first 20 and a count of the rest."""
    rest = len(lines) - SHOWN
    shown = lines[:SHOWN] + ([f"... and {rest} more"] if rest > 0 else [])
    return "\n".join(f"  {line}" for line in shown)
