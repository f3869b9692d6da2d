"""Two runs side by side on the same test utterances: what changed, and whether it may be chance."""

import csv
import dataclasses
import io

import numpy as np

from mmer_jax.errors import UserError
from mmer_jax.metrics import classification, intervals
from mmer_jax.reporting import findings, plots, report
from mmer_jax.results import FoldResult
from mmer_jax.runs import listed

MOST = 12  # utterances, or options, in a table
OUTCOMES = ("both right", "only A right", "only B right", "both wrong")

_GAIN = (
    "Each prediction with its probability; the ones whose true class gained most. All are in "
    "compare.csv."
)


def pair(first: list[FoldResult], second: list[FoldResult]) -> tuple[list, list]:
    """The results of the seeds and folds that both runs have, in the same order.

    Seeds are paired by their number; where they have none in common, in their order.

    Raises:
      UserError: they have other classes, no fold in common, or one with other test utterances.
    """
    names = [results[0].label_names for results in (first, second)]
    if names[0] != names[1]:
        raise UserError(
            f"A has the classes {', '.join(names[0])}, B {', '.join(names[1])}. Expected two runs "
            "that choose among the same classes in the same order (config.data.labels)."
        )
    if not {r.seed for r in first} & {r.seed for r in second}:
        first, second = map(_seeds_by_rank, (first, second))
    a, b = ({r.key: r for r in results} for results in (first, second))
    shared = sorted(a.keys() & b.keys())
    if not shared:
        folds = [", ".join(map(str, sorted({r.fold for r in x}))) for x in (first, second)]
        raise UserError(
            f"A has the folds {folds[0]}, B {folds[1]}: none is in both. Expected two runs that "
            "were tested on the same folds."
        )
    for key in shared:
        _check_same(a[key], b[key])
    return [a[key] for key in shared], [b[key] for key in shared]


def _seeds_by_rank(results):
    ranks = {seed: i for i, seed in enumerate(sorted({r.seed for r in results}))}
    return [dataclasses.replace(r, seed=ranks[r.seed]) for r in results]


def _check_same(a, b):
    one, other = ({(p.utterance, p.label, p.speaker) for p in r.predictions} for r in (a, b))
    if one != other:
        different = sorted({name for name, *_ in one ^ other})
        raise UserError(
            f"Fold {a.fold} tests {len(one)} utterances in A and {len(other)} in B, and "
            f"{len(different)} of them are not in both with the same label and speaker "
            f"({', '.join(different[:3])}, ...). Expected two runs of one corpus: the same dataset "
            "version, config.protocol, labels and folds."
        )


def compare(first: list[FoldResult], second: list[FoldResult]) -> dict:
    """Both runs' figures, and what changed from A to B.

    Args:
      first, second: of A and B, as `pair` gives them.

    Returns:
      `folds`, in words; `estimate` of B less A, see `intervals.estimate`; `metrics`, (A's, B's)
      rates over all utterances; `outcomes`, counts of `OUTCOMES`, and `same_error`: how many of the
      last were taken for the same class; `classes`, name -> (utterances, only A right, only B
      right); and `utterances`, one dict each: `utterance`, `speaker`, `label`, `transcript`,
      `outcome`, (class, probability) of `a` and `b`, and `change` of the true class's probability,
      the greatest gain first. Of several seeds, or models that were tested on the same utterance,
      an utterance counts once for each in all but the last, which has the mean of their
      probabilities.
    """
    names, rows = first[0].label_names, {}
    outcomes, same_error = np.zeros(4, int), 0
    classes = {name: np.zeros(3, int) for name in names}
    for a, b in zip(first, second):
        matched = {p.utterance: p for p in b.predictions}
        for p in a.predictions:
            q = matched[p.utterance]
            right = p.prediction == p.label, q.prediction == p.label
            outcomes[_outcome(*right)] += 1
            same_error += not any(right) and p.prediction == q.prediction
            classes[p.label] += 1, right == (True, False), right == (False, True)
            rows.setdefault(p.utterance, []).append((p, q))
    tested = [(r.seed, p.utterance) for r in first for p in r.predictions]
    utterances = [_utterance(pairs, names) for pairs in rows.values()]
    return {
        "folds": listed(first),
        "estimate": intervals.estimate(second, first, same_test=len({*tested}) < len(tested)),
        "metrics": [classification.rates(sum(r.confusion for r in x)) for x in (first, second)],
        "outcomes": dict(zip(OUTCOMES, outcomes.tolist())),
        "same_error": same_error,
        "classes": {name: counts.tolist() for name, counts in classes.items()},
        "utterances": sorted(utterances, key=lambda u: (-u["change"], u["utterance"])),
    }


def _outcome(a, b):
    return 0 if a and b else 1 if a else 2 if b else 3


def _utterance(pairs, names):
    p, sides = pairs[0][0], {}
    for side, rows in zip("ab", zip(*pairs)):
        mean = np.mean([row.probabilities for row in rows], axis=0)
        best = rows[0].prediction if len(rows) == 1 else names[int(mean.argmax())]
        sides[side] = best, float(mean[names.index(best)]), float(mean[names.index(p.label)])
    right = [sides[side][0] == p.label for side in "ab"]
    return {
        "utterance": p.utterance, "speaker": p.speaker, "label": p.label,
        "transcript": p.transcript, "outcome": OUTCOMES[_outcome(*right)],
        "a": sides["a"][:2], "b": sides["b"][:2], "change": sides["b"][2] - sides["a"][2],
    }  # fmt: skip


