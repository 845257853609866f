"""`stats.spearman`: Spearman's rank correlation over sites."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cohortium.analysis.correlation_result import FOLLOWS, inference, require_room, table
from cohortium.analysis.distribution import MAX_ROUNDS, Distribution, Known, Question, progress_of
from cohortium.analysis.grouped import parts
from cohortium.analysis.interface import Continue, Done, DropOuts, Params, Scope, VariableNames
from cohortium.analysis.rank_bins import bins_of
from cohortium.analysis.ranks import is_open, tie_sum
from cohortium.analysis.spearman_state import Bins, is_bins
from cohortium.core.rounds import Array, Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.disclosure.suppression import is_small, nearly_equal
from cohortium.errors import InputError, PolicyRefusal

MOST_VARIABLES = 30
NEARLY = 0.999
"""From here a correlation that may be one, within its resolution, is withheld as one."""

Floats = npt.NDArray[np.float64]


class SpearmanParams(Params):
    """What is correlated.

    Attributes:
        variables: Two or more, with an order: numbers, dates.
        confidence: Of the intervals.
    """

    variables: VariableNames
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95


class Spearman:
    """Spearman's rank correlation of the pooled persons with a value of every variable.

    Null hypothesis of each p value: the ranks of the two variables are uncorrelated. Assumes
    independent persons. Tied persons have their mid-rank; p from t with n - 2 degrees of freedom,
    as scipy's; intervals by Fisher's z with Bonett and Wright's variance.

    The product of a person's two ranks can be made at the person's institution only, which has to
    know the ranks. To tell it everybody's would tell of single persons elsewhere: it is told how
    many persons there are in bins of at least `min_cell`. A value that so many persons share is a
    bin, and its mid-rank is exact; within a bin of several values an institution goes by the order
    of its own persons. Where every value is shared by so many (as on ordinal scales) the result is
    exact. Else it carries ``resolution``: limits outside of which the exact one cannot be; it is
    usually closer to them by some orders of magnitude.

    Leaves the site: see `cohortium.analysis.distribution`, for each variable by itself; then the
    sums of products of ranks for each pair of variables, and bounds of what they lack.
    What a node sees: edges of bins of at least `min_cell` persons, as round as they can be, how
    many persons are in each and whether they have the same value; the variance of the ranks.

    Refuses: fewer than `min_cell` persons, or of one institution alone: PolicyRefusal
    ``too-few-persons``, ``too-few-sites``; ``too-many-parameters``. Withheld: a pair with a
    variable of two values one of which fewer than `min_cell` persons have, a pair of such variables
    whose joint table has a cell of as few, and a pair of which one follows from the other.

    Reference: Spearman 1904; Bonett & Wright 2000.
    """

    name: ClassVar[str] = "stats.spearman"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = MAX_ROUNDS + 1
    params_type = SpearmanParams

    def variables(self, params: SpearmanParams) -> frozenset[str]:
        """Those that are correlated."""
        return frozenset(params.variables)

    def start(self, params: SpearmanParams, scope: Scope) -> State:
        """Begin with counts, and with sums where each site guards its own floor."""
        return Known.start(_question(params, scope), scope).to_state()

    def layout(self, state: State, params: SpearmanParams, scope: Scope) -> Layout:
        """See the class."""
        question = _question(params, scope)
        if is_bins(state):
            return Bins.from_state(state, question).layout()
        return Known.from_state(state, question).layout(question)

    def local(
        self, table: Table, state: State, params: SpearmanParams, scope: Scope
    ) -> Contribution:
        """See the class."""
        question = _question(params, scope)
        if not is_bins(state):
            return Known.from_state(state, question).local(table, question, scope)
        at = Bins.from_state(state, question)
        v = len(question.names)
        out: dict[str, Array] = {"products": np.zeros((v, v)), "slack": np.zeros((v, v))}
        groups, status = question.groups, at.counted.status
        for _, rows in parts(table, groups, status, scope, out={}, complete=question.names):
            ranks, doubt = [], []
            for name, bins in zip(question.names, at.bins, strict=True):
                found, error = bins.ranks(table.columns[name][rows])
                ranks.append(found - (at.counted.n + 1) / 2)
                doubt.append(error)
            a, e = np.stack(ranks), np.stack(doubt)
            cross = np.einsum("ik,jk->ij", e, np.abs(a))
            out["products"] += np.einsum("ik,jk->ij", a, a)
            out["slack"] += cross + cross.T + np.einsum("ik,jk->ij", e, e)
        return out

    def column(self, field: str, index: int, params: SpearmanParams, scope: Scope) -> str:
        """The variable, or the pair, of a component."""
        names = _question(params, scope).names
        if field == "sums":
            return names[index // 2 % len(names)]
        first, second = divmod(index, len(names))
        return " and ".join(dict.fromkeys((names[first], names[second % len(names)])))

    def finish(
        self, total: Total, state: State, params: SpearmanParams, scope: Scope
    ) -> Continue | Done:
        """Go on until the ranks are known, then correlate."""
        question = _question(params, scope)
        if is_bins(state):
            at = Bins.from_state(state, question)
            return Done(_assemble(at, total, params, scope))
        known = Known.from_state(state, question)
        next_one = known.advance(total, question, scope)
        if isinstance(next_one, Known):
            if next_one.held:
                require_room(next_one.n, len(question.names), scope.disclosure)
            return Continue(next_one.to_state(), **progress_of(next_one))
        return Continue(_bins(known, next_one, scope).to_state(), 0.8, "products of ranks")


def _question(params: SpearmanParams, scope: Scope) -> Question:
    names = params.variables
    if len(names) < 2 or len(set(names)) != len(names):
        raise InputError("bad-input", "A correlation is of two variables or more, each named once.")
    if len(names) > MOST_VARIABLES:
        raise InputError("bad-input", f"At most {MOST_VARIABLES} variables at once.")
    return Question.of(scope, names, None, least=1)


def _bins(known: Known, distributions: list[Distribution], scope: Scope) -> Bins:
    min_cell = scope.disclosure.min_cell
    n = known.n
    ties, least, two, few = [], [], [], []
    for of in distributions:
        persons = of.counts[:, 0]
        ties.append(tie_sum(of))
        least.append(0.0 if is_open(of) else ties[-1])
        two.append(len(persons) == 2)
        few.append(two[-1] and is_small(int(persons.min()), min_cell))
    every = float(n) ** 3 - n
    return Bins(
        counted=known.counted,
        bins=tuple(bins_of(of, min_cell) for of in distributions),
        squares=(every - np.array(ties)) / 12,
        most_squares=(every - np.array(least)) / 12,
        two=np.array(two, dtype=np.int64),
        few=np.array(few, dtype=np.int64),
    )


def _assemble(at: Bins, total: Total, params: SpearmanParams, scope: Scope) -> dict[str, Any]:
    names, v = params.variables, len(params.variables)
    products, slack = np.asarray(total["products"]), np.asarray(total["slack"])
    n = at.counted.n
    scale, most = (np.sqrt(np.outer(one, one)) for one in (at.squares, at.most_squares))
    with np.errstate(divide="ignore", invalid="ignore"):
        r = np.where(scale > 0, np.clip(products / scale, -1, 1), np.nan)
        low, high = (products - slack), (products + slack)
        low = np.clip(np.where(low > 0, low / most, low / scale), -1, 1)
        high = np.clip(np.where(high > 0, high / scale, high / most), -1, 1)
    off = ~np.eye(v, dtype=np.bool_)
    np.fill_diagonal(r, np.where(at.squares > 0, 1.0, np.nan))
    with np.errstate(invalid="ignore"):
        may_be = np.maximum(np.abs(low), np.abs(high))
        perfect = off & (np.abs(r) > NEARLY) & (1 - may_be**2 < FOLLOWS)
    few = _small_cells(at, products, scope.disclosure.min_cell)
    why = {
        "it would give away a value that too few persons have": few,
        "one follows from the other": perfect & ~few,
    }
    suppressed = [
        f"{' and '.join(dict.fromkeys((names[i], names[j])))}: {reason}"
        for reason, where in why.items()
        for i, j in np.argwhere(np.triu(where)).tolist()
    ]
    withheld = few | perfect
    if np.all(withheld | ~off):
        raise PolicyRefusal("too-few-persons", f"Nothing is left: {suppressed[0]}.")
    r = np.where(withheld, np.nan, r)
    shown = off & ~np.isnan(r)
    resolution = None
    if np.any(slack[shown] > 0) or np.any((at.most_squares > at.squares) & shown.any(axis=0)):
        ends = {"low": low, "high": high}
        resolution = {name: table(np.where(shown, end, np.nan)) for name, end in ends.items()}
    return {
        "title": "Spearman correlation",
        "method": "spearman",
        "variables": list(names),
        "given": [],
        "missing": "complete",
        "n": n,
        "n_pairs": np.full((v, v), n).tolist(),
        "n_missing": int(at.counted.left_out[0]),
        "n_sites": scope.n_sites,
        "correlation": table(r),
        "covariance": None,
        **inference(r, np.full((v, v), n), params.confidence, inflation=0.5),
        "resolution": resolution,
        "suppressed": suppressed,
    }


def _small_cells(at: Bins, products: Floats, min_cell: int) -> npt.NDArray[np.bool_]:
    """Which pairs give away how many persons, fewer than `min_cell`, have a value; shape (V, V)."""
    small = np.asarray(at.few, dtype=np.bool_)
    found = small[:, None] | small[None, :]
    n = at.counted.n
    for i, one in enumerate(at.bins):
        for j, other in enumerate(at.bins[:i]):
            if found[i, j] or not (at.two[i] and at.two[j]):
                continue
            # The ranks of two values are n / 2 apart, so that their product tells the joint table.
            upper, right = int(one.persons[1]), int(other.persons[1])
            both = round(float(4 * products[i, j] / n**2 + upper * right / n))
            cells = (both, upper - both, right - both, n - upper - right + both)
            found[i, j] |= any(is_small(cell, min_cell) for cell in cells)
            if nearly_equal(np.array(cells), min_cell):  # a third variable's pairs would tell
                found[i, :] = True
    return found | found.T
