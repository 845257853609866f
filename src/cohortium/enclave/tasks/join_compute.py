"""Private join and compute: one owner's numbers, by groups of another's, over the ids of both.

Inputs: two tables or more, of any names. Output: ``groups`` (groups.json: count, sum and mean of
`value` in each group of `group`). Arguments: `id`, `repeated`, `missing`, `min_cell`, `value` (such
as ``right.spend``), `group` (such as ``left.region``; empty: everybody together).

What the output tells: of each group with `min_cell` values or more, the three numbers; of the
others, how many groups they are. No total over the groups is given, from which a withheld one
could be found. It does not keep two runs over nearly the same persons apart: the contract says how
often the task runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .call import Call, Refused
from .tables import joined, numbers, require_columns

_MOST_GROUPS = 10_000


def by_group(frame: pd.DataFrame, value: str, group: str, min_cell: int) -> dict[str, Any]:
    """Count, sum and mean of `value` in each group that is large enough."""
    values = numbers(frame, [value])[:, 0]
    if group:
        require_columns(frame, [group])
        labels = frame[group]
        kept = labels.notna().to_numpy(dtype=bool) & np.isfinite(values)
        names = labels.astype(str).to_numpy(dtype=object)
    else:
        kept = np.isfinite(values)
        names = np.full(len(values), "all", dtype=object)
    if group == value:
        raise Refused("The arguments group and value name one column.")
    grouped = pd.Series(values[kept]).groupby(names[kept], sort=True)
    if grouped.ngroups > _MOST_GROUPS:
        raise Refused(f"{group} has more than {_MOST_GROUPS} groups.")
    sizes, sums = grouped.size(), grouped.sum()
    given = [name for name in sizes.index if sizes[name] >= min_cell]
    return {
        "value": value,
        "group": group,
        "min_cell": min_cell,
        "groups": [
            {
                "group": str(name),
                "count": int(sizes[name]),
                "sum": float(sums[name]),
                "mean": float(sums[name] / sizes[name]),
            }
            for name in given
        ],
        "groups_withheld": len(sizes) - len(given),
    }


def run(call: Call) -> None:
    """Write the output."""
    found = joined(call, fewest_tables=2)
    out = by_group(found.frame, call.text("value"), call.text("group"), call.min_cell)
    call.write("groups", "groups.json", out)
