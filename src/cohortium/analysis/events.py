"""Who had an event, of a boolean, a number of 0 and 1, or a category."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from cohortium.core.table import Table
from cohortium.errors import InputError


def event_codes(table: Table, name: str, code: Sequence[int]) -> npt.NDArray[np.int64]:
    """The event of each person, from 1; 0 for none, also where it is missing.

    Args:
        code: The event of each level of a category; empty for a boolean or a number.

    Raises:
        InputError: ``bad-input`` for a number other than 0 and 1.
    """
    column = table.columns[table.variable(name).name]
    if code:
        known = np.array([*code, 0], dtype=np.int64)  # the last is for -1
        return np.asarray(known[column])
    values = np.where(np.isnan(column), 0.0, column)
    if np.any((values != 0) & (values != 1)):
        raise InputError(
            "bad-input", f"{name} has values other than 0 and 1 at a site.", variable=name
        )
    return values.astype(np.int64)
