"""The curves of a model as tables, from its released points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Floats = npt.NDArray[np.float64]

COUNTS = ("tp", "fp", "tn", "fn")
SHARES = ("sensitivity", "specificity", "ppv", "npv", "accuracy")


@dataclass(frozen=True)
class Cutoffs:
    """Persons by outcome above and below each cutoff; somebody at a cutoff is above it.

    Attributes:
        threshold: Ascending; without the end at which everybody is above, and the other.
    """

    threshold: Floats
    n: int
    events: int
    above: Floats
    events_above: Floats

    @staticmethod
    def of(points: Any) -> Cutoffs:
        """From the points of a result."""
        n = np.asarray(points["n"], dtype=np.float64)
        events = np.asarray(points["events"], dtype=np.float64)
        threshold = np.asarray(points["threshold"][1:], dtype=np.float64)
        if n.shape != events.shape or len(threshold) != len(n) - 1:
            raise ValueError("the columns of the points are of different lengths")
        above, events_above = (np.cumsum(one[::-1])[::-1][1:] for one in (n, events))
        return Cutoffs(threshold, int(n.sum()), int(events.sum()), above, events_above)

    @property
    def table(self) -> dict[str, Floats]:
        """Of each cutoff the four counts."""
        tp, fp = self.events_above, self.above - self.events_above
        return {
            "tp": tp,
            "fp": fp,
            "tn": self.n - self.events - fp,
            "fn": self.events - tp,
        }

    def measures(self, z: float) -> pd.DataFrame:
        """A row for each cutoff: counts, shares with Wilson's limits, F1 and Youden's index."""
        import pandas as pd

        from cohortium.analysis.evaluate_measures import wilson

        t = self.table
        tp, fp, tn, fn = (t[name] for name in COUNTS)
        total = np.full_like(tp, self.n)
        of = {
            "sensitivity": (tp, tp + fn),
            "specificity": (tn, tn + fp),
            "ppv": (tp, tp + fp),
            "npv": (tn, tn + fn),
            "accuracy": (tp + tn, total),
        }
        columns: dict[str, Any] = {"threshold": self.threshold}
        columns |= {name: t[name].astype(np.int64) for name in COUNTS}
        for name, (found, among) in of.items():
            low, high = wilson(found, among, z)
            with np.errstate(divide="ignore", invalid="ignore"):
                columns[name] = found / among
            columns[f"{name}_low"], columns[f"{name}_high"] = low, high
        columns["f1"] = 2 * tp / (2 * tp + fp + fn)
        columns["youden"] = columns["sensitivity"] + columns["specificity"] - 1
        return pd.DataFrame(columns)

    def roc(self) -> pd.DataFrame:
        """From the corner at which nobody is above the cutoff to that of everybody."""
        import pandas as pd

        t = self.table
        tp = np.concatenate([[self.events], t["tp"], [0]])
        fp = np.concatenate([[self.n - self.events], t["fp"], [0]])
        ends = np.concatenate([[-np.inf], self.threshold, [np.inf]])
        return pd.DataFrame(
            {
                "threshold": ends[::-1],
                "false_positive_rate": (fp / (self.n - self.events))[::-1],
                "sensitivity": (tp / self.events)[::-1],
            }
        )

    def pr(self) -> pd.DataFrame:
        """From the highest cutoff to that which everybody is above."""
        import pandas as pd

        tp = np.concatenate([[self.events], self.events_above])
        above = np.concatenate([[self.n], self.above])
        ends = np.concatenate([[-np.inf], self.threshold])
        return pd.DataFrame(
            {
                "threshold": ends[::-1],
                "recall": (tp / self.events)[::-1],
                "precision": (tp / above)[::-1],
            }
        )

    def net_benefit(self, z: float) -> pd.DataFrame:
        """Of treating who is above each threshold probability, against treating all or nobody."""
        import pandas as pd

        inside = (self.threshold > 0) & (self.threshold < 1)
        p = self.threshold[inside]
        tp = self.events_above[inside]
        fp = self.above[inside] - tp
        odds = p / (1 - p)
        benefit = (tp - odds * fp) / self.n
        error = np.sqrt(((tp + odds**2 * fp) / self.n - benefit**2) / self.n)
        rate = self.events / self.n
        everybody = rate - (1 - rate) * odds
        return pd.DataFrame(
            {
                "threshold": p,
                "net_benefit": benefit,
                "low": benefit - z * error,
                "high": benefit + z * error,
                "treat_all": everybody,
                "treat_none": 0.0,
                "avoided_per_100": 100 * (benefit - everybody) / odds,
            }
        )


def calibration(groups: Any, z: float) -> pd.DataFrame:
    """A row for each group of risk: what was predicted, what came, with Wilson's limits."""
    import pandas as pd

    from cohortium.analysis.evaluate_measures import wilson

    n = np.asarray(groups["n"], dtype=np.float64)
    events = np.asarray(groups["events"], dtype=np.float64)
    expected = np.array(
        [np.nan if one is None else one for one in groups["expected"]], dtype=np.float64
    )
    low, high = wilson(events, n, z)
    return pd.DataFrame(
        {
            "group": np.arange(1, len(n) + 1),
            "n": n.astype(np.int64),
            "events": events.astype(np.int64),
            "expected": expected,
            "mean_risk": expected / n,
            "observed": events / n,
            "low": low,
            "high": high,
        }
    )
