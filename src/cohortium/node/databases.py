"""Tables and queries of SQL databases, by Ibis URL.

SQLite and PostgreSQL are read through Ibis. DuckDB is read by itself, and the column types of a
PostgreSQL query are asked of the server: Ibis 12 calls functions that duckdb 2 and sqlglot 30 no
longer have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pyarrow as pa

from cohortium.errors import InputError
from cohortium.node.source import BATCH_ROWS, Source

Opened = tuple[list[str], Iterable[pa.RecordBatch], Callable[[], None]]
"""Column names, rows, and how to disconnect."""


def without_password(url: str) -> str:
    """A URL that may be shown and stored, wherever in it a password stands."""
    parts = urlsplit(url)
    query = re.sub(r"(?i)([^&]*pass[^&=]*=)[^&]*", r"\1***", parts.query)
    parts = parts._replace(query=query)
    if parts.password is not None:
        user = parts.username or ""
        place = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{user}:***@{place}"))
    if "@" not in parts.netloc and ":" in parts.netloc and "@" in url:
        # One that holds / ? or # unescaped, which ends the authority too early (RFC 3986 3.2).
        return re.sub(r"//([^:]*):.*@", r"//\1:***@", url, count=1)
    return urlunsplit(parts) if query != urlsplit(url).query else url


def open_database(url: str, table: str | None, query: str | None) -> Source:
    """A table or the rows of a query.

    Raises:
        InputError: ``bad-data``, ``not-found`` or ``missing-extra``.
    """
    if (table is None) == (query is None):
        raise InputError("bad-data", "Name either a table or a query of the database.")
    scheme = url.partition("://")[0].partition("+")[0]
    openers = {
        "duckdb": _open_duckdb,
        "sqlite": _open_sqlite,
        "postgres": _open_postgres,
        "postgresql": _open_postgres,
    }
    if scheme not in openers:
        raise InputError(
            "bad-data", f"The scheme {scheme!r} is not one of duckdb, sqlite and postgres."
        )
    shown = without_password(url)
    headers, rows, disconnect = _guarded(shown, lambda: openers[scheme](url, table, query))

    def batches() -> Iterator[pa.RecordBatch]:
        reader = iter(rows)
        while (batch := _guarded(shown, lambda: next(reader, None))) is not None:
            yield batch

    return Source(f"{shown} ({table or query})", tuple(headers), batches(), close=disconnect)


def _guarded(shown: str, action: Callable[[], Any]) -> Any:
    """Call a driver; its errors may quote values or passwords, so only their kind is told."""
    try:
        return action()
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - each driver has its own root, all become one error
        kind = type(error).__name__
    raise InputError(
        "bad-data", f"The database {shown} cannot be read ({kind}). Check URL, table and query."
    )


def _extra(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            "missing-extra", "Reading databases needs: pip install 'cohortium[sql]'"
        ) from error


def _existing(url: str) -> Path:
    """A database file; the drivers would create one that is not there."""
    path = Path(url.partition("://")[2].partition("?")[0])
    if not path.is_file():
        raise InputError(
            "not-found", f"There is no database file {path}; a URL names its full path."
        )
    return path


def _open_duckdb(url: str, table: str | None, query: str | None) -> Opened:
    connection = _extra("duckdb").connect(_existing(url), read_only=True)
    try:
        relation = connection.table(table) if table is not None else connection.sql(query)
        headers = [str(column) for column in relation.columns]
        return headers, relation.to_arrow_reader(BATCH_ROWS), connection.close
    except BaseException:
        connection.close()
        raise


def _open_sqlite(url: str, table: str | None, query: str | None) -> Opened:
    path = _existing(url)
    connection = _extra("ibis").sqlite.connect(path)
    return _read(connection, table, query, schema=None)


def _open_postgres(url: str, table: str | None, query: str | None) -> Opened:
    ibis = _extra("ibis")
    connection = ibis.connect("postgres://" + url.partition("://")[2])
    connection.con.read_only = True
    try:
        schema = None if query is None else _query_schema(ibis, connection, query)
    except BaseException:
        connection.disconnect()
        raise
    return _read(connection, table, query, schema)


def _query_schema(ibis: Any, connection: Any, query: str) -> Any:
    """The types of a query's columns, which PostgreSQL tells without running it."""
    raw = connection.con
    with raw.cursor() as cursor, raw.transaction():
        cursor.execute(f"SELECT * FROM ({query}) AS given LIMIT 0")  # noqa: S608 - the steward's own
        columns = [
            (column.name, raw.adapters.types[column.type_code].name)
            for column in cursor.description
        ]
    mapper = connection.compiler.type_mapper
    return ibis.schema({name: mapper.from_string(kind) for name, kind in columns})


def _read(connection: Any, table: str | None, query: str | None, schema: Any) -> Opened:
    try:
        if table is not None:
            rows = connection.table(table)
        else:
            rows = connection.sql(query, schema=schema)
        headers = [str(column) for column in rows.columns]
        return headers, rows.to_pyarrow_batches(chunk_size=BATCH_ROWS), connection.disconnect
    except BaseException:
        connection.disconnect()
        raise
