"""Owners' tables, read from CSV or Parquet and joined by id.

Ids are compared as text, exactly: `007` is not `7`, and a space counts. The order of the rows of
the owners' files is not kept: joined rows stand in the order of their ids.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from .call import Call, Refused

Array = np.ndarray[Any, np.dtype[Any]]
ID: Final = "id"
_PARQUET: Final = b"PAR1"


@dataclass(frozen=True)
class Owned:
    """One owner's table.

    Attributes:
        frame: Its columns, by id.
        rows: In the file.
        without_id: Rows that were left out because they have none.
        repeated: Rows that were left out because others have the same id.
    """

    frame: pd.DataFrame
    rows: int
    without_id: int
    repeated: int


@dataclass(frozen=True)
class Joined:
    """The rows of the ids that are in every table.

    Attributes:
        frame: By id, in their order; a column `x` of the slot `left` is `left.x`.
    """

    frame: pd.DataFrame
    tables: Mapping[str, Owned]

    @property
    def matched(self) -> int:
        """Ids that are in every table."""
        return len(self.frame)


def file_of(slot: str, path: Path) -> Path:
    """The file of a slot: itself, or the only one of its folder."""
    if not path.is_dir():
        return path
    files = sorted(found for found in path.rglob("*") if found.is_file())
    if len(files) != 1:
        raise Refused(f"{slot} is a folder with {len(files)} files; it must have one.")
    return files[0]


def joined(call: Call, fewest_tables: int = 1) -> Joined:
    """The call's tables by its arguments `id`, `repeated` and `missing`."""
    if len(call.tables) < fewest_tables:
        raise Refused(f"There must be {fewest_tables} tables or more.")
    ids = id_columns(call.text("id"), tuple(call.tables))
    repeated = call.choice("repeated", ("refuse", "drop"))
    missing = call.choice("missing", ("refuse", "drop"))
    owned = {
        slot: of_ids(slot, read(slot, file_of(slot, path), ids[slot]), ids[slot], repeated, missing)
        for slot, path in call.tables.items()
    }
    return join(owned)


def id_columns(text: str, slots: Sequence[str]) -> dict[str, str]:
    """The id column of each slot: ``customer``, or ``left:customer,right:client``."""
    if ":" not in text:
        if not text:
            raise Refused("The argument id is the name of the column with the ids.")
        return dict.fromkeys(slots, text)
    found: dict[str, str] = {}
    for part in text.split(","):
        slot, _, column = part.strip().partition(":")
        found[slot] = column
    if set(found) != set(slots) or not all(found.values()):
        raise Refused(f"The argument id names a column for each of {', '.join(slots)}.")
    return found


def read(slot: str, file: Path, id_column: str) -> pd.DataFrame:
    """A table; its ids are text as it stands in the file."""
    try:
        with file.open("rb") as opened:
            parquet = opened.read(4) == _PARQUET
        frame = pd.read_parquet(file) if parquet else _csv(slot, file, id_column)
    except Refused:
        raise
    except (OSError, ValueError, NotImplementedError, csv.Error, pd.errors.ParserWarning) as error:
        # The message of a parser could hold data.
        kind = type(error).__name__
        raise Refused(f"{slot} cannot be read as CSV (UTF-8) or Parquet: {kind}.") from None
    if id_column in frame.index.names:  # as pandas writes an index to Parquet
        frame = frame.reset_index()
    if list(map(str, frame.columns)) != list(frame.columns) or not frame.columns.is_unique:
        raise Refused(f"{slot} has two columns of one name, or one without a name.")
    if id_column not in frame.columns:
        raise Refused(f"{slot} has no column {id_column!r}, which the argument id names.")
    return frame


def _csv(slot: str, file: Path, id_column: str) -> pd.DataFrame:
    with file.open(encoding="utf-8-sig", newline="") as opened:
        header = next(csv.reader(opened), [])
    # pandas renames a second column of the same name without a word.
    if len(set(header)) != len(header):
        raise Refused(f"{slot} has two columns of one name, or one without a name.")
    with warnings.catch_warnings():
        warnings.simplefilter("error", pd.errors.ParserWarning)
        return pd.read_csv(
            file,
            converters={id_column: str},
            index_col=False,
            encoding="utf-8-sig",
            float_precision="round_trip",
            low_memory=False,
        )


