"""The command line as data, from the Typer application itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from cohortium.cli.main import app


@dataclass(frozen=True)
class Command:
    """One command without subcommands.

    Attributes:
        path: The words after ``cohortium``.
        params: Its arguments and options, as Typer has them.
    """

    path: tuple[str, ...]
    help: str
    params: tuple[Any, ...]

    @property
    def options(self) -> frozenset[str]:
        """Every spelling of every option."""
        options = [param for param in self.params if param.param_type_name == "option"]
        return frozenset(name for o in options for name in (*o.opts, *o.secondary_opts))

    @property
    def max_arguments(self) -> float:
        """Positional arguments at most."""
        counts = [param.nargs for param in self.params if param.param_type_name == "argument"]
        return float("inf") if -1 in counts else sum(counts)


def all_commands() -> dict[tuple[str, ...], Command]:
    """Every command without subcommands, by the words after ``cohortium``."""
    return {command.path: command for command in _walk(typer.main.get_command(app), ())}


def _walk(command: Any, path: tuple[str, ...]) -> Iterator[Command]:
    children = getattr(command, "commands", None)
    if children is None:
        yield Command(path, command.help or "", tuple(command.params))
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
