"""What a hub can learn, alone and with colluding sites: the survivors' sum and nothing else."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare, pearsonr
from tests.support.secagg import Heard, Play, World, halves, words
from tests.support.secagg_adversary import Adversary

from cohortium.core.rounds import Contribution, FieldSpec, Layout
from cohortium.errors import CohortiumError
from cohortium.secagg.frame import Frame
from cohortium.secagg.messages import MaskedInput, SurvivorList, Unmasking
from cohortium.secagg.parties import Parties
from cohortium.secagg.party import PartyRound
from cohortium.secagg.survivors import statement
from cohortium.secagg.vector import add, check_word, decode

ODDS = 1e-6
"""Keys follow from labels, so that each p-value is the same at each run of the tests."""


def is_uniform(data: bytes) -> float:
    """The p-value of the hypothesis that the bytes are uniform (chi-square, 255 df)."""
    counts = np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256)
    return float(chisquare(counts).pvalue)


def bits_are_even(data: bytes, size: int) -> float:
    """The p-value for each bit of words of `size` bytes being 0 or 1 equally often."""
    bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8).reshape(-1, size), axis=1)
    ones = bits.sum(axis=0)
    return float(chisquare(np.stack([ones, len(bits) - ones]), axis=0).pvalue.min() * 8 * size)


def same(one: bytes, other: bytes) -> float:
    """The p-value of the hypothesis that two strings' bytes have one distribution."""
    table = np.stack(
        [np.bincount(np.frombuffer(data, dtype=np.uint8), minlength=256) for data in (one, other)]
    )
    return float(chi2_contingency(table[:, table.any(axis=0)]).pvalue)


# --- the distribution of what the hub hears ---------------------------------------------------

FIVE = ["a", "b", "c", "d", "e"]
LAYOUT: Layout = {
    "n": FieldSpec((4,), "count"),
    "x": FieldSpec((3,), "real"),
    "v": FieldSpec((16,), "vector"),
}
GONE: dict[str, Any] = {"nobody": {}, "one": {"without_input": ["e"]}}


def values(shift: Mapping[str, int]) -> dict[str, Contribution]:
    """Contributions that differ from a common one by multiples of 2^20 (counts) or halves."""
    return {
        site: {
            "n": np.arange(4) + (shift[site] << 20),
            "x": np.array([1e6, -0.25, 2.0**-30]) + shift[site] / 2,
            "v": (np.arange(16) + shift[site] / 2).astype(np.float32),
        }
        for site in FIVE
    }


ONE = dict(zip(FIVE, (0, 0, 0, 0, 0), strict=True))
OTHER = dict(zip(FIVE, (9, -3, -8, 2, 0), strict=True))
"""Of both, the four first sites' sum is the same, and that of all five."""


def play_once(label: str, shift: Mapping[str, int], gone: str) -> tuple[Play, Heard, Any]:
    play = Play(World(FIVE, label=label, min_sites=3), LAYOUT)
    _, total = play.round(values(shift), **GONE[gone])
    return play, play.rounds[0], total


def pieces(play: Play, heard: Heard) -> dict[str, bytes]:
    """What the hub heard in a round, and what it can make of it, short of the survivors' sum."""
    frame = Frame(LAYOUT, len(FIVE))
    digest = heard.binding.digest(
        LAYOUT, play.parties.roster.digest, play.parties.text(heard.active)
    )
    hub = Adversary(play, heard.keys, 1, [])
    for sender, answer in heard.unmaskings.items():
        hub.hear(sender, heard.survivors, answer.shares)
    out = {f"input {site}": vector for site, vector in heard.inputs.items()}
    running = bytearray(frame.n_bytes)
    for site in sorted(heard.inputs)[:-1]:
        add(frame, running, heard.inputs[site])
        out[f"running total with {site}"] = bytes(running)
    out["the total before it is unmasked"] = b""
    total = bytearray(frame.n_bytes)
    for vector in heard.inputs.values():
        add(frame, total, vector)
    out["the total before it is unmasked"] = bytes(total)
    for size in range(1, len(heard.inputs)):
        for sites in combinations(sorted(heard.inputs), size):
            chosen = {site: heard.inputs[site] for site in sites}
            out[f"{' + '.join(sites)} as far as opened"], left = hub.strip(
                frame, chosen, digest, heard.active
            )
            assert left
    for sender, keys in heard.keys.items():
        out[f"sealed by {sender}"] = b"".join(keys.sealed.values())
    for sender, answer in heard.unmaskings.items():
        # The first byte of a share is 0, but for one in 2^247.
        out[f"shares of {sender}"] = b"".join(share[1:] for share in answer.shares.values())
    return out


