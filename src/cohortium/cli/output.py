"""What every command prints: people's text or ``--json`` on stdout, errors on stderr.

Rich is imported only when something other than plain text or JSON is printed.
"""

from __future__ import annotations

import json as jsonlib
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

from cohortium.errors import CohortiumError

P = ParamSpec("P")
R = TypeVar("R")

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
"""The ``--json`` option; write ``json: JsonOption = False``."""


def folder_exists(path: Path | None) -> Path | None:
    """Before a run is spent on what cannot be written."""
    if path is not None and not path.absolute().parent.is_dir():
        raise typer.BadParameter(f"There is no folder {path.parent}; make it first.")
    return path


OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Write the output to this file.",
        dir_okay=False,
        callback=folder_exists,
    ),
]
"""The ``--output FILE`` option; write ``output: OutputOption = None``."""

LanguageOption = Annotated[
    str, typer.Option("--lang", help="Language of the contract's text: en or zh.")
]
"""The ``--lang`` option; write ``lang: LanguageOption = "en"``."""

_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def plain(text: str) -> str:
    """Without control and direction characters, but for line ends and tabs.

    Names, contracts and errors come from others: they must not steer the reader's terminal.
    """
    if all(line.isprintable() for line in text.split("\n")):
        return text
    return "".join(
        c
        if c in "\n\t" or unicodedata.category(c) not in _STEERING
        else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )


def emit(data: Any, text: Any = None, json: bool = False, output: Path | None = None) -> None:
    """Print the outcome of a command.

    Args:
        data: JSON values; what ``--json`` prints.
        text: What a person reads: a string or a Rich renderable; None prints the JSON.
        json: Whether ``--json`` was given.
        output: Write there instead of standard output.
    """
    if json or text is None:
        _write(jsonlib.dumps(data, ensure_ascii=False, indent=2, default=str) + "\n", output)
    elif isinstance(text, str):
        _write(plain(text if text.endswith("\n") else text + "\n"), output)
    else:
        _write_rich(text, output)


def _write(text: str, output: Path | None) -> None:
    if output is not None:
        output.write_text(text, encoding="utf-8")
    else:
        typer.echo(text, nl=False)


def _write_rich(renderable: Any, output: Path | None) -> None:
    from rich.console import Console

    if output is None:
        Console(soft_wrap=not sys.stdout.isatty()).print(renderable)
        return
    with output.open("w", encoding="utf-8") as file:
        Console(file=file, width=120).print(renderable)


def table(title: str | None, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Any:
    """A Rich table of plain text cells (markup in a cell is shown, not interpreted)."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title, box=box.SIMPLE, title_justify="left", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    for row in rows:
        made.add_row(*(Text("" if cell is None else plain(str(cell))) for cell in row))
    return made


@contextmanager
def bytes_bar(what: str, total: int, shown: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, for a terminal; told of bytes as they are moved."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not (shown and console.is_terminal)
    ) as bar:
        bar_id = bar.add_task(what, total=total)
        yield lambda n: bar.advance(bar_id, n)


def note(message: str) -> None:
    """A line for the person at the terminal, on stderr, so that stdout stays parseable."""
    typer.echo(plain(message), err=True)


def fail(error: CohortiumError) -> NoReturn:
    """Print an error on stderr and leave with its exit code.

    With ``--json`` on the command line the error is the JSON wire form.
    """
    if "--json" in sys.argv[1:] or os.environ.get("COHORTIUM_JSON_ERRORS"):
        typer.echo(jsonlib.dumps({"error": error.to_wire()}, ensure_ascii=False), err=True)
    else:
        note(f"Error ({error.code}): {error.message}")
        for line in _detail_lines(error):
            note(line)
    raise typer.Exit(type(error).exit_code) from error


def _detail_lines(error: CohortiumError) -> Iterator[str]:
    """What the details say beyond the message."""
    for key, value in error.details.items():
        if not isinstance(value, str | int | float | list | tuple):
            continue
        items = [str(item) for item in (value if isinstance(value, list | tuple) else [value])]
        if not all(item in error.message for item in items):
            yield f"  {key}: {', '.join(items)}"


@contextmanager
def errors_to_exit() -> Iterator[None]:
    """Turn a `CohortiumError` inside the block into a message and an exit code."""
    try:
        yield
    except CohortiumError as error:
        fail(error)


def handle_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command: a `CohortiumError` becomes a message on stderr and its exit code.

    Goes below ``@app.command()``.
    """

    @wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with errors_to_exit():
            return command(*args, **kwargs)

    return wrapped
