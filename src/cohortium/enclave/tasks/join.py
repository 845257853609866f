"""Keyed join: several owners' tables side by side, by id.

Inputs: two tables or more, of any names. Outputs: ``counts`` (as of `intersection`) and ``table``
(table.csv or table.parquet), empty unless the argument `columns` names columns. Arguments: `id`,
`repeated`, `missing`, `min_cell`, `columns` (such as ``left.age,right.stroke``, ``id`` for the ids,
or ``all``), `format`.

What the outputs tell: sizes; with `columns`, those columns of each joined person to whoever
receives ``table``. A table of fewer than `min_cell` rows is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .call import Call, Refused
from .tables import ID, Joined, counts, joined, require_columns, require_rows


def table(found: Joined, columns: Sequence[str], min_cell: int) -> pd.DataFrame:
    """The joined rows with these columns."""
    whole = found.frame.reset_index()
    if columns == ("all",):
        columns = tuple(map(str, whole.columns))
    require_columns(whole, columns)
    require_rows(found.matched, min_cell)
    if ID in columns:
        return whole[list(columns)]
    # In the order of ids, which whoever has them knows, the rows would tell whose they are.
    return whole[list(columns)].sort_values(list(columns), ignore_index=True, kind="stable")


def run(call: Call) -> None:
    """Write the outputs."""
    found = joined(call, fewest_tables=2)
    columns = call.names("columns")
    kind = call.choice("format", ("csv", "parquet"))
    if columns:
        place = call.outputs["table"] / f"table.{kind}"
        try:
            out = table(found, columns, call.min_cell)
            if kind == "csv":
                out.to_csv(place, index=False)
            else:
                out.to_parquet(place, index=False)
        except (TypeError, ValueError):
            raise Refused("A column of the table has values of several kinds.") from None
    call.write("counts", "counts.json", counts(found, call.min_cell))