def over_many_runs(label: str, shift: Mapping[str, int], gone: str, runs: int) -> dict[str, bytes]:
    out: dict[str, list[bytes]] = {}
    for number in range(runs):
        play, heard, _ = play_once(f"{label} {number}", shift, gone)
        for name, data in pieces(play, heard).items():
            out.setdefault(name, []).append(data)
    return {name: b"".join(data) for name, data in out.items()}


@pytest.mark.parametrize("gone", GONE)
def test_what_the_hub_hears_is_uniform_and_the_same_for_all_contributions_with_one_sum(
    gone: str,
) -> None:
    """Of fixed contributions over many fresh runs; all but the sum itself."""
    one = over_many_runs("one", ONE, gone, 60)
    other = over_many_runs("other", OTHER, gone, 60)
    assert one.keys() == other.keys()
    for name in one:
        for data in (one[name], other[name]):
            assert is_uniform(data) > ODDS, name
            if not name.startswith("s"):
                assert bits_are_even(data, 8) > ODDS, name
        assert same(one[name], other[name]) > ODDS, name


def test_a_masked_word_says_nothing_of_what_it_hides() -> None:
    """Contributions drawn at random, their sum fixed: no correlation with any masked word."""
    layout: Layout = {"n": FieldSpec((200,), "count")}
    draw = np.random.default_rng(7)
    hidden: dict[str, list[Any]] = {site: [] for site in FIVE}
    seen: dict[str, list[Any]] = {site: [] for site in FIVE}
    for number in range(20):
        parts = draw.integers(-(2**57), 2**57, (4, 200))
        own = dict(zip(FIVE, [*parts, -parts.sum(axis=0)], strict=True))
        play = Play(World(FIVE, label=f"drawn {number}", min_sites=3), layout)
        _, total = play.round({site: {"n": n} for site, n in own.items()})
        assert not total["n"].any()
        for site in FIVE:
            hidden[site].append(own[site])
            seen[site].append(words(play.rounds[0].inputs[site])[1:].astype(np.int64))
    for site, other in product(FIVE, FIVE):
        x = np.concatenate(hidden[site]).astype(np.float64)
        y = np.concatenate(seen[other]).astype(np.float64)
        assert pearsonr(x, y).pvalue > ODDS
        assert pearsonr(np.abs(x), np.abs(y)).pvalue > ODDS


@pytest.mark.parametrize("gone", GONE)
def test_with_the_same_keys_nothing_but_the_masked_inputs_depends_on_the_contributions(
    gone: str,
) -> None:
    _, one, total = play_once("", ONE, gone)
    _, other, same_total = play_once("", OTHER, gone)
    assert {k: v.tobytes() for k, v in total.items()} == {
        k: v.tobytes() for k, v in same_total.items()
    }
    assert one.keys == other.keys
    assert one.signatures == other.signatures
    assert one.unmaskings == other.unmaskings
    assert one.inputs.keys() == other.inputs.keys()
    for site, vector in one.inputs.items():
        moved = words(other.inputs[site])[1:5] - words(vector)[1:5]
        assert moved.astype(np.int64).tolist() == [OTHER[site] << 20] * 4


# --- colluding sites --------------------------------------------------------------------------


