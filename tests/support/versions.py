"""The versions of built-in and of test analyses, for contracts that are not made by `resolve`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cohortium.contract.model import Computation
from cohortium.contract.proposal import with_versions

VERSIONS = dict.fromkeys(
    ("stats.describe", "glm", "test.sum", "test.separate", "test.add_up", "test.update"), 1
)


def versioned(computations: Iterable[Computation | dict[str, Any]]) -> tuple[Computation, ...]:
    """Each with the versions of what it covers, where it names none."""
    return tuple(with_versions(Computation.model_validate(one), VERSIONS) for one in computations)
