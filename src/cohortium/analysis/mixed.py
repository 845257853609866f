"""`models.mixed`: a linear model with a random intercept for each institution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import StringConstraints

from cohortium.analysis.formula import (
    MAX_CHARACTERS,
    Parsed,
    complete,
    design,
    parse,
    values_of,
    variables_of,
)
from cohortium.analysis.institutions import (
    apart,
    parts_by_institution,
    require_apart,
    require_by_site,
    split_by_institution,
)
from cohortium.analysis.interface import Continue, Done, DropOuts, FieldSpec, Params, Scope
from cohortium.analysis.least_squares import aliased, pack, unpack
from cohortium.analysis.marks import few_in_table, joint_counts, singled_out
from cohortium.analysis.mixed_fit import Sufficient
from cohortium.analysis.mixed_result import assemble
from cohortium.analysis.untrusted import floats, ints, phase_of
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.differencing import Split
from cohortium.disclosure.limits import Disclosure
from cohortium.disclosure.suppression import is_small
from cohortium.errors import InputError, PolicyRefusal, ProtocolError

Floats = npt.NDArray[np.float64]

LEAST_INSTITUTIONS = 3
"""Below it a variance between institutions means nothing."""


class MixedParams(Params):
    """The model.

    Attributes:
        formula: See `cohortium.analysis.formula`; variables as they are, without expressions.
        method: Of the variances: restricted or full maximum likelihood.
    """

    formula: Annotated[str, StringConstraints(min_length=1, max_length=MAX_CHARACTERS)]
    method: Literal["REML", "ML"] = "REML"


class Mixed:
    """Linear mixed model ``y = X beta + b + e`` of the pooled persons with a value of every
    variable: b normal, one for each institution, e normal, one for each person.

    The exact maximum of the (restricted) likelihood: given the ratio of the two variances it is
    generalised least squares; the ratio is found where the slope of the profile likelihood is 0,
    of all its maxima and 0 the best. Wald tests (z). Assumes institutions drawn from many, normal
    effects, and a common variance.

    The likelihood at two or more ratios gives away each institution's means, however the sums are
    masked (docs/methods/mixed.md shows how), so that they are released openly: the contract must
    have ``disclosure: {by_site: true}``. No institution's products leave it alone.

    Leaves the site, for its persons with a value of every variable: round 1, in places of its own,
    their number and the mean of each column and of the outcome, how many are left out, and, at most
    `min_cell`, of how many persons of the cohort it tells nothing; round 2, summed under masks, the
    products of distances from the site's own means.

    Refuses: without `by_site`, or where counts are rounded (PolicyRefusal ``not-permitted``); with
    fewer than three contributing institutions (``too-few-sites``). A site sends zeros where it has
    fewer than `min_cell` such persons, where a level, a value of a column of two values, or what
    two such columns differ in has 1 to ``min_cell - 1`` of its own, and where the dominance rule
    says so. ``too-few-persons`` also where 1 to ``min_cell - 1`` persons of the cohort are in no
    mean, ``too-many-parameters`` as `glm`. Each institution's persons are compared with those of
    earlier releases. InputError ``bad-formula`` for expressions; ``no-convergence`` for columns
    that follow from others or an outcome that follows from them.

    Reference: Laird & Ware 1982; Pinheiro & Bates 2000, ch. 2.
    """

    name: ClassVar[str] = "models.mixed"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 2
    params_type = MixedParams

    def variables(self, params: MixedParams) -> frozenset[str]:
        """The names in the formula."""
        return variables_of(params.formula)

    def start(self, params: MixedParams, scope: Scope) -> State:
        """Begin with persons and means."""
        parsed = _parsed(params, scope)
        require_by_site(scope, "A mixed model gives away each institution's means")
        return Known.nothing(len(scope.sites), len(parsed.names)).to_state()

    def layout(self, state: State, params: MixedParams, scope: Scope) -> Layout:
        """See the class."""
        parsed = _parsed(params, scope)
        p, sites = len(parsed.names), len(scope.sites)
        if Known.of(state, sites, p).phase == "products":
            return {"within": FieldSpec((p * (p + 1) // 2,), "real")}
        return {
            "persons": FieldSpec((sites,), "count"),
            "left_out": FieldSpec((1,), "count"),
            "apart": FieldSpec((1,), "count"),
            "means": FieldSpec((sites, p), "real"),
        }

    def local(self, table: Table, state: State, params: MixedParams, scope: Scope) -> Contribution:
        """See the class."""
        parsed, limits = _parsed(params, scope), scope.disclosure
        layout = self.layout(state, params, scope)
        out: dict[str, npt.NDArray[Any]] = {
            name: np.zeros(spec.shape, dtype=np.int64 if spec.kind == "count" else np.float64)
            for name, spec in layout.items()
        }
        if scope.site is None or not limits.by_site:
            return out
        table = table.select(tuple(sorted(parsed.variables)))
        rows = complete(table, parsed)
        persons = table.take(rows)
        speaks = _may_speak(persons, parsed, limits)
        if "apart" in out:
            out["apart"][0] = apart(table, persons.n_rows if speaks else 0, limits)
        if not speaks:
            return out
        z = _columns(persons, parsed)
        means = z.mean(axis=0)
        if "within" in out:
            away = z - means
            away -= away.mean(axis=0)
            out["within"] += pack(away.T @ away)
            return out
        out["persons"][scope.site] = persons.n_rows
        out["left_out"][0] = table.n_rows - persons.n_rows
        out["means"][scope.site] = means
        return out

    def split(self, params: MixedParams, scope: Scope) -> Split:  # noqa: ARG002 - protocol
        """The cohort; those of whom means are given, all together and of each institution."""
        return split_by_institution(scope)

    def parts(self, table: Table, params: MixedParams, scope: Scope) -> npt.NDArray[np.integer]:
        """The site's place, for the persons whose means it gives."""
        parsed = _parsed(params, scope)
        table = table.select(tuple(sorted(parsed.variables)))
        present = complete(table, parsed)
        speaks = _may_speak(table.take(present), parsed, scope.disclosure)
        return parts_by_institution(scope, present & speaks)

    def split_key(self, params: MixedParams, scope: Scope) -> Any:  # noqa: ARG002 - protocol
        """Whose values are needed."""
        return ["institutions", *sorted(self.variables(params))]

    def narrowed(self, params: MixedParams, view: int) -> MixedParams:
        """There is one view only."""
        if view:
            raise ProtocolError("malformed-message", "There is no such view of a mixed model.")
        return params

    def column(self, field: str, index: int, params: MixedParams, scope: Scope) -> str:
        """The term, or the pair of terms, of a component."""
        parsed = _parsed(params, scope)
        names = [*parsed.names[1:], parsed.response.text]
        if field == "means":
            return names[index % len(names)]
        pair = (names[int(axis[index])] for axis in np.triu_indices(len(names)))
        return " and ".join(dict.fromkeys(pair))

    def finish(
        self, total: Total, state: State, params: MixedParams, scope: Scope
    ) -> Continue | Done:
        """Check that there is enough, then fit."""
        parsed = _parsed(params, scope)
        p, sites = len(parsed.names), len(scope.sites)
        at = Known.of(state, sites, p)
        if at.phase == "means":
            at = Known(
                "products",
                np.asarray(total["persons"], dtype=np.int64),
                np.asarray(total["left_out"], dtype=np.int64),
                np.asarray(total["means"], dtype=np.float64),
            )
            _require_enough(at, p, scope.disclosure)
            require_apart(int(np.asarray(total["apart"])[0]), scope.disclosure)
            return Continue(at.to_state(), 0.5, "means")
        there = at.persons > 0
        sums = Sufficient(
            at.persons[there].astype(np.float64),
            at.means[there],
            unpack(np.asarray(total["within"], dtype=np.float64), p),
        )
        _require_information(sums, parsed)
        return Done(
            assemble(
                sums,
                parsed=parsed,
                method=params.method,
                sites=[site for site, one in zip(scope.sites, there, strict=True) if one],
                n_missing=int(at.left_out[0]),
                scope=scope,
            )
        )


