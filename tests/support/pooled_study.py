"""A study whose runs are driven in this process, without hub, masks or signatures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from tests.support.federation import run_pooled_sum

from cohortium.analysis.builtin import find
from cohortium.core.dictionary import Variable
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import CohortiumError
from cohortium.sdk.analyses import Analyses
from cohortium.sdk.result_types import result_from_wire
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo

CONTRACT = "sha256:" + "c" * 64


class PooledStudy(Analyses):
    """Every analysis as a method, over tables of this process.

    Attributes:
        refuses: Computations that are refused, and with what.
        submitted: Computation and parameters of each run.
    """

    def __init__(self, tables: Sequence[Table], disclosure: Disclosure | None = None) -> None:
        self._tables = list(tables)
        self._disclosure = disclosure
        self.refuses: dict[str, CohortiumError] = {}
        self.submitted: list[tuple[str, dict[str, Any]]] = []

    @property
    def variables(self) -> dict[str, Variable]:
        """Of the tables."""
        return dict(self._tables[0].variables)

    def submit(self, computation: str, params: Mapping[str, Any]) -> Any:
        """Something with the result of a run."""
        if computation in self.refuses:
            raise self.refuses[computation]
        values = {name: value for name, value in params.items() if value is not None}
        self.submitted.append((computation, values))
        done = run_pooled_sum(find(computation), values, self._tables, self._disclosure)
        run = run_of(computation, values, number=len(self.submitted), n_sites=len(self._tables))
        result = result_from_wire(run, done.result, self.variables)
        return SimpleNamespace(result=lambda: result)


def run_of(
    computation: str, params: Mapping[str, Any], *, number: int = 1, n_sites: int = 2
) -> RunInfo:
    """The record of a run that succeeded."""
    sites = ["A", "B", "C", "D"][:n_sites]
    return RunInfo.from_json(
        {
            "id": f"{number:032x}",
            "study": "s",
            "contract_digest": CONTRACT,
            "computation": computation,
            "params": dict(params),
            "status": "succeeded",
            "researcher": "ed25519:x",
            "participants": sites,
            "rounds": 3,
            "seconds": 0.25,
            "bytes": dict.fromkeys(sites, 1000),
            "submitted_at": "2026-11-22T00:00:00Z",
        }
    )


def result_of(
    computation: str, data: Mapping[str, Any], params: Mapping[str, Any] | None = None
) -> Result:
    """A result as the hub might have released it."""
    return result_from_wire(run_of(computation, params or {}), data, {})