def collude(play: Play, heard: Heard, corrupt: Collection[str]) -> Adversary:
    """The hub, having kept to the protocol, with the corrupt sites."""
    adversary = Adversary(play, heard.keys, heard.binding.round, corrupt)
    for sender, answer in heard.unmaskings.items():
        adversary.hear(sender, heard.survivors, answer.shares)
    return adversary


def check_secrecy(
    play: Play,
    heard: Heard,
    corrupt: Collection[str],
    contributions: Mapping[str, Contribution],
    *,
    most: int,
) -> None:
    """Each part of the honest survivors' inputs keeps a mask; all of them are their sum."""
    adversary = collude(play, heard, corrupt)
    frame = Frame(play.layout, len(play.world.sites))
    digest = heard.binding.digest(
        play.layout, play.parties.roster.digest, play.parties.text(heard.active)
    )
    honest = sorted(heard.survivors - adversary.corrupt)
    inputs = {site: heard.inputs[site] for site in honest}
    for site in sorted(play.parties.all - adversary.corrupt):
        assert len(adversary.open_of(site)) <= 1
    for size in range(1, min(len(honest), most)):
        for sites in combinations(honest, size) if size < most else [honest[:size]]:
            part = {site: inputs[site] for site in sites}
            rest, left = adversary.strip(frame, part, digest, heard.active)
            assert left
            # The masks that are left are between honest survivors, of whose secrets none is open
            # but the seed.
            assert all(
                mask <= heard.survivors - adversary.corrupt and len(mask) == 2 for mask in left
            )
            assert is_uniform(rest) > ODDS
    whole, left = adversary.strip(frame, inputs, digest, heard.active)
    assert not left
    assert check_word(frame, whole) == len(honest)
    total = decode(frame, whole)
    for name in play.layout:
        exact = sum(contributions[site][name] for site in honest)
        np.testing.assert_array_equal(total[name], exact)


@pytest.mark.parametrize(
    ("n", "corrupt", "gone"),
    [
        (4, 2, [[], ["s0"]]),
        (5, 3, [[], [], ["s4"]]),
        (7, 4, [[], ["s0"], ["s1"], []]),
        (7, 2, [["s0", "s1"], ["s5"]]),
        (10, 6, [["s0"], ["s1", "s2"], ["s3", "s9"]]),
    ],
)
def test_fewer_colluders_than_the_threshold_and_the_hub_lack_a_mask(
    n: int, corrupt: int, gone: list[list[str]]
) -> None:
    """The last sites collude, with what the hub heard in rounds with and without drop-outs.

    Where a single honest site survives, its input is what is left of the sum without the
    colluders' own: the least that the survivors must be is the contract's affair.
    """
    sites = [f"s{number}" for number in range(n)]
    layout: Layout = {"n": FieldSpec((4000,), "count")}
    play = Play(World(sites, min_sites=2), layout)
    assert corrupt < play.parties.threshold
    contributions: dict[str, Contribution] = {
        site: {"n": np.arange(4000) * (number + 1)} for number, site in enumerate(sites)
    }
    for absent in gone:
        play.round(contributions, without_input=absent)
    for heard in play.rounds:
        check_secrecy(play, heard, sites[n - corrupt :], contributions, most=n)


def test_so_it_is_with_the_neighbour_graph() -> None:
    """90 sites, 21 colluding and 8 others dropping: as many as the graph is made for together."""
    draw = random.Random(1)
    sites = [f"s{number:02}" for number in range(90)]
    layout: Layout = {"n": FieldSpec((500,), "count")}
    play = Play(World(sites), layout)
    assert not play.parties.complete
    corrupt = draw.sample(sites, 21)
    gone = draw.sample(sorted(set(sites) - set(corrupt)), 8)
    contributions: dict[str, Contribution] = {
        site: {"n": np.arange(500) + number} for number, site in enumerate(sites)
    }
    play.round(contributions, without_input=gone)
    check_secrecy(play, play.rounds[0], corrupt, contributions, most=2)


