"""Frames of several sites under one data dictionary."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import pyarrow as pa

from cohortium.core.dictionary import Dictionary, Variable, VariableType
from cohortium.errors import InputError
from cohortium.node.datasets import MemoryDatasets
from cohortium.node.infer import MAX_LEVELS, legal_names
from cohortium.node.sources import open_frame

DATASET = "local"


def harmonise(
    frames: Mapping[str, Any], categories: Collection[str] = ()
) -> tuple[dict[str, MemoryDatasets], tuple[Variable, ...]]:
    """Each site's dataset, and the variables that all share.

    Types are inferred from all sites' values together and a category's levels are the union, so
    that a value that one site happens not to have does not matter. A header that is no legal name
    is the description of the variable that it becomes.

    Args:
        frames: pandas, polars or pyarrow tables by site; the same columns in each.
        categories: Columns to read as categories although they hold numbers (codes).

    Raises:
        InputError: ``bad-data``: columns that differ, or types that do not go together.
    """
    tables, levels, headers = {}, dict[str, tuple[str, ...]](), dict[str, str]()
    for site, frame in frames.items():
        tables[site], declared, here = _read(site, frame)
        for name, header in here.items():
            headers.setdefault(name, header)
        for name, more in declared.items():
            levels[name] = tuple(dict.fromkeys((*levels.get(name, ()), *more)))
    _require_same_columns(tables)
    unknown = [name for name in categories if name not in next(iter(tables.values())).column_names]
    if unknown:
        raise InputError("not-found", f"There is no column {', '.join(unknown)} to categorise.")
    pooled = _pool(tables)
    inferred = MemoryDatasets.from_frame(DATASET, pooled).get(DATASET).dictionary
    variables = tuple(
        _declared(variable, pooled, levels, variable.name in categories).model_copy(
            update={"description": headers.get(variable.name)}
        )
        for variable in inferred.variables
    )
    dictionary = Dictionary(variables=variables)
    datasets = {}
    for site, table in tables.items():
        datasets[site] = MemoryDatasets()
        datasets[site].add_frame(DATASET, table, dictionary)
    return datasets, variables


def _read(site: str, frame: Any) -> tuple[pa.Table, dict[str, tuple[str, ...]], dict[str, str]]:
    """A site's table under legal names; the levels that the frame itself declares; by legal name,
    the headers that are none.
    """
    try:
        source = open_frame(frame)
        names = legal_names(source.headers)
        batches = [batch for batch in source.batches if batch.num_rows]
        if not batches:
            raise InputError(
                "bad-data", "the frame has no rows. Leave the site out: it would add nothing."
            )
        table = pa.Table.from_batches(batches).rename_columns(names)
    except InputError as error:
        raise InputError(error.code, f"{site}: {error.message}", site=site) from error
    except (pa.ArrowInvalid, pa.ArrowTypeError, ValueError) as error:
        raise InputError("bad-data", f"{site}: the frame is damaged.", site=site) from error
    by_header = dict(zip(source.headers, names, strict=True))
    declared = {by_header[header]: found for header, found in source.levels.items()}
    return table, declared, {name: header for header, name in by_header.items() if header != name}


def _require_same_columns(tables: Mapping[str, pa.Table]) -> None:
    first, *others = tables
    expected = set(tables[first].column_names)
    for site in others:
        have = set(tables[site].column_names)
        if have != expected:
            only_first, only_site = sorted(expected - have), sorted(have - expected)
            parts = [
                f"only {who} has {', '.join(names)}"
                for who, names in ((first, only_first), (site, only_site))
                if names
            ]
            raise InputError(
                "bad-data",
                f"The columns differ: {'; '.join(parts)}. Rename or drop them.",
                only_in={first: only_first, site: only_site},
            )


def _pool(tables: Mapping[str, pa.Table]) -> pa.Table:
    """All sites' rows; integers and reals give reals, category codes their text."""
    first = next(iter(tables.values()))
    columns = [
        _concatenate(name, {site: _plain(table.column(name)) for site, table in tables.items()})
        for name in first.column_names
    ]
    return pa.table(dict(zip(first.column_names, columns, strict=True)))


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = column.type
    return column.cast(kind.value_type) if pa.types.is_dictionary(kind) else column


def _concatenate(name: str, columns: Mapping[str, pa.ChunkedArray]) -> pa.ChunkedArray:
    parts = [pa.table({name: column}) for column in columns.values()]
    try:
        return pa.concat_tables(parts, promote_options="permissive").column(name)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        types = ", ".join(f"{site}: {column.type}" for site, column in columns.items())
        raise InputError(
            "bad-data",
            f"Column {name} does not have the same type at every site ({types}). Convert it.",
            variable=name,
        ) from error


def _declared(
    variable: Variable,
    pooled: pa.Table,
    levels: Mapping[str, tuple[str, ...]],
    as_category: bool,
) -> Variable:
    """The pooled variable without what belongs to one site (missing count, source)."""
    common = variable.model_copy(update={"missing": None, "source": None})
    if variable.name in levels:
        return _category(common, levels[variable.name])
    if as_category and variable.type is not VariableType.CATEGORY:
        values = pooled.column(variable.name).unique().drop_null().to_pylist()
        return _category(common, [_level(value) for value in sorted(values)])
    return common


def _category(variable: Variable, levels: Iterable[str]) -> Variable:
    distinct = tuple(dict.fromkeys(levels))
    if not 1 <= len(distinct) <= MAX_LEVELS:
        raise InputError(
            "bad-data",
            f"{variable.name} has {len(distinct)} values; a category has 1 to {MAX_LEVELS}.",
        )
    return variable.model_copy(
        update={"type": VariableType.CATEGORY, "levels": distinct, "decimals": None}
    )


def _level(value: Any) -> str:
    """As a dataset writes a code: ``2`` for 2.0, ``true`` for True."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
