"""The blemishes of a real release: marks in transcripts, stray bytes, junk files."""

import struct

# What a Mac leaves beside a file: a valid AppleDouble header and bytes that are not UTF-8.
APPLE_DOUBLE = struct.pack(
    ">II16sHIII", 0x00051607, 0x00020000, b"Mac OS X        ", 1, 9, 38, 120
) + bytes([0xFF, 0xFE, 0xB0, 0xC3, 0x00, 0x05] * 20)
DS_STORE = b"\x00\x00\x00\x01Bud1\x00\x00\x10\x00\xff\xfe\xb0\xc3" + bytes(48)


def shown(turn):
    """Returns the texts that the transcription shows for a turn: one, two for a repeated id.

    A lone surrogate in a text stands for a byte that is no UTF-8 (`surrogateescape`).
    """
    text = turn.text.sentence
    if turn.mark == "repeated":
        words = text.split()
        half = max(1, len(words) // 2)
        return [part for part in (" ".join(words[:half]), " ".join(words[half:])) if part]
    return [_MARKED[turn.mark](text)] if turn.mark in _MARKED else [text]


def joined(turn):
    """Returns the text that a reader of the transcription gets: joined, decoded, stripped."""
    raw = " ".join(shown(turn)).encode("utf-8", "surrogateescape")
    return raw.decode("utf-8", "replace").strip()


def _dashes(text):
    first, _, rest = text.partition(" ")
    return f"{first} -- {first} {rest}"


def _latin1(text):
    if "'" in text:
        return text.replace("'", "\udc92")
    return text + " \udca0"


_MARKED = {
    "space": lambda text: text + "  ",
    "laughter": lambda text: "[LAUGHTER] " + text,
    "breathing": lambda text: text + " [BREATHING]",
    "garbage": lambda text: "[GARBAGE] " + text,
    "dashes": _dashes,
    "dots": lambda text: text.removesuffix(".") + "...",
    "latin1": _latin1,
    "quotes": lambda text: "\u201c" + text.replace("'", "\u2019") + "\u201d",
    "tabs": lambda text: text.replace(" ", "\t", 1).replace(" ", "   ", 1),
    "empty": lambda text: "",
}


def line_ending(dialog_index, awkward):
    """Returns the newline of a dialog's text files: CRLF for some of an awkward corpus."""
    return "\r\n" if awkward and dialog_index % 3 == 1 else "\n"


def junk_files(session_folder, dialog, utterance):
    """Yields (path, bytes) of the files that a Mac leaves in a session's folders."""
    evaluation = session_folder / "dialog" / "EmoEvaluation"
    transcriptions = session_folder / "dialog" / "transcriptions"
    wavs = session_folder / "sentences" / "wav"
    for folder in (evaluation, transcriptions, wavs, wavs / dialog):
        yield folder / ".DS_Store", DS_STORE
    for path in (
        evaluation / f"{dialog}.txt",
        transcriptions / f"{dialog}.txt",
        wavs / dialog / f"{utterance}.wav",
    ):
        yield path.with_name(f"._{path.name}"), APPLE_DOUBLE