@dataclass(frozen=True)
class Known:
    """What is known between the rounds, of S institutions and p columns.

    Attributes:
        persons: (S,); 0 of an institution that does not contribute.
        left_out: (1,); persons who lack a value, of those that do.
        means: (S, p); see `Sufficient`.
    """

    phase: str
    persons: npt.NDArray[np.int64]
    left_out: npt.NDArray[np.int64]
    means: Floats

    @staticmethod
    def nothing(sites: int, p: int) -> Known:
        """Before the first round."""
        zeros = np.zeros(sites, dtype=np.int64)
        return Known("means", zeros, np.zeros(1, dtype=np.int64), np.zeros((sites, p)))

    def to_state(self) -> State:
        """As the hub sends it."""
        names = ("persons", "left_out", "means")
        return State({"phase": self.phase}, {name: getattr(self, name) for name in names})

    @staticmethod
    def of(state: State, sites: int, p: int) -> Known:
        """Read an untrusted state.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        return Known(
            phase_of(state, ("means", "products")),
            ints(state, "persons", (sites,)),
            ints(state, "left_out", (1,)),
            floats(state, "means", (sites, p)),
        )


def _parsed(params: MixedParams, scope: Scope) -> Parsed:
    scope.disclosure.require_exact()
    parsed = parse(params.formula, scope.variables)
    if not parsed.intercept:
        raise InputError("bad-formula", "A model with random intercepts has an intercept.")
    if parsed.response.levels is not None:
        raise InputError("bad-input", f"{parsed.response.text} is a category; it must be a number.")
    made = [column.name for column in parsed.columns if column.makes_number]
    made += [parsed.response.text] if parsed.response.makes_number else []
    if made:
        raise InputError(
            "bad-formula",
            f"{made[0]}: a mixed model takes variables as they are, since the mean of each column "
            "is released for each institution.",
        )
    return parsed


def _columns(persons: Table, parsed: Parsed) -> Floats:
    """The columns after the intercept and the outcome, shape (n, p)."""
    x, _ = design(persons, parsed)
    return np.column_stack([x[:, 1:], values_of(parsed.response, persons)])


def _may_speak(persons: Table, parsed: Parsed, limits: Disclosure) -> bool:
    """Whether the site's own means tell of no fewer than `min_cell` persons."""
    n = persons.n_rows
    if n < max(limits.min_cell, 2):
        return False
    z = _columns(persons, parsed)
    for factor in parsed.categories:
        codes = values_of(factor, persons).astype(np.int64)
        counts = np.bincount(codes, minlength=len(factor.levels or ()))
        if any(is_small(int(count), limits.min_cell) for count in counts):
            return False
    for values in z.T:
        found, counts = np.unique(values, return_counts=True)
        if len(found) == 2 and int(counts.min()) < limits.min_cell:
            return False
    whole = np.column_stack([np.ones(n), z])
    sums, squares = whole.sum(axis=0), np.square(whole).sum(axis=0)
    joint = joint_counts(persons, parsed)
    of = (n, sums, squares, joint)
    least = limits.min_cell
    if singled_out(*of, parsed=parsed, min_cell=least):
        return False
    if few_in_table(*of, parsed=parsed, min_cell=least, linear=True):
        return False
    rule = limits.dominance
    if rule is None:
        return True
    size = np.sort(np.abs(z), axis=0)
    share = size[-rule.largest :].sum(axis=0)
    return bool(np.all(100 * share <= rule.percent * size.sum(axis=0)))


def _require_enough(at: Known, p: int, limits: Disclosure) -> None:
    n, sites = int(at.persons.sum()), int(np.count_nonzero(at.persons))
    limits.require_cohort(n)
    if sites < LEAST_INSTITUTIONS:
        raise PolicyRefusal(
            "too-few-sites",
            f"A random intercept needs {LEAST_INSTITUTIONS} institutions with enough persons; "
            f"{sites} contribute.",
        )
    if p * limits.per_parameter > n or n - p < limits.df:
        raise PolicyRefusal(
            "too-many-parameters",
            f"The model has {p} coefficients for {n} persons; each needs {limits.per_parameter} "
            f"persons, and {limits.df} residual degrees of freedom must be left.",
            parameters=p,
            persons=n,
        )


def _require_information(sums: Sufficient, parsed: Parsed) -> None:
    bad = aliased(sums.total, sums.n * sums.centre**2)
    names = [*parsed.names[1:], parsed.response.text]
    if bad:
        terms = [names[j] for j in bad]
        raise InputError(
            "no-convergence",
            f"These follow from the other columns (or are constant): {', '.join(terms[:5])}. "
            "Leave them out.",
            terms=terms[:50],
        )
