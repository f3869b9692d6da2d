"""The registry of metrics: tables, intervals, comparisons, the choice of the epoch derive from it.

Plain data: `configuration.py` takes its choices from here, though it stands before the metrics. How
to add one: docs/extending.md.
"""

import dataclasses

_HERE = "mmer_jax.metrics.classification"


@dataclasses.dataclass(frozen=True)
class Metric:
    """One figure of a confusion matrix, the higher the better.

    Attributes:
      title: in tables.
      function: `package.module:name`; takes counts float64 [..., c, c] of class (row) taken for
        class (column), returns values [...]. Counts need not be whole: they may be means of runs.
      over_classes: whether it is a mean over the classes, in which a rare one counts as much as any
        other: where a class is in too few groups it gets no interval.
    """

    title: str
    function: str
    over_classes: bool = False


METRICS = {
    "wa": Metric("WA", f"{_HERE}:weighted_accuracy"),
    "ua": Metric("UA", f"{_HERE}:unweighted_accuracy", over_classes=True),
    "macro_f1": Metric("macro-F1", f"{_HERE}:macro_f1", over_classes=True),
    "weighted_f1": Metric("weighted F1", f"{_HERE}:weighted_f1"),
}
