"""What the methods of a study and of a cohort rest on."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError, ProtocolError
from cohortium.sdk.results import Result
from cohortium.sdk.run import Run

R = TypeVar("R", bound=Result)

_DEEPEST = 20
_LARGEST = 2**53 - 1
"""Up to here JSON has each whole number."""


def listed(value: Any) -> Any:
    """One name as a list of it; what is no text stays, for the type of the parameters to judge."""
    return [value] if isinstance(value, str) else value


def names_of(name: str, value: Any) -> list[str]:
    """One name or several.

    Raises:
        InputError: ``bad-input``, naming the parameter.
    """
    names = plain(name, listed(value))
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise InputError("bad-input", f"{name} must be a list of names.")
    return names


def text_of(name: str, value: Any) -> str:
    """What must be a text.

    Raises:
        InputError: ``bad-input``, naming the parameter.
    """
    if not isinstance(value, str):
        raise InputError("bad-input", f"{name} must be a text.")
    return value


def require_whole(name: str, value: Any, least: int, most: int) -> None:
    """Refuse what is no whole number between two.

    Raises:
        InputError: ``bad-input``, naming the parameter.
    """
    if not isinstance(value, int | np.integer) or not least <= value <= most:
        raise InputError("bad-input", f"{name} must be a whole number from {least} to {most}.")


def plain(name: str, value: Any, depth: int = 0) -> Any:
    """A parameter as JSON has it: numpy's numbers as numbers, whatever is listed as a list.

    Raises:
        InputError: ``bad-input``, naming the parameter.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError("bad-input", f"{name} must be a finite number, not {value}.")
    if isinstance(value, int) and abs(value) > _LARGEST:
        raise InputError("bad-input", f"{name} must be a number up to 2^53.")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if depth < _DEEPEST and isinstance(value, Mapping):
        return {str(key): plain(name, one, depth + 1) for key, one in value.items()}
    if depth < _DEEPEST and isinstance(value, Iterable) and not isinstance(value, bytes):
        return [plain(name, one, depth + 1) for one in value]
    raise InputError(
        "bad-input",
        f"{name} cannot be sent: it is a {type(value).__name__}, and neither text, number, true or "
        "false, nor a list of these.",
    )


class Submits(ABC):
    """Somebody who can have a computation run."""

    @property
    @abstractmethod
    def variables(self) -> dict[str, Variable]:
        """The harmonised variables by name, derived ones included."""

    @abstractmethod
    def submit(self, computation: str, params: Mapping[str, Any]) -> Run:
        """Sign and submit a run; returns at once with its handle.

        Args:
            computation: A permitted computation, ``stats.describe``.
            params: Its parameters; those that are None are left out.
        """


def as_type(kind: type[R], result: Result) -> R:
    """The result, which must be of this type.

    Raises:
        ProtocolError: ``malformed-message``.
    """
    if not isinstance(result, kind):
        raise ProtocolError("malformed-message", "The hub answered with another computation.")
    return result