def of_ids(slot: str, frame: pd.DataFrame, column: str, repeated: str, missing: str) -> Owned:
    """A table by its ids; rows without one, and of repeated ones, are refused or left out."""
    ids = frame[column]
    if pd.api.types.is_float_dtype(ids) or pd.api.types.is_bool_dtype(ids):
        raise Refused(f"{slot}: the ids in {column!r} are {ids.dtype}; they must be text.")
    without = ids.isna().to_numpy(dtype=bool)
    if ids.dtype == object and not all(isinstance(value, str) for value in ids[~without]):
        raise Refused(f"{slot}: the ids in {column!r} are of several kinds; they must be text.")
    text = ids.astype(str).to_numpy(dtype=object)
    without = without | np.array([value == "" for value in text], dtype=bool)
    if without.any() and missing == "refuse":
        raise Refused(f"{slot} has {int(without.sum())} rows without an id (missing=drop).")
    kept = frame.drop(columns=[column]).loc[~without]
    kept.index = pd.Index(text[~without], dtype=object, name=ID)
    twice = np.asarray(kept.index.duplicated(keep=False))
    if twice.any() and repeated == "refuse":
        raise Refused(f"{slot} has {int(twice.sum())} rows with an id of another (repeated=drop).")
    return Owned(kept.loc[~twice], len(frame), int(without.sum()), int(twice.sum()))


def join(tables: Mapping[str, Owned]) -> Joined:
    """The rows of the ids that are in every table."""
    slots = list(tables)
    common = set(tables[slots[0]].frame.index)
    for slot in slots[1:]:
        common &= set(tables[slot].frame.index)
    ids = pd.Index(sorted(common), dtype=object, name=ID)
    parts = [tables[slot].frame.loc[ids].add_prefix(f"{slot}.") for slot in slots]
    return Joined(pd.concat(parts, axis=1), tables)


def counts(found: Joined, min_cell: int) -> dict[str, Any]:
    """Rows of each table and how many match; that is withheld where it shows a small cell.

    A small cell is fewer than `min_cell` ids, but not none, that match, or that one table has
    and another lacks.
    """
    matched = found.matched
    with_ids = {name: len(one.frame) for name, one in found.tables.items()}
    small = [matched, *(rows - matched for rows in with_ids.values())]
    withheld = any(0 < cell < min_cell for cell in small)
    return {
        "matched": None if withheld else matched,
        "matched_withheld": withheld,
        "min_cell": min_cell,
        "tables": {
            name: {
                "rows": one.rows,
                "without_id": one.without_id,
                "repeated": one.repeated,
                "ids": len(one.frame),
            }
            for name, one in found.tables.items()
        },
    }


def shown(count: int, min_cell: int) -> int | None:
    """A number of rows, unless they are few."""
    return None if 0 < count < min_cell else count


def require_rows(rows: int, min_cell: int, what: str = "joined rows") -> None:
    """Refuse to give out what rests on too few; the message does not say how few."""
    if rows < min_cell:
        raise Refused(f"There are fewer than {min_cell} {what} (min_cell).")


def require_columns(frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Refuse names of columns that are not there."""
    if unknown := [name for name in names if name not in frame.columns]:
        known = ", ".join(map(str, frame.columns[:50]))
        raise Refused(f"There is no column {unknown[0]!r}; there are {known}.")


def numbers(frame: pd.DataFrame, names: Sequence[str]) -> Array:
    """Columns as float64, missing values as NaN; text is refused."""
    require_columns(frame, names)
    out = np.empty((len(frame), len(names)))
    for place, name in enumerate(names):
        column = frame[name]
        if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
            raise Refused(f"{name} is not a column of numbers; name the columns to use.")
        out[:, place] = column.to_numpy(dtype=float, na_value=np.nan)
    if np.isinf(out).any():
        raise Refused("A column of numbers has an infinite value.")
    return out
