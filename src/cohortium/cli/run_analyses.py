"""``cohortium run STUDY crosstab stage arm``: the tables, tests and models, one command each.

Each is a method of a study or cohort in Python, with the same name and the same defaults; a
command only says which of its parameters are arguments and which are options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final

import typer

from cohortium.cli.commands import comparisons, models, survival, tables
from cohortium.cli.commands.command import Command

COMMANDS: Final = (
    *tables.COMMANDS,
    *comparisons.COMMANDS,
    *models.COMMANDS,
    *survival.COMMANDS,
)


def register(app: typer.Typer, shared: Callable[..., None]) -> None:
    """Add the commands.

    Args:
        shared: What every command does; its keyword parameters after the two are options of every
            command.
    """
    common = list(inspect.signature(shared, eval_str=True).parameters.values())[2:]
    for command in COMMANDS:
        app.command(command.name, help=command.help)(_function(command, shared, common))


def _function(
    command: Command, shared: Callable[..., None], common: list[inspect.Parameter]
) -> Callable[..., None]:
    own = [parameter.declared() for parameter in command.parameters]
    names = [parameter.name for parameter in own]

    def run(**values: Any) -> None:
        asked = {name: _plain(values.pop(name)) for name in names}
        given = {name: value for name, value in asked.items() if value not in (None, [], ())}
        shared(command, given, **values)

    study, *others = common
    run.__signature__ = inspect.Signature([study, *own, *others])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in (study, *own, *others)}
    run.__doc__ = command.help
    return run


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, StrEnum) else value
