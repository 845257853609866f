"""``cohortium demo`` and ``cohortium demo enclave``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cohortium.cli.output import JsonOption, emit, errors_to_exit, handle_errors

app = typer.Typer(
    add_completion=False,
    help="Show it all: a hub, four hospitals, one joint analysis; or two institutions' data in an "
    "enclave (cohortium demo enclave).",
)

KeepOption = Annotated[
    bool, typer.Option("--keep", help="Leave the processes running and print how to connect.")
]
FolderOption = Annotated[
    Path | None, typer.Option("--dir", help="Where to put everything; default: a new one.")
]


@app.callback(invoke_without_command=True)
def demo(
    context: typer.Context,
    keep: KeepOption = False,
    folder: FolderOption = None,
    json: JsonOption = False,
) -> None:
    """Start a hub and four hospitals, sign a study, and compare its result with the pooled one."""
    if context.invoked_subcommand is not None:
        return
    from cohortium.demo.main import run_demo

    with errors_to_exit():
        plot = run_demo(folder, keep=keep, quiet=json)
    if json:
        emit({"plot": str(plot)}, json=True)


@app.command()
@handle_errors
def enclave(
    keep: KeepOption = False, folder: FolderOption = None, json: JsonOption = False
) -> None:
    """Two institutions lend columns of the same persons; a model is trained in an enclave."""
    from cohortium.demo.enclave import run_enclave_demo

    shown = run_enclave_demo(folder, keep=keep, quiet=json)
    data = {
        "folder": str(shown.folder),
        "largest_relative_difference": shown.gap,
        "auc": shown.auc,
        "seconds": shown.seconds,
        "scanned_bytes": shown.scanned_bytes,
    }
    if json:
        emit(data, json=True)