def test_the_input_of_a_site_that_was_given_up_arrives_too_late_to_be_read() -> None:
    """Its mask key was opened; its self-mask was not."""
    layout: Layout = {"n": FieldSpec((4000,), "count")}
    zeros: dict[str, Contribution] = {site: {"n": np.zeros(4000, dtype=int)} for site in FIVE}
    play = Play(World(FIVE, min_sites=3), layout)
    late = play.input("e", zeros["e"], FIVE).vector
    play.round(zeros, without_input=["e"])
    heard = play.rounds[0]
    adversary = collude(play, heard, ["a", "b"])
    assert adversary.open_of("e") == ["mask key"]
    digest = heard.binding.digest(layout, play.parties.roster.digest, play.parties.text(FIVE))
    rest, left = adversary.strip(Frame(layout, 5), {"e": bytes(late)}, digest, FIVE)
    assert left == {frozenset("e")}
    assert is_uniform(rest) > ODDS


def test_a_mask_key_that_was_opened_opens_no_other_round() -> None:
    play = Play(World(FIVE, min_sites=3), {"n": FieldSpec((), "count")})
    one: dict[str, Contribution] = {site: {"n": np.array(1)} for site in FIVE}
    play.round(one)
    play.round(one, without_input=["e"])
    play.round(one)
    opened = [collude(play, heard, ["a"]).secret("e", "mask key") for heard in play.rounds]
    assert opened[0] is None
    assert opened[1] is not None
    assert opened[2] is None
    assert len({heard.keys["e"].mask_key for heard in play.rounds}) == 3


# --- a hub that tells everyone something else -------------------------------------------------

Told = tuple[frozenset[str], frozenset[str]]
"""The parties of the round and the list of survivors, as a site is told."""


def all_told(parties: Parties, site: str) -> list[Told]:
    """Everything that a site may be told without refusing at once."""
    sets = [
        frozenset(chosen)
        for size in range(parties.threshold, len(parties.sites) + 1)
        for chosen in combinations(parties.sites, size)
        if site in chosen
    ]
    return [(active, survivors) for active in sets for survivors in sets if survivors <= active]


