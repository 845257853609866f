"""The secure sum as a whole: the exact sum of the survivors' encodings, or a refusal."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.support.secagg import BINDING, Play, World, aggregate

from cohortium.core.canonical import digest
from cohortium.core.rounds import Array, Contribution, FieldKind, FieldSpec, Layout, Total
from cohortium.errors import CohortiumError, ConflictError, ProtocolError
from cohortium.secagg.frame import Frame
from cohortium.secagg.keys import derive, public_key
from cohortium.secagg.ring import ring_for
from cohortium.secagg.vector import add, check_word, decode, encode_masked

names = st.text(st.characters(categories=("L", "N")), min_size=1, max_size=8)
kinds: st.SearchStrategy[FieldKind] = st.sampled_from(["count", "real", "vector"])
shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)
specs = st.builds(FieldSpec, shapes, kinds, st.floats(2.0**-64, 2.0**64))
layouts = st.dictionaries(names, specs, max_size=4)

Step = Literal["keys", "input", "signature", "shares"]
STEPS: tuple[Step, ...] = ("keys", "input", "signature", "shares")
Absent = Mapping[Step, frozenset[str]]


def contributions(layout: Layout, sites: Collection[str], seed: int) -> dict[str, Contribution]:
    """Values over the whole range that each site may contribute, the ends among them."""
    n_sites, draw = len(sites), np.random.default_rng(seed)
    out: dict[str, Contribution] = {}
    for site in sorted(sites):
        own: dict[str, Array] = {}
        for name, spec in layout.items():
            flat: Array
            if spec.kind == "count":
                most = (2**63 - 1) // n_sites
                flat = draw.integers(-most, most, spec.size, endpoint=True)
                ends = np.array([-most, most, 0, 1, -1])
            else:
                largest = ring_for(spec, n_sites).largest(n_sites)
                scales = 2.0 ** -draw.integers(0, 200, spec.size)
                flat = draw.uniform(-1, 1, spec.size) * scales * largest
                ends = np.array([-largest, largest, 0.0, -0.0, 2.0**-128])
            where = draw.integers(4, size=spec.size) == 0
            flat[where] = draw.choice(ends, where.sum())
            own[name] = flat.reshape(spec.shape)
        out[site] = own
    return out


def check_sum(
    play: Play,
    total: Total,
    values: Mapping[str, Contribution],
    *,
    by_integers: bool = True,
) -> None:
    """The total of the last round is that of its survivors: byte by byte by their encodings."""
    n_sites, layout, heard = len(play.world.sites), play.layout, play.rounds[-1]
    active, survivors = heard.active, heard.survivors
    assert set(total) == set(layout)
    name = heard.binding.digest(layout, play.parties.roster.digest, play.parties.text(active))
    frame = Frame(layout, n_sites)
    plain = bytearray(frame.n_bytes)
    for site in survivors:
        dither = derive(play.world.secrets[site], "rounding", name)
        add(frame, plain, encode_masked(frame, values[site], [], dither=dither))
    assert check_word(frame, plain) == len(survivors)
    expected = decode(frame, plain)
    for field, spec in layout.items():
        assert total[field].tobytes() == expected[field].tobytes()
        assert total[field].shape == spec.shape
        if not by_integers:
            continue
        found = total[field].reshape(-1).tolist()
        columns = zip(*(values[s][field].reshape(-1).tolist() for s in survivors), strict=True)
        for element, column in zip(found, columns, strict=True):
            if spec.kind == "count":
                assert element == sum(column)
            elif spec.kind == "real":
                units = sum(round(Fraction(value) * 2**128) for value in column)
                assert element == float(Fraction(units, 2**128))
            else:
                exact = sum(map(Fraction, column), Fraction())
                unit = 1 / Fraction(2) ** ring_for(spec, n_sites).fraction_bits
                assert abs(Fraction(element) - exact) <= n_sites * unit + abs(exact) / 2**23


@dataclass(frozen=True)
class Plan:
    """A run: who is absent from which step of each round, in which order messages arrive."""

    sites: list[str]
    min_sites: int
    layout: Layout
    rounds: list[Absent]
    restarts: bool
    seed: int

    def play(self) -> Play:
        shuffle = random.Random(self.seed)

        def order(sites: Collection[str]) -> list[str]:
            return shuffle.sample(sorted(sites), len(sites))

        world = World(self.sites, min_sites=self.min_sites)
        return Play(world, self.layout, restarts=self.restarts, order=order)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    n = draw(st.sampled_from([2, 3, 4, 4, 5, 5, 6, 7, 8, 9, 10, 11, 12]))
    sites = draw(st.lists(names, min_size=n, max_size=n, unique=True))
    spare = n - (2 * n // 3 + 1)
    rounds: list[Absent] = []
    for _ in range(draw(st.integers(1, 3))):
        gone = draw(st.permutations(sites))
        # Often nobody or as many as may be missing, sometimes one more.
        sizes = st.sampled_from([0, 0, 0, 0, 1, spare, spare + 1])
        rounds.append({step: frozenset(gone[: draw(sizes)]) for step in STEPS})
        if draw(st.booleans()):  # others at each step
            rounds[-1] = {
                step: frozenset(draw(st.permutations(sites))[: len(some)])
                for step, some in rounds[-1].items()
            }
    return Plan(
        sites,
        draw(st.sampled_from([2, 3, n - 1, n])) if n > 3 else 2,
        draw(layouts),
        rounds,
        draw(st.booleans()),
        draw(st.integers(0, 2**32 - 1)),
    )


def outcome(play: Play, absent: Absent) -> frozenset[str] | None:
    """Who survives a round by the protocol's rules where all are neighbours; None: nobody."""
    parties, none = play.parties, frozenset[str]()
    gone = absent.get("keys", none)
    active = parties.all - gone
    gone |= absent.get("input", none)
    inputs = parties.all - gone
    if not parties.recoverable:
        return parties.all if inputs == parties.all else None
    least = [len(active), len(inputs)]
    if inputs != active:
        gone |= absent.get("signature", none)
        least.append(len(parties.all - gone))
    least.append(len(parties.all - gone - absent.get("shares", none)))
    return inputs if min(least) >= parties.threshold else None


