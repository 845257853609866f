"""The round before a computation in which sites compare its persons with those of earlier results.

`Screened` puts it in front of any analysis. The list of earlier sets is the state of that round;
what came of it travels to the sites in the next one, so that each decides for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple, Protocol, cast

import numpy as np
import numpy.typing as npt

from cohortium.analysis.grouped import Groups
from cohortium.analysis.interface import (
    AnyAnalysis,
    Continue,
    Contribution,
    Done,
    FieldSpec,
    Layout,
    Params,
    Partitions,
    ReadsCriteria,
    RoundsCounts,
    Scope,
    Splits,
    State,
    Total,
)
from cohortium.analysis.untrusted import ints
from cohortium.cohort.population import Population
from cohortium.core.canonical import canonical, digest_bytes
from cohortium.core.table import Table
from cohortium.disclosure.differencing import (
    MAX_COMPARISONS,
    Bools,
    Comparison,
    Ints,
    Split,
    compare_parts,
    refusal,
    too_close,
)
from cohortium.errors import PolicyRefusal, ProtocolError

SCREENING: Final = "screening"
VIEW: Final = "screen_view"
SCREENED: Final = "screened"
PERSONS: Final = "persons"

MAX_PARTS: Final = 2000
MAX_EARLIER: Final = 10_000
MAX_MIN_CELL: Final = 1000
"""A site whose own minimum is larger may go beyond it."""

Codes = npt.NDArray[np.integer]


class Release(NamedTuple):
    """What is known of an earlier release where it was not made.

    Attributes:
        key: See `set_key`.
        n_sets: How many sets it has.
        kept: See `Split.kept`.
    """

    key: str
    n_sets: int
    kept: int = 0


Earlier = tuple[Release, ...]


@dataclass(frozen=True)
class Screen:
    """What a run is compared with.

    Attributes:
        min_cell: Of the strictest site.
        earlier: Each earlier release that any site remembers, sorted.
    """

    min_cell: int
    earlier: Earlier

    @staticmethod
    def over(min_cells: Sequence[int], lists: Iterable[Iterable[Release]]) -> Screen:
        """From what each site remembers.

        Raises:
            ProtocolError: ``malformed-message`` where sites contradict each other.
        """
        joint = {release for one in lists for release in one}
        if len({release.key for release in joint}) != len(joint):
            raise ProtocolError(
                "malformed-message", "Sites disagree on the parts of an earlier result."
            )
        return Screen(max(min_cells), tuple(sorted(joint)))

    def to_state(self) -> State:
        """As the hub sends it in the round."""
        earlier = [list(release) for release in self.earlier]
        return State({SCREENING: {"min_cell": self.min_cell, "earlier": earlier}})

    @staticmethod
    def from_state(state: State) -> Screen | None:
        """Read an untrusted state; None where it is not of a screening round.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        if SCREENING not in state.values:
            return None
        body = state.values[SCREENING]
        earlier = body.get("earlier") if isinstance(body, dict) else None
        if not isinstance(earlier, list) or not 0 < len(earlier) <= MAX_EARLIER:
            raise _malformed()
        releases: list[Release] = []
        for item in earlier:
            if not isinstance(item, list) or len(item) != 3:
                raise _malformed()
            key, n_sets, kept = item
            if not isinstance(key, str) or not _whole_number(n_sets, MAX_COMPARISONS):
                raise _malformed()
            if kept != 0 and not _whole_number(kept, n_sets - 1):
                raise _malformed()
            releases.append(Release(key, n_sets, int(kept)))
        if not _whole_number(body.get("min_cell"), 1_000_000):
            raise _malformed()
        screen = Screen(body["min_cell"], tuple(releases))
        if (
            len({one.key for one in releases}) != len(releases)
            or screen.to_state().digest != state.digest
        ):
            raise _malformed()
        return screen

    def require_fit(self, split: Split) -> None:
        """Refuse where there is too much to compare.

        Raises:
            PolicyRefusal: ``differencing``.
        """
        if _size(self, split) > MAX_COMPARISONS:
            raise PolicyRefusal(
                "differencing",
                "This computation tells of so many parts of the cohort that they cannot be "
                "compared with those of the study's earlier results. Ask for fewer levels or "
                "criteria at once.",
            )

    def choose(self, numbers: Ints, split: Split, least: int) -> int | None:
        """The best view of the split that may be released, from the sites' total; None: none."""
        n_new, at = len(split.sets), 0
        alike: dict[tuple[int, int], list[Ints]] = {}
        for _, n_earlier, kept in self.earlier:
            size = Comparison.size(n_new, n_earlier)
            alike.setdefault((n_earlier, kept), []).append(numbers[at : at + size])
            at += size
        comparisons = [
            (Comparison.of_flat(np.stack(rows), n_new, n_earlier), kept)
            for (n_earlier, kept), rows in alike.items()
        ]
        for view, sets in enumerate(split.views):
            if not any(
                too_close(
                    one.among(sets),
                    min_cell=self.min_cell,
                    least=least,
                    kept=split.kept,
                    kept_earlier=kept,
                )
                for one, kept in comparisons
            ):
                return view
        return None


