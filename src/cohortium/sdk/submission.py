"""What the methods of a study and of a cohort rest on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar

from cohortium.core.dictionary import Variable
from cohortium.errors import ProtocolError
from cohortium.sdk.results import Result
from cohortium.sdk.run import Run

R = TypeVar("R", bound=Result)


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
