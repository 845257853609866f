"""``cohortium demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cohortium.cli.output import JsonOption, emit, handle_errors

app = typer.Typer(
    add_completion=False, help="Show it all: a hub, four hospitals, one joint analysis."
)


@app.command()
@handle_errors
def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the processes running and print how to connect.")
    ] = False,
    folder: Annotated[
        Path | None, typer.Option("--dir", help="Where to put everything; default: a new one.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Start a hub and four hospitals, sign a study, and compare its result with the pooled one."""
    from cohortium.demo.main import run_demo

    plot = run_demo(folder, keep=keep, quiet=json)
    if json:
        emit({"plot": str(plot)}, json=True)