class LyingHub:
    """Five sites or so in their first round, and answers to all that they can be told."""

    def __init__(self, n: int, corrupt: int) -> None:
        sites = [f"s{number}" for number in range(n)]
        self.layout: Layout = {"n": FieldSpec((2,), "count")}
        self.play = Play(World(sites), self.layout)
        self.parties = self.play.parties
        self.corrupt = frozenset(sites[n - corrupt :])
        self.honest = sites[: n - corrupt]
        self.frame = Frame(self.layout, n)
        self.contributions: dict[str, Contribution] = {
            site: {"n": np.array([2**number, 3**number])} for number, site in enumerate(sites)
        }
        self._inputs: dict[tuple[str, frozenset[str]], bytes] = {}
        self._answers: dict[Any, Unmasking | None] = {}

    def digest(self, active: Collection[str]) -> str:
        return self.play.binding().digest(
            self.layout, self.parties.roster.digest, self.parties.text(active)
        )

    def input(self, site: str, active: frozenset[str]) -> bytes:
        if (site, active) not in self._inputs:
            message = self._begin(site, active)
            self._inputs[site, active] = bytes(message.vector)
        return self._inputs[site, active]

    def _begin(self, site: str, active: frozenset[str]) -> MaskedInput:
        return self.play.input(site, self.contributions[site], active)

    def answer(self, site: str, told: Told, signers: frozenset[str]) -> Unmasking | None:
        """A site's answer to a list with the signatures that `signers` gave it."""
        if (site, told, signers) not in self._answers:
            active, survivors = told
            text = statement(self.digest(active), survivors, self.parties)
            signatures = {s: self.play.world.signing[s].sign(text) for s in sorted(signers)}
            self._begin(site, active)
            try:
                answer = self.play.unmask(site, SurvivorList(1, survivors, signatures))
            except CohortiumError:
                answer = None
            self._answers[site, told, signers] = answer
        return self._answers[site, told, signers]

    def attack(self, told: Mapping[str, Told]) -> Adversary:
        """Tell each honest site its own, and put together what comes back."""
        adversary = Adversary(self.play, self.play.keys, 1, self.corrupt)
        for site, (active, survivors) in told.items():
            # Honest sites sign the one list that they are told, under the parties that they are
            # told, where they are asked in time; colluding ones sign everything.
            same = {other for other in told if told[other] == (active, survivors)}
            signers = frozenset((same | self.corrupt) & survivors)
            for some in {signers, frozenset[str]()}:
                answer = self.answer(site, (active, survivors), some)
                if answer is not None:
                    adversary.hear(site, survivors, answer.shares)
                    break
        return adversary

    def opened(self, told: Mapping[str, Told], adversary: Adversary) -> list[frozenset[str]]:
        """Sets of honest sites whose inputs' sum the adversary can read."""
        masks = {
            site: adversary.masks(site, self.digest(active), active)[1]
            for site, (active, _) in told.items()
        }
        parts, seen = list[frozenset[str]](), set[str]()
        for start in told:
            if start in seen:
                continue
            part, readable, todo = {start}, True, [start]
            while todo:
                site = todo.pop()
                for peer in masks[site]:
                    if peer == site or peer not in told or told[peer][0] != told[site][0]:
                        readable = False  # a self-mask, or a mask that nobody else adds
                    elif peer not in part:
                        part.add(peer)
                        todo.append(peer)
            seen |= part
            if readable:
                parts.append(frozenset(part))
        return parts

    def read(self, told: Mapping[str, Told], adversary: Adversary, part: frozenset[str]) -> Any:
        """The sum of a part."""
        (active,) = {told[site][0] for site in part}
        inputs = {site: self.input(site, active) for site in sorted(part)}
        whole, left = adversary.strip(self.frame, inputs, self.digest(active), active)
        assert not left
        assert check_word(self.frame, whole) == len(part)
        return decode(self.frame, whole)["n"]

    def is_broken_by(self, told: Mapping[str, Told]) -> bool:
        """Whether the adversary reads anything but one sum over one list of enough survivors."""
        adversary = self.attack(told)
        if any(len(adversary.open_of(site)) == 2 for site in self.honest):
            return True
        parts = self.opened(told, adversary)
        if not parts:
            return False
        lists = [survivors for _, survivors in told.values()]
        (part, *others) = parts
        return bool(others) or not any(
            part == survivors - self.corrupt and len(survivors) >= self.parties.fewest
            for survivors in lists
        )

    def everything(self) -> Iterable[dict[str, Told]]:
        """All that the hub can tell."""
        choices = [all_told(self.parties, site) for site in self.honest]
        for chosen in product(*choices):
            yield dict(zip(self.honest, chosen, strict=True))


@pytest.mark.parametrize(("n", "corrupt"), [(4, 0), (4, 1), (5, 2), (6, 3)])
def test_whatever_the_hub_tells_whom_one_sum_of_enough_survivors_opens_or_none(
    n: int, corrupt: int
) -> None:
    """Every choice of parties and survivors for every site; 2 t > n + colluders holds."""
    hub = LyingHub(n, corrupt)
    assert 2 * hub.parties.threshold > n + corrupt
    read = 0
    for told in hub.everything():
        assert not hub.is_broken_by(told), told
        adversary = hub.attack(told)
        for part in hub.opened(told, adversary):
            read += 1
            if read % 10 == 1:
                exact = sum(hub.contributions[site]["n"] for site in part)
                np.testing.assert_array_equal(hub.read(told, adversary, part), exact)
    assert read > 0


