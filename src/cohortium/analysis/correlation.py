"""`stats.correlation`: Pearson and partial correlation over sites."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cohortium.analysis.correlation_result import Pairs, assemble, require_room
from cohortium.analysis.correlation_state import Sums
from cohortium.analysis.grouped import own_floor
from cohortium.analysis.interface import Continue, Done, DropOuts, Params, Scope, VariableNames
from cohortium.core.dictionary import NUMERIC, Name, Variable
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.suppression import LEAST_SITES, Release
from cohortium.errors import InputError, PolicyRefusal

MOST_VARIABLES = 100

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_BLOCK = 2048


class CorrelationParams(Params):
    """What is correlated.

    Attributes:
        variables: Two or more numbers (a boolean counts as 0 and 1).
        given: What is held constant; with it the correlations are partial ones.
        missing: ``complete``: persons with a value of every variable; ``pairwise``: for each pair,
            those with both.
        confidence: Of the intervals.
    """

    variables: VariableNames
    given: Annotated[tuple[Name, ...], Field(max_length=50)] = ()
    missing: Literal["complete", "pairwise"] = "complete"
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95

    @property
    def names(self) -> tuple[str, ...]:
        """The variables, and after them those that are held constant."""
        return (*self.variables, *self.given)


class Correlation:
    """Pearson's product-moment correlation of the pooled persons, for every pair of variables.

    Null hypothesis of each p value: the two variables are uncorrelated (given the others, where
    some are held constant). Assumes independent persons; p and interval assume that the two are
    jointly normal, or many persons.

    Covariances with divisor n - 1, from distances from the joint mean; p from t with n - 2 - g
    degrees of freedom (g variables held constant); intervals by Fisher's z.

    Leaves the site, summed under masks, for each pair of variables over the persons with a value of
    both (of all, unless pairwise), never for a person:
        round 1: persons, and whether the site contributes; with the floor ``site`` also the sum of
            each variable and of its squares, which with the floor ``total`` follow in a round of
            their own, once the joint numbers are known to be enough;
        then: sums of standardised distances from the joint mean, of their squares and products,
            and of each variable's third and fourth powers.

    Refuses: a site with the floor ``site`` sends zeros for a pair of which it has fewer than
    `min_cell` persons. PolicyRefusal ``too-few-persons``, ``too-few-sites``, and
    ``too-many-parameters`` where there are fewer than 10 persons for a variable (or what the limits
    say); pairwise, such a pair is withheld, and one whose persons differ from those of one of its
    variables by 1 to ``min_cell - 1``. Withheld too: a pair with a variable of two values (whatever
    they are) one of which fewer than `min_cell` persons have; a pair of such variables whose joint
    table, which follows from the correlation, has a cell of as few; a pair of which one follows
    from the other. Nothing is held constant where that would need a pair that is withheld.
    InputError ``no-convergence`` where a variable follows from those that are held constant.

    Reference: Fisher 1921; Chan et al. 1983 (two passes with correction).
    """

    name: ClassVar[str] = "stats.correlation"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = 3
    params_type = CorrelationParams

    def variables(self, params: CorrelationParams) -> frozenset[str]:
        """Those that are correlated and those that are held constant."""
        return frozenset(params.names)

    def start(self, params: CorrelationParams, scope: Scope) -> State:
        """Begin with counts, and with sums where each site guards its own floor."""
        _check(params, scope)
        at_once = scope.disclosure.floor == "site"
        return Sums.nothing(len(params.names), "counts+sums" if at_once else "counts").to_state()

    def layout(self, state: State, params: CorrelationParams, scope: Scope) -> Layout:
        """See the class."""
        _check(params, scope)
        return Sums.from_state(state, len(params.names)).layout()

    def local(
        self, table: Table, state: State, params: CorrelationParams, scope: Scope
    ) -> Contribution:
        """See the class."""
        _check(params, scope)
        at = Sums.from_state(state, len(params.names))
        out: dict[str, Array] = {
            name: np.zeros(spec.shape, dtype=np.int64 if spec.kind == "count" else np.float64)
            for name, spec in at.layout().items()
        }
        present = np.stack([table.present(name) for name in params.names])
        values = np.stack([table.columns[name] for name in params.names])
        complete = present.all(axis=0)
        if params.missing == "complete" and not complete.all():
            present, values = present[:, complete], values[:, complete]
        own = _pairs(present)
        spoken = (own >= own_floor(scope)) & (at.status == Release.OPEN)
        if "persons" in out:
            out["persons"][:] = np.where(spoken, own, 0)
            out["sites"][:] = spoken & (own > 0)
            heard = bool(np.any(out["sites"]))
            out["left_out"][0] = np.count_nonzero(~complete) if heard else 0
        if at.phase == "counts":
            return out
        for begin in range(0, values.shape[1], _BLOCK):
            block = slice(begin, begin + _BLOCK)
            _add(out, values[:, block], present[:, block], at)
        for name in ("sums", "residual", "squares", "products"):
            if name in out:
                out[name] *= spoken
        for name in ("scale", "powers"):
            if name in out:
                out[name][~np.diag(spoken)] = 0.0
        return out

    def column(self, field: str, index: int, params: CorrelationParams, scope: Scope) -> str:
        """The variable, or the pair, of a component."""
        names = tuple(variable.name for variable in _check(params, scope))
        if field in {"scale", "powers"}:
            return names[index // 2 if field == "powers" else index]
        first, second = divmod(index, len(names))
        return " and ".join(dict.fromkeys((names[first], names[second])))

    def finish(
        self, total: Total, state: State, params: CorrelationParams, scope: Scope
    ) -> Continue | Done:
        """Withhold what is too small, then correlate."""
        at = Sums.from_state(state, len(params.names))
        if "persons" in total:
            at = _release_counts(at, total, params, scope)
            if at.phase == "counts":
                return Continue(at.but(phase="sums").to_state(), 0.3, "counts")
        if "sums" in total:
            return Continue(_standardise(at, total).to_state(), 0.6, "means")
        pairs = Pairs.of(at, total)
        return Done(assemble(pairs, params, scope))


def _check(params: CorrelationParams, scope: Scope) -> tuple[Variable, ...]:
    scope.disclosure.require_exact()
    names = params.names
    if len(params.variables) < 2:
        raise InputError("bad-input", "A correlation is of two variables or more.")
    if len(set(names)) != len(names):
        raise InputError("bad-input", "A variable is named twice.")
    if len(names) > MOST_VARIABLES:
        raise InputError("bad-input", f"At most {MOST_VARIABLES} variables at once.")
    if params.given and params.missing == "pairwise":
        raise InputError("bad-input", "What is held constant needs complete persons.")
    variables = tuple(scope.variable(name) for name in names)
    for variable in variables:
        if variable.type not in NUMERIC:
            raise InputError(
                "bad-input", f"{variable.name} is {variable.type}; a correlation is of numbers."
            )
    return variables


def _pairs(present: npt.NDArray[np.bool_]) -> Ints:
    """Persons with a value of both, shape (V, V)."""
    v, n = present.shape
    if present.all():
        return np.full((v, v), n, dtype=np.int64)
    counts = np.zeros((v, v), dtype=np.int64)
    for begin in range(0, n, _BLOCK):
        block = present[:, begin : begin + _BLOCK].astype(np.float64)
        counts += (block @ block.T).astype(np.int64)
    return counts


def _add(out: Contribution, values: Floats, present: npt.NDArray[np.bool_], at: Sums) -> None:
    """The sums of a block of persons; the first axis is the variable that is summed."""
    whole = bool(present.all())

    def over_pairs(x: Floats) -> Floats:
        if whole:
            return np.asarray(x.sum(axis=1)[:, None])
        return np.asarray(x @ present.T.astype(np.float64))

    if at.phase != "products":
        x = values if whole else np.where(present, values, 0.0)
        out["sums"] += over_pairs(x)
        out["scale"] += np.square(x).sum(axis=1)
        return
    z = (values - at.centre[:, None]) / at.spread[:, None]
    if not whole:
        z = np.where(present, z, 0.0)
    z2 = z * z
    out["residual"] += over_pairs(z)
    out["squares"] += over_pairs(z2)
    out["products"] += z @ z.T
    out["powers"] += np.stack([(z2 * z).sum(axis=1), (z2 * z2).sum(axis=1)], axis=1)


def _release_counts(at: Sums, total: Total, params: CorrelationParams, scope: Scope) -> Sums:
    limits = scope.disclosure
    n = np.asarray(total["persons"], dtype=np.int64)
    sites = np.asarray(total["sites"], dtype=np.int64)
    if params.missing == "complete":
        limits.require_cohort(int(n[0, 0]))
        if sites[0, 0] < LEAST_SITES:
            raise PolicyRefusal(
                "too-few-sites", "Only one institution has persons with a value of every variable."
            )
        require_room(int(n[0, 0]), len(params.names), limits)
    status = np.full(n.shape, Release.OPEN, dtype=np.int64)
    status[sites < LEAST_SITES] = Release.ONE_SITE
    apart = np.diag(n)[:, None] - n
    differs = (apart > 0) & (apart < limits.min_cell)
    status[differs | differs.T] = Release.SECONDARY
    v = len(n)
    room = np.maximum(v * limits.per_parameter, v + limits.df)
    status[(n < limits.cohort) | (n < room)] = Release.TOO_FEW
    if not np.any((status == Release.OPEN) & ~np.eye(v, dtype=np.bool_)):
        raise PolicyRefusal("too-few-persons", "No two variables have enough persons with both.")
    return at.but(
        status=status,
        persons=np.where(status == Release.OPEN, n, 0),
        left_out=np.asarray(total["left_out"], dtype=np.int64),
    )


def _standardise(at: Sums, total: Total) -> Sums:
    """Where the distances are counted from, and in which unit; a variable's own persons."""
    n = np.maximum(np.diag(at.persons), 1)
    mean = np.diag(np.asarray(total["sums"])) / n
    square = np.asarray(total["scale"]) / n
    spread = np.sqrt(np.maximum(square - mean**2, 1e-12 * square))
    is_open = np.diag(at.status) == Release.OPEN
    return at.but(
        phase="products",
        centre=np.where(is_open, mean, 0.0),
        spread=np.where(is_open & (spread > 0), spread, 1.0),
    )
