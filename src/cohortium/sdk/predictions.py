"""Predictions of a released model for rows that the researcher holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from cohortium.analysis.formula import Parsed
    from cohortium.core.table import Table


def explanatory(parsed: Parsed, variables: Mapping[str, Variable]) -> dict[str, Variable]:
    """The variables right of ``~``."""
    names = {name for column in parsed.columns for part, _ in column.parts for name in part.names}
    return {name: variables[name] for name in sorted(names)}


def designed(
    formula: str,
    terms: Sequence[str],
    frame: Any,
    variables: Mapping[str, Variable],
    more: Sequence[str] = (),
) -> tuple[Any, Table, pd.Index[Any]]:
    """The design matrix of a frame, with its table and index; NaN where a variable is missing.

    Args:
        terms: As the model names them.
        more: Variables to read beside the formula's.

    Raises:
        InputError: ``bad-formula`` where other terms come of it; ``bad-data``, ``not-found``.
    """
    from cohortium.analysis.formula import design, parse
    from cohortium.sdk.frames import frame_to_table

    parsed = parse(formula, variables)
    wanted = explanatory(parsed, variables) | {name: variables[name] for name in more}
    table, index = frame_to_table(frame, wanted)
    matrix, names = design(table, parsed)
    if tuple(names) != tuple(terms):
        raise InputError("bad-formula", "The model's terms cannot be rebuilt from this frame.")
    return matrix, table, index


def response(linear: Any, link: str) -> Any:
    """The mean of linear predictors."""
    if link == "identity":
        return linear
    if link == "log":
        return np.exp(linear)
    if link == "inverse":
        return 1 / linear
    if link == "inverse_squared":
        return 1 / np.sqrt(linear)
    from scipy.special import expit

    return expit(linear)
