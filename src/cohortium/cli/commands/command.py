"""What a command of ``cohortium run STUDY`` is: a method, its parameters, which are arguments."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method.

    Attributes:
        kind: Its type; a tuple of texts where these are the only ones.
        argument: It has no name before it, and is asked for.
        absent: An argument that may be left out.
    """

    name: str
    help: str
    kind: Any = str
    argument: bool = False
    required: bool = False
    absent: bool = False

    def declared(self) -> inspect.Parameter:
        """As Typer reads it; an option that is not given leaves the method's default."""
        kind = self.kind
        if isinstance(kind, tuple):
            enum: Any = StrEnum
            kind = enum(self.name, [(text, text) for text in kind])
        asked_for = (self.argument or self.required) and not self.absent
        default = inspect.Parameter.empty if asked_for else None
        asked = kind if asked_for else kind | None
        if self.argument:
            annotation: Any = Annotated[asked, typer.Argument(help=self.help, show_default=False)]
        else:
            annotation = Annotated[asked, typer.Option(help=self.help, show_default=False)]
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
        )


@dataclass(frozen=True)
class Command:
    """A method as a command; its name has ``-`` for ``_``."""

    method: str
    help: str
    parameters: tuple[Parameter, ...]

    @property
    def name(self) -> str:
        """As it is typed."""
        return self.method.replace("_", "-")


def number(help_: str = "A number.") -> Parameter:
    """The variable of a test."""
    return Parameter("variable", help_, argument=True)


VARIABLES = Parameter("variables", "Variables.", list[str], argument=True)
BY = Parameter("by", "Groups: a category or boolean.")
GROUPS = Parameter("by", "Groups: a category or boolean.", argument=True)
TIME = Parameter("time", "Time to the event or the end of observation.", argument=True)
EVENT = Parameter("event", "A boolean, a number of 0 and 1, or a category.", argument=True)
EVENT_LEVEL = Parameter("event_level", "Of a category, the level that is the event.")
LEVELS = Parameter(
    "levels", "Two levels of the groups, the first against the second.", tuple[str, str]
)
SIDE = Parameter(
    "alternative", "Of the first level to the second.", ("two-sided", "less", "greater")
)
CONFIDENCE = Parameter("confidence", "Of the intervals; default 0.95.", float)
CORRECTION = Parameter("correction", "Continuity correction; default: with it.", bool)
ROUNDING = Parameter("rounding", "Release only numbers rounded to multiples of this.", int)
POOLING = (
    Parameter("method", "Of the variance between institutions; default: REML.", ("REML", "DL")),
    Parameter("hartung_knapp", "Intervals and tests by t, for few institutions.", bool),
    CONFIDENCE,
)
