"""What became of a corpus's augmented views: a table, and a page with pairs to listen to."""

import base64

import numpy as np

from mmer_jax.reporting.report import environment, percent, table

PAIRS = 10
_VOICES = 12  # in the table


def figures(found: dict) -> str:
    """The Markdown table of what `augmentation.quality.summary` gave."""
    rows = [("utterances", str(found["utterances"]))]

    def reasons(name, counts):
        rows.extend((f"{name}: {why}", str(n)) for why, n in counts.items())

    def spread(name, value):
        if value:
            rows.append((name, "{median:.2f} ({low:.2f} to {high:.2f})".format(**value)))

    if found["texts"] or found["texts_rejected"]:
        rows.append(("other words", _share(found["texts"], found["utterances"])))
        reasons("no text", found["texts_rejected"])
        spread("similarity to the source, median and middle 90 %", found["similarity"])
    if found["recordings"] or found["recordings_rejected"] or found["recordings_failed"]:
        rows.append(("recordings", str(found["recordings"])))
        reasons("rejected", found["recordings_rejected"])
        rows.append(("failed", str(found["recordings_failed"])))
        rows.append(
            ("utterances with a recording", _share(found["with_recording"], found["utterances"]))
        )
        rows += [(f"of {name}", f"{percent(x)} %") for name, x in found["by_label"].items()]
        if found["texts"] or found["texts_rejected"]:
            rows.append(("of these with the utterance's own words", str(found["own_words"])))
        spread("length over the original's, median and middle 90 %", found["length"])
        voices = list(found["voices"].items())
        rows.append(("voices", str(len(voices))))
        rows.append(("recordings in the voice of a speaker", str(found["of_speakers"])))
        rows += [(f"voice {name}", str(n)) for name, n in voices[:_VOICES]]
        for column, share in found["left_in_folds"].items():
            rows.append(
                (f"keep one where another {column} is tested, at least", f"{percent(share)} %")
            )
    if found["wer"] is not None:
        rows.append(("WER of the recogniser, before rejection", f"{percent(found['wer'])} %"))
    for stage, minutes in found["minutes_per_1000"].items():
        rows.append((f"minutes per 1000 utterances, {stage}", f"{minutes:.2f}"))
    return table(("views", ""), rows)


def _share(count, total):
    return f"{count} ({percent(count / total)} %)"


def choose(labels, seed: int) -> list[int]:
    """Places of at most ten views, as many of each label as can be.

    Args:
      labels: of the views.
      seed: which of them.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    rounds, chosen = {}, []
    for i in order:
        rounds[labels[i]] = rounds.get(labels[i], -1) + 1
        chosen.append((rounds[labels[i]], int(i)))
    return sorted(i for _, i in sorted(chosen)[:PAIRS])


def page(title: str, found: dict, pairs: list[dict]) -> str:
    """The page, with everything in it.

    Args:
      title: the corpus.
      found: see `figures`.
      pairs: `utterance`, `emotion`, `speaker`, `text`, `original` (a wav file's bytes) and
        `view_text`; of a recording `recording` (bytes), `voice`, `reference` and `recognized`; None
        where there is none.
    """
    pairs = [
        pair | {k: pair[k] and "data:audio/wav;base64," + base64.b64encode(pair[k]).decode()
                for k in ("original", "recording")}
        for pair in pairs
    ]  # fmt: skip
    template = environment().get_template("listening.html.j2")
    return template.render(title=title, figures=figures(found), pairs=pairs)
