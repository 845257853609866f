"""The command line as data, from the Typer application itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from cohortium.cli.main import app


def all_commands() -> dict[tuple[str, ...], Any]:
    """Every command without subcommands, by the words after ``cohortium``."""
    return dict(_walk(typer.main.get_command(app), ()))


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    for name, child in sorted(children.items()):
        yield from _walk(child, (*path, name))


def parse(words: list[str]) -> None:
    """Parse the words after ``cohortium`` without running anything.

    Raises:
        UsageError: As the program itself would: no such command or option, a missing argument.
    """
    command: Any = typer.main.get_command(app)
    context = command.make_context("cohortium", list(words))
    while hasattr(command, "resolve_command"):
        rest = [*getattr(context, "_protected_args", []), *context.args]
        name, command, rest = command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