def tables(found: dict, options=()) -> list[tuple]:
    """What the Markdown and the page show.

    Args:
      found: see `compare`.
      options: (name, A's value, B's value) of those that differ.

    Returns:
      (title, head, rows, note) each; a cell is a text, or (class, probability or None).
    """
    estimate, (a, b) = found["estimate"], found["metrics"]
    head = ["", "A", "B", "B - A", "95 % interval", "p"]
    if estimate["test_to_train"]:
        head += ["95 % interval (NB)", "p (NB)"]
    rows = []
    for name, title in report.TITLES.items():
        d = estimate["metrics"][name]
        corrected = d["corrected"] or {"interval": None, "p": None}
        cells = [
            title,
            report.percent(a[name]),
            report.percent(b[name]),
            f"{100 * d['value']:+.1f}",
        ]
        cells += [report.bounds(d["interval"], "+"), report.p_value(d["p"])]
        cells += [report.bounds(corrected["interval"], "+"), report.p_value(corrected["p"])]
        rows.append(cells[: len(head)])
    out = [
        (
            "Figures",
            head,
            rows,
            f"Over what both tested: {found['folds']}. {report.explain(estimate)}",
        )
    ]
    total = sum(found["outcomes"].values())
    rows = [
        [name, str(count), f"{report.percent(count / total)} %"]
        for name, count in found["outcomes"].items()
    ]
    note = f"Of those that both have wrong, {found['same_error']} are taken for the same class."
    out.append(("Who is right", ["", "utterances", ""], rows, note))
    rows = []
    for i, (name, counts) in enumerate(found["classes"].items()):
        recalls = [x["recall"][i] for x in (a, b)]
        change = "-" if None in recalls else f"{100 * (recalls[1] - recalls[0]):+.1f}"
        rows.append([(name, None), *map(report.percent, recalls), change, *map(str, counts)])
    head = ["class", "recall A", "recall B", "B - A", "utterances", "only A right", "only B right"]
    out.append(("Classes", head, rows, ""))
    changed = found["utterances"]
    head = ["utterance", "speaker", "true", "A", "B", "transcript"]
    for side, part in (("B", changed[:MOST]), ("A", changed[: -MOST - 1 : -1])):
        part = [u for u in part if (u["change"] > 0) == (side == "B") and u["change"]]
        rows = [
            [u["utterance"], u["speaker"], (u["label"], None), u["a"], u["b"], u["transcript"]]
            for u in part
        ]
        out.append((f"Utterances that {side} is better at", head, rows, _GAIN))
    if options:
        rows = [[name, str(x), str(y)] for name, x, y in options[:MOST]]
        more = f"{len(options) - MOST} more differ." if len(options) > MOST else ""
        out.append(("Options that differ", ["option", "A", "B"], rows, more))
    return [table for table in out if table[2]]


def sentences(found: dict) -> list[str]:
    """What was found, in words."""
    d = findings.difference(found["estimate"], "ua")
    a, b = (report.percent(rates["ua"]) for rates in found["metrics"])
    text = f"UA is {b} % with B and {a} % with A, a difference of {100 * d['value']:+.1f} points"
    if d["interval"] is None:
        text += ", which has no interval here."
    else:
        larger = " (NB)" if d["corrected"] else ""
        interval, p = report.bounds(d["interval"], "+"), report.p_value(d["p"])
        text += f" (95 % interval{larger} {interval}, p {p})"
        text += ", so it may be chance." if d["chance"] else "."
    only = [found["outcomes"][f"only {side} right"] for side in "BA"]
    total = sum(found["outcomes"].values())
    agree = total - sum(only) - found["outcomes"]["both wrong"] + found["same_error"]
    return [
        text,
        f"B is right and A wrong in {only[0]} of {total} cases, A right and B wrong in {only[1]}. "
        f"They say the same in {report.percent(agree / total)} %.",
    ]


def render(found: dict, a: str, b: str, options=()) -> dict[str, str]:
    """The files of a comparison: `compare.md`, `compare.html` and `compare.csv`.

    Args:
      found: see `compare`.
      a, b: names of the two.
      options: see `tables`.
    """
    env, shown = report.environment(), tables(found, options)
    colours = plots.emotion_colours(found["classes"])
    emotion = env.get_template("parts.html.j2").module.emotion

    def plain(cell):
        name, share = cell if isinstance(cell, tuple) else (cell, None)
        text = name if share is None else f"{name} {share:.3f}"
        return " ".join(text.split()).replace("|", "\\|")

    def coloured(cell):
        return emotion(cell[0], colours[cell[0]], cell[1]) if isinstance(cell, tuple) else cell

    def rendered(template, cell):
        return env.get_template(template).render(
            a=a, b=b, sentences=sentences(found),
            tables=[(t, head, [list(map(cell, r)) for r in rows], n) for t, head, rows, n in shown],
        ) + "\n"  # fmt: skip

    return {
        "compare.md": report.aligned(rendered("compare.md.j2", plain)),
        "compare.html": rendered("compare.html.j2", coloured),
        "compare.csv": _csv(found["utterances"]),
    }


def _csv(utterances):
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["prediction_a", "p_a", "prediction_b", "p_b", "change", "outcome"]
    writer.writerow(["utterance", "speaker", "label", *head])
    for u in utterances:
        numbers = [u["a"][0], f"{u['a'][1]:.6f}", u["b"][0], f"{u['b'][1]:.6f}"]
        writer.writerow([u["utterance"], u["speaker"], u["label"], *numbers, f"{u['change']:.6f}",
                         u["outcome"]])  # fmt: skip
    return out.getvalue()