class OwnSets(Protocol):
    """What a site brings to the round."""

    def joint(self, parts: Codes, n_parts: int, earlier: Earlier) -> Iterable[tuple[Ints, Bools]]:
        """The cohort's persons with those of each earlier release.

        Args:
            parts: Of each person of the cohort, as `parts_of` gives them.
            earlier: The releases; nobody here is in those that the site does not remember.

        Returns:
            `joint_counts`, and the earlier release's sets, for each release.
        """
        ...


class Screened:
    """An analysis with the round in front of it, or as it goes on where none is needed.

    Null hypothesis and assumptions are the inner analysis's.

    Leaves the site in the first round, summed under masks: for each earlier set of persons and each
    set that this computation will tell of, how many of the site's persons are in the one and not in
    the other, each way, and in each of them; no number above `min_cell`.

    Refuses: where the total says that an earlier set is too close; see
    `disclosure.differencing.too_close`: PolicyRefusal ``differencing``.

    Args:
        screen: What to compare with; None: nothing.
        view: What may be released, where nothing is compared.
        own: At a site.
    """

    def __init__(
        self,
        inner: AnyAnalysis,
        screen: Screen | None,
        *,
        view: int = 0,
        own: OwnSets | None = None,
    ) -> None:
        self.inner = inner
        self.screen = screen
        self.view = view
        self.own = own
        self.name = inner.name
        self.version = inner.version
        self.params_type = inner.params_type
        self.max_rounds = inner.max_rounds + (screen is not None)
        # A site that was not compared cannot join later.
        self.drop_outs = inner.drop_outs if screen is None else "wait"

    def variables(self, params: Params) -> frozenset[str]:
        """See `Analysis`."""
        return self.inner.variables(params)

    def start(self, params: Params, scope: Scope) -> State:
        """The list of earlier sets, or the inner analysis's first state."""
        narrow = narrowed(self.inner, params, self.view)
        if self.screen is None:
            return _marked(self.inner.start(narrow, scope), self.view)
        self.inner.start(narrow, scope)  # what it has to say about its parameters comes first
        self.screen.require_fit(split_of(self.inner, params, scope))
        return self.screen.to_state()

    def layout(self, state: State, params: Params, scope: Scope) -> Layout:
        """See the class."""
        screen = Screen.from_state(state)
        if screen is not None:
            screen.require_fit(split := split_of(self.inner, params, scope))
            return {PERSONS: FieldSpec((_size(screen, split),), "count")}
        inner, view = _unmarked(state)
        return self.inner.layout(inner, narrowed(self.inner, params, view), scope)

    def local(self, table: Table, state: State, params: Params, scope: Scope) -> Contribution:
        """See the class."""
        screen = Screen.from_state(state)
        if screen is None:
            inner, view = _unmarked(state)
            return self.inner.local(table, inner, narrowed(self.inner, params, view), scope)
        if self.own is None:
            raise RuntimeError("the round that compares needs the site's memory")
        split = split_of(self.inner, params, scope)
        parts = parts_of(self.inner, table, params, scope)
        limits = scope.disclosure
        own_floor = limits.min_cell if limits.floor == "site" else None
        numbers = [
            compare_parts(joint, split.sets, sets, clip=screen.min_cell, own_floor=own_floor).flat()
            for joint, sets in self.own.joint(parts, split.parts, screen.earlier)
        ]
        return {PERSONS: np.concatenate(numbers)}

    def finish(self, total: Total, state: State, params: Params, scope: Scope) -> Continue | Done:
        """Refuse, or go on with what may be released."""
        screen = Screen.from_state(state)
        if screen is not None:
            numbers = np.minimum(np.asarray(total[PERSONS], dtype=np.int64), screen.min_cell)
            state = second_state(self.inner, screen, numbers, params, scope)
            return Continue(state, 0.05, "compared with earlier results")
        inner, view = _unmarked(state)
        outcome = self.inner.finish(total, inner, narrowed(self.inner, params, view), scope)
        if isinstance(outcome, Done):
            return outcome
        return replace(outcome, state=_marked(outcome.state, view))


def screened(
    inner: AnyAnalysis,
    screen: Screen | None,
    *,
    view: int = 0,
    own: OwnSets | None = None,
) -> AnyAnalysis:
    """`Screened`, as an analysis like any other."""
    wrapped = Screened(inner, screen, view=view, own=own)
    return cast("AnyAnalysis", wrapped)