@pytest.mark.parametrize(("n", "corrupt"), [(4, 2), (5, 3)])
def test_with_more_colluders_than_the_threshold_bears_the_search_finds_a_way(
    n: int, corrupt: int
) -> None:
    hub = LyingHub(n, corrupt)
    assert 2 * hub.parties.threshold <= n + corrupt
    assert any(hub.is_broken_by(told) for told in hub.everything())


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([(5, 1), (7, 2), (8, 3)]), st.data())
def test_so_it_is_for_more_sites_of_which_groups_are_told_different_things(
    size: tuple[int, int], data: st.DataObject
) -> None:
    hub = hubs(*size)
    assert 2 * hub.parties.threshold > size[0] + size[1]
    least, sites = hub.parties.threshold, list(hub.parties.sites)
    subset = st.integers(least, len(sites)).flatmap(
        lambda count: st.permutations(sites).map(lambda order: frozenset(order[:count]))
    )
    groups = []
    for _ in range(data.draw(st.integers(1, 3))):
        active = data.draw(subset | st.just(frozenset(sites)))
        survivors = active & data.draw(subset | st.just(active))
        groups.append((active, survivors if len(survivors) >= least else active))
    everyone = (frozenset(sites), frozenset(sites))
    told = {}
    for site in hub.honest:
        chosen = data.draw(st.sampled_from(groups))
        told[site] = chosen if site in chosen[1] else everyone
    assert not hub.is_broken_by(told)


_hubs: dict[tuple[int, int], LyingHub] = {}


def hubs(n: int, corrupt: int) -> LyingHub:
    """One of each, for its answers are kept."""
    return _hubs.setdefault((n, corrupt), LyingHub(n, corrupt))


def ring_attack(play: Play) -> tuple[Adversary, list[str], frozenset[str], list[str]]:
    """A hub that tries to read the sum of one arc of the ring of SecAgg+.

    The arc's sites are told that those next to it do not take part, and are asked to unmask for
    their own set of parties. All others are told that everyone takes part, and that those a bit
    further along the ring dropped out, so that their mask keys are opened. Colluding sites fill the
    gaps. Where sites answered for their own set without the committee's signatures, this worked.

    Returns the adversary, the arc, its parties, and the codes of what was refused.
    """
    parties, world = play.parties, play.world
    graph = parties._graph
    half, threshold = graph.neighbours.k // 2, parties.threshold
    spare = 2 * half + 1 - threshold
    gap = half - spare - spare // 2  # colluders that are needed on either side
    length = 2 * half + 1 - spare
    first = 2 * half + 1 + half  # the committee is at the ring's beginning

    def place(at: int) -> str:
        return parties.sites[graph.neighbours.order[at % len(parties.sites)]]

    arc = [place(first + at) for at in range(length)]
    absent, dropped, corrupt = set[str](), set[str](), set[str]()
    for start, step in ((first + length, 1), (first - 1, -1)):
        side = [place(start + step * at) for at in range(half)]
        near = half - spare // 2 - gap
        absent |= set(side[:near])
        corrupt |= set(side[near : near + gap])
        dropped |= set(side[near + gap :])
    everyone = parties.all
    told = everyone - absent
    left = everyone - dropped
    assert len(told) >= parties.fewest
    assert len(left) >= parties.fewest

    adversary = Adversary(play, play.keys, 1, corrupt)
    refused = list[str]()

    def digest(active: Collection[str]) -> str:
        return play.binding().digest(play.layout, parties.roster.digest, parties.text(active))

    def signed(active: frozenset[str], survivors: frozenset[str], by: set[str]) -> SurvivorList:
        text = statement(digest(active), survivors, parties)
        signers = sorted(by & parties.committee & survivors)
        return SurvivorList(1, survivors, {s: world.signing[s].sign(text) for s in signers})

    def ask(sites: Collection[str], active: frozenset[str], message: SurvivorList) -> None:
        for site in sorted(sites):
            # Of other parties' secrets this attack needs no shares.
            wanted = parties.neighbours(site) & (dropped | set(arc)) & active
            received = {peer: play.keys[peer].to(site) for peer in sorted(wanted)}
            memory = PartyRound(1, digest(active), active, received)
            try:
                _, answer = play.party(site).unmask(memory, message)
            except CohortiumError as error:
                refused.append(error.code)
            else:
                adversary.hear(site, message.survivors, answer.shares)

    honest = everyone - corrupt
    ask(arc, told, signed(told, told, set(arc) | corrupt))
    ask(dropped, everyone, signed(everyone, everyone, set(everyone) - set(arc)))
    ask(honest - set(arc) - dropped, everyone, signed(everyone, left, set(left) - set(arc)))
    return adversary, arc, told, refused


