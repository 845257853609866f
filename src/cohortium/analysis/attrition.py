"""`stats.attrition`: how many persons remain after each criterion of a cohort."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cohortium.analysis.attrition_result import Counted, assemble
from cohortium.analysis.interface import Continue, Done, DropOuts, FieldSpec, Params, Scope
from cohortium.cohort.check import check_criterion
from cohortium.cohort.evaluate import Evaluation
from cohortium.cohort.parser import parse
from cohortium.cohort.population import Population
from cohortium.cohort.syntax import Expr
from cohortium.core.dictionary import Variable
from cohortium.core.model import Document
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.selection import Criterion
from cohortium.core.table import Table
from cohortium.disclosure.differencing import Split
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

MAX_COMBINED = 6
"""Criteria whose combinations are counted: beyond it, few combinations have enough persons."""

Codes = npt.NDArray[np.int32]


class Step(Document):
    """One criterion.

    Attributes:
        kind: ``include`` keeps those for whom it is true, ``exclude`` removes them.
    """

    kind: Literal["include", "exclude"] = "include"
    criterion: Criterion


class AttritionParams(Params):
    """What is counted.

    Attributes:
        steps: In order.
        combinations: Whether the number of persons at each combination of criteria is released too,
            where each has enough.
        rounding: Release nothing but numbers rounded to multiples of this.
        by_site: Numbers of each institution too, rounded; the contract must allow it.
    """

    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=50)]
    combinations: bool = True
    rounding: Annotated[int, Field(ge=2, le=1000)] | None = None
    by_site: bool = False


class Attrition:
    """Persons of the contract's cohort who remain after each criterion, in the order given.

    A person remains after a criterion to include for whom it is true, and after one to exclude for
    whom it is not true: one that is NULL of a person neither keeps nor removes.

    Leaves the site, summed under masks: the number of persons who meet the first criteria, for each
    criterion, and whether there are any; for up to six criteria also the number who meet each
    combination of them. With `by_site` the first again, each site's in a place of its own. With the
    floor ``site``, 0 in place of fewer than `min_cell` persons.

    Refuses: a criterion that removes 1 to ``min_cell - 1`` persons is merged with its neighbours:
    its number is withheld. Combinations are released where every one that has anybody has at least
    `min_cell` persons of two institutions or more. Fewer persons than that in the whole cohort:
    PolicyRefusal ``too-few-persons``. With rounding, every number is a multiple of the base and
    nothing else is released.

    Reference: Hopewell et al. 2025, CONSORT 2025 (the flow of participants).
    """

    name: ClassVar[str] = "stats.attrition"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 1
    params_type = AttritionParams

    def variables(self, params: AttritionParams) -> frozenset[str]:
        """Those that the criteria read."""
        return frozenset().union(*(names_in(step.criterion) for step in params.steps))

    def criteria(self, params: AttritionParams) -> tuple[str, ...]:
        """See `ReadsCriteria`."""
        return tuple(step.criterion for step in params.steps)

    def start(self, params: AttritionParams, scope: Scope) -> State:
        """One round; the criteria are understood."""
        _checked(params, scope)
        if params.by_site and not scope.disclosure.by_site:
            raise PolicyRefusal(
                "not-permitted",
                "The contract does not let numbers of single institutions be released. Amend it, "
                "with `disclosure: {by_site: true}`, for all sites to sign.",
            )
        return State({"phase": "counts"})

    def layout(self, state: State, params: AttritionParams, scope: Scope) -> Layout:
        """See the class."""
        _require_counts(state)
        after = FieldSpec((len(params.steps) + 1,), "count")
        of = {"remaining": after, "sites": after}
        if _combined(params):
            parts = FieldSpec((2 ** len(params.steps),), "count")
            of |= {"parts": parts, "part_sites": parts, "short": FieldSpec((), "count")}
        if params.by_site:
            of["by_site"] = FieldSpec((len(scope.sites), *after.shape), "count")
        return of

    def local(
        self, table: Table, state: State, params: AttritionParams, scope: Scope
    ) -> Contribution:
        """See the class."""
        layout = self.layout(state, params, scope)
        limits = scope.disclosure
        floor = limits.min_cell if limits.floor == "site" else 1
        split = self.split(params, scope)
        counts = np.bincount(self.parts(table, params, scope), minlength=split.parts)
        remaining = _order(split, params) @ counts.astype(np.int64)
        counted = np.where(remaining < floor, 0, remaining)
        out: dict[str, npt.NDArray[Any]] = {"remaining": counted, "sites": (counted > 0) + 0}
        if "parts" in layout:
            few = counts < floor
            out["parts"] = np.where(few, 0, counts)
            out["part_sites"] = (out["parts"] > 0) + 0
            out["short"] = np.array(int((few & (counts > 0)).any()))
        if "by_site" in layout:
            out["by_site"] = np.zeros(layout["by_site"].shape, dtype=np.int64)
            if scope.site is not None and limits.by_site:
                out["by_site"][scope.site] = np.where(remaining < limits.min_cell, 0, remaining)
        return {name: np.asarray(value, dtype=np.int64) for name, value in out.items()}

    def finish(
        self, total: Total, state: State, params: AttritionParams, scope: Scope
    ) -> Continue | Done:
        """Withhold what is too small."""
        _require_counts(state)
        steps = [(step.kind, step.criterion) for step in params.steps]
        counted = Counted(
            total["remaining"],
            total["sites"],
            total.get("parts"),
            total.get("part_sites"),
            int(total["short"]) if "short" in total else 0,
            total.get("by_site"),
        )
        return Done(assemble(counted, steps, params.rounding, scope))

    def split(self, params: AttritionParams, scope: Scope) -> Split:
        """Those who remain after each step; and first, where they are counted, the combinations."""
        _checked(params, scope)
        n = len(params.steps)
        parts = 2**n if n <= MAX_COMBINED else n + 1
        after = np.zeros((n + 1, parts + 1), dtype=np.bool_)
        code = np.arange(parts)
        for j in range(n + 1):
            met = (code & (2**j - 1)) == 2**j - 1 if n <= MAX_COMBINED else code >= j
            after[j, :parts] = met
        after[0] = True
        order = tuple(range(n + 1))
        if not _combined(params):
            return Split(parts, after, (order,), kept=n)
        sets = np.concatenate([after, np.eye(parts, parts + 1, dtype=np.bool_)])
        return Split(parts, sets, (tuple(range(len(sets))), order), kept=n)

    def parts(self, table: Table, params: AttritionParams, scope: Scope) -> Codes:
        """Bit i of a person's code: whether step i keeps them; for many steps, how many first
        steps do.
        """
        evaluation = Evaluation(table)
        n = len(params.steps)
        code = np.zeros(table.n_rows, dtype=np.int32)
        so_far = np.ones(table.n_rows, dtype=np.bool_)
        for i, (step, expr) in enumerate(zip(params.steps, _checked(params, scope), strict=True)):
            met = evaluation.true(expr)
            kept = met if step.kind == "include" else ~met
            so_far &= kept
            code += (kept * np.int32(1 << i)) if n <= MAX_COMBINED else so_far
        return code

    def split_key(self, params: AttritionParams, scope: Scope) -> Any:
        """The criteria as they are understood, in order."""
        variables = dict(scope.variables)
        keys = [
            [step.kind, Population((expr,), (), {}, variables).persons_key]
            for step, expr in zip(params.steps, _checked(params, scope), strict=True)
        ]
        return ["attrition", _combined(params), *keys]

    def narrowed(self, params: AttritionParams, view: int) -> AttritionParams:
        """Without the combinations."""
        if view > 1 or not _combined(params):
            raise ProtocolError("malformed-message", "There is no such view of an attrition.")
        return params.model_copy(update={"combinations": False})

    def rounding(self, params: AttritionParams) -> int | None:
        """See `RoundsCounts`."""
        return params.rounding


def _combined(params: AttritionParams) -> bool:
    return params.combinations and params.rounding is None and len(params.steps) <= MAX_COMBINED


def _order(split: Split, params: AttritionParams) -> npt.NDArray[np.int64]:
    """Which parts remain after each step, shape (steps + 1, parts)."""
    return split.sets[: len(params.steps) + 1, : split.parts].astype(np.int64)


def _require_counts(state: State) -> None:
    if state.values != {"phase": "counts"} or state.arrays:
        raise ProtocolError("malformed-message", "An attrition has one state.")


def _checked(params: AttritionParams, scope: Scope) -> tuple[Expr, ...]:
    texts = tuple(step.criterion for step in params.steps)
    return _read(texts, tuple(scope.variables.values()))


@lru_cache(maxsize=256)
def _read(texts: tuple[str, ...], variables: tuple[Variable, ...]) -> tuple[Expr, ...]:
    known = {variable.name: variable for variable in variables}
    exprs = tuple(check_criterion(text, known) for text in texts)
    for text, expr in zip(texts, exprs, strict=True):
        if not expr.reads:
            raise InputError("bad-criterion", f"{text}: this reads no variable.")
    return exprs


@lru_cache(maxsize=1024)
def names_in(text: str) -> frozenset[str]:
    """The names in a criterion.

    Raises:
        InputError: ``bad-criterion``.
    """
    return frozenset(str(node.value) for node in parse(text).walk() if node.op == "name")