def second_state(
    inner: AnyAnalysis,
    screen: Screen,
    numbers: Ints,
    params: Params,
    scope: Scope,
) -> State:
    """The state that follows the comparison, which it carries: every site decides from it.

    Raises:
        PolicyRefusal: ``differencing``.
    """
    split = split_of(inner, params, scope)
    view = screen.choose(numbers, split, scope.disclosure.min_cell)
    if view is None:
        raise refusal(screen.min_cell)
    state = _marked(inner.start(narrowed(inner, params, view), scope), view)
    return State(state.values, {**state.arrays, SCREENED: numbers})


def compared(
    state: State, inner: AnyAnalysis, screen: Screen, params: Params, scope: Scope
) -> State:
    """What `second_state` makes of the numbers that an untrusted state carries.

    Raises:
        PolicyRefusal: ``differencing``.
        ProtocolError: ``malformed-message``.
    """
    numbers = ints(state, SCREENED, (_size(screen, split_of(inner, params, scope)),))
    if numbers.size and not 0 <= int(numbers.min()) <= int(numbers.max()) <= screen.min_cell:
        raise _malformed()
    return second_state(inner, screen, numbers, params, scope)


def view_of(state: State) -> int:
    """Which view of its split a state's round releases.

    Raises:
        ProtocolError: ``malformed-message``.
    """
    view = state.values.get(VIEW, 0)
    if VIEW in state.values and not _whole_number(view, 100):
        raise _malformed()
    return int(view)


def only_rounded(inner: AnyAnalysis, params: Params, min_cell: int) -> bool:
    """Whether all that is released is counts rounded to a base of at least `min_cell`."""
    if not isinstance(inner, RoundsCounts):
        return False
    base = inner.rounding(params)
    return base is not None and base >= min_cell


def narrowed(inner: AnyAnalysis, params: Params, view: int) -> Params:
    """The parameters with which the analysis releases one view of its split."""
    if view == 0:
        return params
    if not isinstance(inner, Splits):
        raise _malformed()
    narrow: Params = inner.narrowed(params, view)
    return narrow


def split_of(inner: AnyAnalysis, params: Params, scope: Scope) -> Split:
    """Which sets of persons a computation tells of.

    Raises:
        PolicyRefusal: ``differencing`` where they are too many to be remembered.
    """
    if isinstance(inner, Splits):
        return inner.split(params, scope)
    groups = _partition(inner, params, scope)
    if len(groups) > MAX_PARTS:
        raise PolicyRefusal(
            "differencing",
            f"A table of {len(groups)} cells cannot be compared with later ones; ask for fewer "
            "levels.",
        )
    return Split.into(tuple(map(len, groups.levels))) if groups.by else Split.whole()


def parts_of(inner: AnyAnalysis, table: Table, params: Params, scope: Scope) -> Codes:
    """The part of each person of the cohort."""
    if isinstance(inner, Splits):
        return inner.parts(table, params, scope)
    groups = _partition(inner, params, scope)
    codes = groups.codes(table)
    return np.where(codes < 0, np.int32(len(groups)), codes)


def set_key(
    inner: AnyAnalysis,
    params: Params,
    scope: Scope,
    *,
    contract: str,
    population: Population,
    view: int,
) -> str:
    """The name of what is released: the same at hub and sites, and for every computation on it.

    Args:
        contract: Its digest, which fixes data, variables and own criteria.
        population: Whose parts they are.
    """
    persons = population.persons_key
    if isinstance(inner, Splits):
        split = inner.split_key(params, scope)
        if not isinstance(inner, ReadsCriteria) and {*inner.variables(params)} & {
            *population.derivations
        }:
            persons = population.key
    else:
        groups = _partition(inner, params, scope)
        split = [[v.name, *levels] for v, levels in zip(groups.by, groups.levels, strict=True)]
        made = {*population.derivations, *population.fills}
        if any(v.name in made for v in groups.by):
            persons = population.key
    body = {"contract": contract, "persons": persons, "split": split, "view": view}
    return digest_bytes(canonical(body))


def _partition(inner: AnyAnalysis, params: Params, scope: Scope) -> Groups:
    names = inner.partition(params, scope) if isinstance(inner, Partitions) else ()
    return Groups.of(scope, *sorted({*names, *scope.chosen}))


def _marked(state: State, view: int) -> State:
    return State({**state.values, VIEW: view}, state.arrays) if view else state


def _unmarked(state: State) -> tuple[State, int]:
    view = view_of(state)
    if VIEW not in state.values and SCREENED not in state.arrays:
        return state, view
    values = {name: value for name, value in state.values.items() if name != VIEW}
    arrays = {name: array for name, array in state.arrays.items() if name != SCREENED}
    return State(values, arrays), view


def _size(screen: Screen, split: Split) -> int:
    return sum(Comparison.size(len(split.sets), one.n_sets) for one in screen.earlier)


def _whole_number(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _malformed() -> ProtocolError:
    return ProtocolError("malformed-message", "The state of a comparison is not as agreed.")
