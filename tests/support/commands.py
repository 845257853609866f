"""The command line as data: every command, its options and arguments, from the Typer application."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import typer

from cohortium.cli.main import app


@dataclass(frozen=True)
class Command:
    """One command without subcommands.

    Attributes:
        path: The words after ``cohortium``.
        options: Every spelling of every option, ``--help`` included.
        flags: The options that take no value.
        max_arguments: Positional arguments at most; None where there is no limit.
    """

    path: tuple[str, ...]
    options: frozenset[str]
    flags: frozenset[str]
    max_arguments: int | None
    help: str


def all_commands() -> dict[tuple[str, ...], Command]:
    """Every command by its path."""
    return {command.path: command for command in _walk(typer.main.get_command(app), ())}


def _walk(command: object, path: tuple[str, ...]) -> Iterator[Command]:
    children = getattr(command, "commands", None)
    if children is not None:
        for name, child in sorted(children.items()):
            yield from _walk(child, (*path, name))
        return
    params = getattr(command, "params", [])
    options = [p for p in params if p.param_type_name == "option"]
    arguments = [p for p in params if p.param_type_name == "argument"]
    yield Command(
        path=path,
        options=frozenset({"--help"} | {o for p in options for o in (*p.opts, *p.secondary_opts)}),
        flags=frozenset(
            {"--help"} | {o for p in options if p.is_flag for o in (*p.opts, *p.secondary_opts)}
        ),
        max_arguments=None
        if any(p.nargs == -1 for p in arguments)
        else sum(p.nargs for p in arguments),
        help=getattr(command, "help", None) or "",
    )
