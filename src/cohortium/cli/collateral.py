"""``cohortium enclave collateral``: what quotes are judged by, for sites without internet.

cohortium enclave collateral import FILE...
cohortium enclave collateral list
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cohortium.cli.output import JsonOption, emit, handle_errors, note, table
from cohortium.core.clock import system_clock, to_rfc3339
from cohortium.errors import InputError

if TYPE_CHECKING:
    from cohortium.enclave.attestation.collateral import Collateral, CollateralStore

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Intel's collateral, by which quotes of SGX and TDX are judged without internet.",
)

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        help="Where it is kept; default: ~/.config/cohortium/collateral.",
        file_okay=False,
    ),
]


@app.command("import")
@handle_errors
def import_(
    paths: Annotated[
        list[Path],
        typer.Argument(
            help="Collateral files (QuoteCollateralV3, JSON), or folders of them.", exists=True
        ),
    ],
    *,
    folder: FolderOption = None,
    json: JsonOption = False,
) -> None:
    """Keep collateral that was fetched elsewhere; older ones do not replace newer ones."""
    from cohortium.enclave.attestation.collateral import Collateral

    store, now = _store(folder), system_clock()
    files = [file for path in paths for file in _files(path)]
    if not files:
        raise InputError("not-found", "There is no JSON file in the folders named.")
    contents = [_read(file) for file in files]
    for data in contents:  # all of them, or none
        Collateral.parse(data)
    added = [store.add(data) for data in contents]
    rows = [{**_data(one, now), "kept": kept} for one, kept in added]
    emit(rows, _text(rows), json)
    if any(row["state"] == "expired" for row in rows):
        note("Expired collateral is refused; fetch a newer one where there is internet.")


@app.command("list")
@handle_errors
def list_(*, folder: FolderOption = None, json: JsonOption = False) -> None:
    """Print the collateral that is here, and until when it can be used."""
    rows = [_data(one, system_clock()) for one in _store(folder)]
    emit(rows, _text(rows) if rows else "There is none; see `import`.", json)


def _store(folder: Path | None) -> CollateralStore:
    from cohortium.enclave.attestation.collateral import CollateralStore

    return CollateralStore(folder or Path.home() / ".config/cohortium/collateral")


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.json")) if path.is_dir() else [path]


def _read(path: Path) -> bytes:
    from cohortium.enclave.attestation.collateral import MAX_BYTES

    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError("too-large", f"{path} is too large for collateral.")
        return path.read_bytes()
    except OSError as error:
        raise InputError("bad-input", f"{path} cannot be read.") from error


def _data(one: Collateral, now: datetime) -> dict[str, Any]:
    state = "valid" if now <= one.expires_at else "expired"
    return {
        "tee": one.tee,
        "fmspc": one.fmspc,
        "issued_at": to_rfc3339(one.issued_at),
        "expires_at": to_rfc3339(one.expires_at),
        "state": state,
        "tcb_evaluation": one.tcb_evaluation,
        "digest": one.digest,
    }


def _text(rows: list[dict[str, Any]]) -> Any:
    columns = ("tee", "fmspc", "issued_at", "expires_at", "state", "tcb_evaluation", "digest")
    if any("kept" in row for row in rows):
        rows = [{**row, "state": row["state"] if row["kept"] else "older"} for row in rows]
    cells = [[row[name] for name in columns] for row in rows]
    return table(None, [name.replace("_at", "") for name in columns], cells)