@pytest.mark.parametrize("checked", [True, False])
def test_no_part_of_the_ring_is_read_by_naming_other_parties_to_it(
    checked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not checked:
        monkeypatch.setattr("cohortium.secagg.party.check_signatures", lambda *_: None)
    sites = [f"s{number:03}" for number in range(200)]
    layout: Layout = {"n": FieldSpec((2,), "count")}
    play = Play(World(sites), layout)
    adversary, arc, told, refused = ring_attack(play)
    inputs = {
        site: bytes(play.input(site, {"n": np.array([number, 1])}, told).vector)
        for number, site in enumerate(arc)
    }
    digest = play.binding().digest(layout, play.parties.roster.digest, play.parties.text(told))
    frame = Frame(layout, len(sites))
    rest, left = adversary.strip(frame, inputs, digest, told)
    if checked:
        assert refused == ["too-few-sites"] * len(arc)
        assert left
    else:
        assert not left
        assert check_word(frame, rest) == len(arc) < play.parties.fewest
        assert decode(frame, rest)["n"].tolist() == [sum(range(len(arc))), len(arc)]


# --- one site, whatever it is asked ---------------------------------------------------------------

lists = st.frozensets(st.sampled_from(FIVE), min_size=3).map(lambda some: some | {"b", "c", "d"})


@st.composite
def questions(draw: st.DrawFn) -> tuple[str, SurvivorList]:
    """Step 3 or 4 for a list, with signatures that mostly hold."""
    survivors = draw(lists)
    signed = draw(st.just(survivors) | lists)
    parties = SEVERAL.parties
    active = draw(st.sampled_from([ACTIVE, parties.all]))
    digest = SEVERAL.binding().digest(LAYOUT, parties.roster.digest, parties.text(active))
    text = statement(digest, signed, parties)
    signers = draw(st.just(survivors) | lists)
    signatures = {site: SEVERAL.world.signing[site].sign(text) for site in sorted(signers)}
    number = draw(st.sampled_from([1, 1, 1, 2]))
    step = draw(st.sampled_from(["sign", "unmask", "unmask", "input"]))
    return step, SurvivorList(number, survivors, signatures if draw(st.booleans()) else {})


SEVERAL = Play(World(FIVE, min_sites=3), LAYOUT)
ACTIVE = SEVERAL.parties.all
EQUAL = values(ONE)


@settings(deadline=None, max_examples=120)
@given(st.lists(questions(), min_size=2, max_size=8), st.booleans())
def test_a_site_opens_one_kind_of_share_for_one_list_whatever_it_is_asked(
    asked: Sequence[tuple[str, SurvivorList]], restarts: bool
) -> None:
    play = Play(SEVERAL.world, LAYOUT, restarts=restarts)
    play.input("a", EQUAL["a"], FIVE)
    answered, opened = set[frozenset[str]](), dict[str, set[bytes]]()
    for step, message in asked:
        before = play.memory("a")
        try:
            if step == "input":
                play.input("a", EQUAL["a"], FIVE)
            elif step == "sign":
                play.sign("a", message)
                answered.add(message.survivors)
            else:
                for owner, share in play.unmask("a", message).shares.items():
                    opened.setdefault(owner, set()).add(share)
                    alive = owner in message.survivors
                    assert share == halves(play, owner, "a")[1 if alive else 0]
                answered.add(message.survivors)
        except CohortiumError:
            assert play.memory("a") == before
        if before.agreed is not None:
            assert play.memory("a").agreed == before.agreed
    assert len(answered) <= 1
    assert all(len(shares) == 1 for shares in opened.values())
    assert all("a" in survivors and len(survivors) >= 4 for survivors in answered)
    if opened:
        assert opened.keys() == set(FIVE)
        assert opened["a"] == {halves(play, "a", "a")[1]}
