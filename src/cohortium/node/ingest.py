"""The two passes over a dataset: stage what the source gives, convert what the steward declared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from cohortium.core.dictionary import Dictionary, Variable, VariableType
from cohortium.errors import InputError
from cohortium.node.columns import (
    STORED,
    as_inferred,
    as_text,
    normal_type,
    normalise,
    recoded,
    to_declared,
)
from cohortium.node.dictionary_file import DeclaredDictionary
from cohortium.node.digest import ColumnDigest, ColumnHasher
from cohortium.node.infer import MAX_LEVELS, ColumnProfile, InferredColumn, legal_names
from cohortium.node.source import Source

Progress = Callable[[int, float | None], None]
"""Called with the rows read and the fraction done (None where unknown)."""


def no_progress(_n_rows: int, _fraction: float | None) -> None:
    """Show nothing."""


Write = Callable[[pa.RecordBatch], None]


@dataclass(frozen=True)
class Staged:
    """What the first pass found.

    Attributes:
        headers: The source's column names.
        columns: The proposed dictionary, in the same order.
    """

    headers: tuple[str, ...]
    columns: tuple[InferredColumn, ...]
    n_rows: int

    @property
    def inferred(self) -> tuple[VariableType, ...]:
        """The inferred types, by column."""
        return tuple(column.variable.type for column in self.columns)


def stage(source: Source, write: Write, on_progress: Progress = no_progress) -> Staged:
    """Read `source` once and close it: hand on its rows in normal types, infer the dictionary.

    Raises:
        InputError: ``bad-data``; what was written until then is to be thrown away.
    """
    try:
        return _staged(source, write, on_progress)
    finally:
        source.close()


def _staged(source: Source, write: Write, on_progress: Progress) -> Staged:
    names = legal_names(source.headers)
    profiles: list[ColumnProfile] = []
    n_rows = 0
    for batch in source.batches:
        if batch.num_columns != len(names):
            raise InputError("bad-data", "The number of columns changes within the source.")
        if not profiles:
            profiles = [
                ColumnProfile(header, normal_type(header, kind), source.levels.get(header))
                for header, kind in zip(source.headers, batch.schema.types, strict=True)
            ]
        columns = [
            normalise(header, column)
            for header, column in zip(source.headers, batch.columns, strict=True)
        ]
        for profile, column in zip(profiles, columns, strict=True):
            profile.update(column)
        write(pa.record_batch(columns, names=[f"c{place}" for place in range(len(columns))]))
        n_rows += batch.num_rows
        on_progress(n_rows, source.fraction() if source.fraction is not None else None)
    if n_rows == 0:
        raise InputError("bad-data", f"There are no rows in {source.description}.")
    found = [profile.result(name) for profile, name in zip(profiles, names, strict=True)]
    return Staged(source.headers, tuple(found), n_rows)


@dataclass(frozen=True)
class Converted:
    """What the second pass made.

    Attributes:
        dictionary: As declared, with the missing counts as they came out.
    """

    dictionary: Dictionary
    columns: tuple[ColumnDigest, ...]


def stored_schema(dictionary: Dictionary) -> pa.Schema:
    """The schema of the stored dataset."""
    return pa.schema([(variable.name, STORED[variable.type]) for variable in dictionary.variables])


def places_of(headers: Sequence[str], dictionary: Dictionary) -> list[int]:
    """The staged column of each variable.

    Raises:
        InputError: ``bad-data``.
    """
    by_header = {header: place for place, header in enumerate(headers)}
    by_name = {name: place for place, name in enumerate(legal_names(headers))}
    places = []
    for variable in dictionary.variables:
        if variable.source is not None:
            place = by_header.get(variable.source)
        else:
            place = by_header.get(variable.name, by_name.get(variable.name))
        if place is None:
            raise InputError(
                "bad-data",
                f"dictionary.yaml: {variable.name}: the source has no such column. "
                "Where you rename a variable, keep the column's own name under `source`.",
                variable=variable.name,
            )
        places.append(place)
    return places


def convert(
    staged: Iterable[pa.RecordBatch],
    headers: Sequence[str],
    inferred: Sequence[VariableType],
    declared: DeclaredDictionary,
    write: Write,
    *,
    on_progress: Progress = no_progress,
) -> Converted:
    """Turn staged rows into the declared types, hashing them on the way.

    Raises:
        InputError: ``bad-data``: a value does not fit its declaration.
    """
    variables = declared.dictionary.variables
    places = places_of(headers, declared.dictionary)
    hashers = [ColumnHasher(variable) for variable in variables]
    missing = [0] * len(variables)
    schema = stored_schema(declared.dictionary)
    n_rows = 0
    for batch in staged:
        typed = []
        for number, (variable, place) in enumerate(zip(variables, places, strict=True)):
            column = to_declared(
                as_inferred(batch.column(place), inferred[place]),
                variable,
                declared.recode.get(variable.name, {}),
                n_rows + 1,
            )
            hashers[number].update(column)
            missing[number] += column.null_count
            typed.append(column)
        write(pa.record_batch(typed, schema=schema))
        n_rows += batch.num_rows
        on_progress(n_rows, None)
    counted = [
        variable if variable.missing is None else variable.model_copy(update={"missing": count})
        for variable, count in zip(variables, missing, strict=True)
    ]
    return Converted(
        Dictionary(variables=tuple(counted)), tuple(hasher.done() for hasher in hashers)
    )


def levels_found(
    column: Iterator[pa.Array], inferred: VariableType, recode: Mapping[str, str | None]
) -> tuple[str, ...]:
    """The distinct values of a staged column as text, sorted; whole numbers by size.

    Raises:
        InputError: ``bad-data``: too many for a category.
    """
    found: set[str] = set()
    for chunk in column:
        texts = recoded(as_text(as_inferred(chunk, inferred)), recode)
        found.update(text for text in pc.unique(texts).to_pylist() if text is not None)
        if len(found) > MAX_LEVELS:
            raise InputError("bad-data", f"A category has more than {MAX_LEVELS} values.")
    if inferred is VariableType.INTEGER and not recode:
        return tuple(sorted(found, key=int))
    return tuple(sorted(found))


def as_declared(columns: Sequence[InferredColumn]) -> DeclaredDictionary:
    """The inferred dictionary, taken as it is."""
    variables: tuple[Variable, ...] = tuple(column.variable for column in columns)
    return DeclaredDictionary(Dictionary(variables=variables), {})