def run(plan: Plan) -> None:
    play = plan.play()
    for number, absent in enumerate(plan.rounds, 1):
        values = contributions(plan.layout, plan.sites, plan.seed + number)
        gone: dict[str, Any] = {f"without_{step}": sites for step, sites in absent.items()}
        expected = outcome(play, absent)
        if expected is not None:
            survivors, total = play.round(values, **gone)
            assert survivors == expected
        else:
            with pytest.raises(CohortiumError) as caught:
                play.round(values, **gone)
            assert caught.value.code in {"too-few-sites", "round-burnt", "roster-mismatch"}
            # All are back. Those who had agreed on survivors keep to them.
            active = play.parties.all - absent.get("keys", frozenset())
            without = play.parties.all - active
            if len(active) < play.parties.fewest:
                without, active = frozenset(), play.parties.all
            agreed = play.agreed()
            if agreed is not None and agreed < active:
                with pytest.raises(ConflictError) as conflict:
                    play.round(values, without_keys=without)
                assert conflict.value.code == "other-survivors"
                assert conflict.value.details == {"survivors": sorted(agreed)}
            survivors, total = play.round(values, without_keys=without, asked=agreed)
            assert survivors == (agreed or active)
        check_sum(play, total, values)
        assert play.number == number + 1


@settings(deadline=None, max_examples=150)
@given(plans())
def test_whoever_drops_when_the_total_is_the_exact_sum_of_the_survivors_or_a_refusal(
    plan: Plan,
) -> None:
    """Sites drop and return, are restarted, and answer in any order, over several rounds."""
    run(plan)


@pytest.mark.parametrize(("n", "seed"), [(65, 1), (90, 2), (90, 3)])
def test_so_it_is_with_many_parties(n: int, seed: int) -> None:
    """65 parties are all neighbours, 90 have the neighbour graph of SecAgg+."""
    draw = random.Random(seed)
    sites = [f"s{number:02}" for number in range(n)]
    layout: Layout = {"n": FieldSpec((2,), "count"), "x": FieldSpec((3,), "vector")}
    play = Plan(sites, 3, layout, [], False, seed).play()
    assert play.parties.complete is (n == 65)
    spare = n - max(play.parties.fewest, play.parties.threshold)
    for number in (1, 2):
        values = contributions(layout, sites, seed + number)
        gone = draw.sample(sites, draw.randint(1, spare)) if number == 2 else []
        cut = draw.randint(0, len(gone))
        survivors, total = play.round(values, without_input=gone[:cut], without_shares=gone[cut:])
        assert survivors == set(sites) - set(gone[:cut])
        check_sum(play, total, values)


