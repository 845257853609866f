"""Set intersection: how many ids are in every table.

Inputs: two tables or more, of any names. Outputs: ``counts`` (counts.json: rows, rows without id,
with repeated ids and ids of each table, and the ids that all have) and ``ids`` (ids.csv), empty
unless the argument `release` is true. Arguments: `id`, `repeated`, `missing`, `min_cell`,
`release`.

What the outputs tell: sizes; with `release`, who is in all tables. The number of matches is
withheld where fewer than `min_cell` ids match, or where a table has fewer than `min_cell` ids that
do not; a list of fewer than `min_cell` ids is refused.
"""

from __future__ import annotations

import pandas as pd

from .call import Call
from .tables import ID, counts, joined, require_rows


def run(call: Call) -> None:
    """Write the outputs."""
    found = joined(call, fewest_tables=2)
    if call.flag("release"):
        require_rows(found.matched, call.min_cell)
        ids = pd.DataFrame({ID: found.frame.index})
        ids.to_csv(call.outputs["ids"] / "ids.csv", index=False)
    call.write("counts", "counts.json", counts(found, call.min_cell))