def test_too_many_drop_outs_of_many_end_in_a_refusal() -> None:
    sites = [f"s{number:02}" for number in range(90)]
    layout: Layout = {"n": FieldSpec((), "count")}
    play = Plan(sites, 3, layout, [], False, 0).play()
    values = contributions(layout, sites, 0)
    with pytest.raises(CohortiumError) as caught:
        play.round(values, without_input=sites[:30])
    assert caught.value.code == "too-few-sites"


@settings(deadline=None, max_examples=8)
@example(1_000_000, "vector", 4)
@example(1_000_000, "count", 4)
@example(0, "real", 5)
@given(st.integers(0, 1_000_000), kinds, st.integers(2, 6))
def test_vectors_of_any_length_are_summed_with_and_without_drop_outs(
    n: int, kind: FieldKind, n_sites: int
) -> None:
    size = n // 8 if kind == "real" else n
    layout: Layout = {"x": FieldSpec((size,), kind)}
    sites = [f"s{number}" for number in range(n_sites)]
    play = Play(World(sites), layout)
    values = contributions(layout, sites, n)
    for gone in ([], sites[1:2]):
        if gone and not play.parties.recoverable:
            break
        survivors, total = play.round(values, without_input=gone)
        assert survivors == set(sites) - set(gone)
        check_sum(play, total, values, by_integers=False)


# --- sites that were told different things --------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(
    st.lists(names, min_size=2, max_size=6, unique=True),
    layouts,
    st.sampled_from(["state", "round", "roster"]),
    st.data(),
)
def test_one_site_that_was_told_something_else_is_noticed(
    sites: list[str], layout: Layout, lie: str, data: st.DataObject
) -> None:
    world = World(sites, min_sites=len(sites))
    values = contributions(layout, sites, 0)
    masked = world.mask_all(layout, values)
    roster = world.roster()
    site = data.draw(st.sampled_from(sites))
    binding, told = BINDING, roster
    if lie == "state":
        binding = replace(BINDING, state_digest=digest("lie"))
    elif lie == "round":
        binding = replace(BINDING, round=data.draw(st.integers(2, 1000)))
    else:
        other = data.draw(st.sampled_from([s for s in sites if s != site]))
        told = replace(roster, keys={**roster.keys, other: public_key(bytes(32))})
    masked[site] = world.mask(site, layout, values[site], binding, told)
    with pytest.raises(ProtocolError) as caught:
        aggregate(masked, roster, BINDING, layout)
    assert caught.value.code == "masks-do-not-cancel"


@settings(deadline=None, max_examples=60)
@given(st.integers(4, 9), layouts, st.booleans(), st.sampled_from(["state", "parties"]))
def test_so_it_is_where_sites_may_drop(n: int, layout: Layout, drops: bool, lie: str) -> None:
    sites = [f"s{number}" for number in range(n)]
    play = Play(World(sites), layout)
    if lie == "state":
        other = replace(play.binding(), state_digest=digest("lie"))
        play.told = {sites[0]: (other, sites)}
    else:
        play.told = {sites[0]: (play.binding(), sites[:-1])}
    with pytest.raises(CohortiumError) as caught:
        play.round(contributions(layout, sites, 0), without_input=sites[1:2] if drops else [])
    assert caught.value.code in {"masks-do-not-cancel", "bad-signature", "roster-mismatch"}


@given(st.binary(max_size=64), st.binary(max_size=64))
def test_garbage_vectors_are_refused(one: bytes, two: bytes) -> None:
    world = World(["a", "b"])
    layout: Layout = {"x": FieldSpec((1,), "real")}
    with pytest.raises(ProtocolError):
        aggregate({"a": one, "b": two}, world.roster(), BINDING, layout)
