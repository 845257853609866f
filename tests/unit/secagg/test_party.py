from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from tests.support.secagg import BINDING, World, seed, words

from cohortium.core.canonical import digest
from cohortium.core.rounds import FieldSpec, Layout
from cohortium.crypto.keys import b64url
from cohortium.errors import InputError, ProtocolError
from cohortium.secagg.aggregator import aggregate
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.masks import BLOCK_WORDS
from cohortium.secagg.party import Party
from cohortium.secagg.roster import Roster

SITES = ["a", "b", "c"]
LAYOUT: Layout = {
    "n": FieldSpec((), "count"),
    "gram": FieldSpec((2, 2), "real"),
    "update": FieldSpec((3,), "vector"),
}
ONE = {
    "n": np.array(7),
    "gram": np.array([[1.5, -2.25], [0.1, 1e20]]),
    "update": np.array([0.5, -0.25, 3.0], dtype=np.float32),
}
ALL = dict.fromkeys(SITES, ONE)


def test_the_sum_comes_out() -> None:
    total = World(SITES).sum(LAYOUT, ALL)
    assert set(total) == set(LAYOUT)
    assert total["n"].dtype == np.int64
    assert total["n"] == 21
    np.testing.assert_array_equal(total["gram"], [[4.5, -6.75], [0.1 * 3, 3e20]])
    np.testing.assert_array_equal(total["update"], [1.5, -0.75, 9.0])


def test_a_field_longer_than_a_block_is_masked_through_all_blocks() -> None:
    n = 2 * BLOCK_WORDS + 5
    layout: Layout = {"v": FieldSpec((n,), "count"), "w": FieldSpec((n // 2, 1), "real")}
    one = {"v": np.arange(n), "w": np.arange(n // 2, dtype=np.float64)[:, None] / 8}
    world = World(SITES)
    total = world.sum(layout, dict.fromkeys(SITES, one))
    np.testing.assert_array_equal(total["v"], 3 * np.arange(n))
    np.testing.assert_array_equal(total["w"], 3 * one["w"])
    masked = words(world.party("a").mask(BINDING, layout, one))
    assert len(np.unique(masked)) == len(masked)  # no block's mask is used again


def test_a_site_that_is_asked_again_answers_with_the_same_bytes() -> None:
    world = World(SITES)
    first = world.party("b").mask(BINDING, LAYOUT, ONE)
    assert first == world.party("b").mask(BINDING, dict(reversed(list(LAYOUT.items()))), ONE)


@pytest.mark.parametrize(
    "other",
    [replace(BINDING, round=1), replace(BINDING, state_digest=digest("another state"))],
)
def test_no_word_of_a_mask_comes_again_in_another_round(other: RoundBinding) -> None:
    world = World(SITES)
    first = words(world.party("a").mask(BINDING, LAYOUT, ONE))
    second = words(world.party("a").mask(other, LAYOUT, ONE))
    assert not np.isin(first, second).any()


def test_a_round_of_another_run_is_refused() -> None:
    world = World(SITES)
    for other in (
        replace(BINDING, run_id="f" * 32),
        replace(BINDING, contract_digest=digest(1)),
        replace(BINDING, request_digest=digest(1)),
    ):
        with pytest.raises(ProtocolError) as caught:
            world.party("a").mask(other, LAYOUT, ONE)
        assert caught.value.code == "wrong-round"


def test_sites_that_were_told_different_things_do_not_cancel() -> None:
    world = World(SITES)
    roster = world.roster()
    other_roster = replace(roster, keys={k: v for k, v in roster.keys.items() if k != "c"})
    swapped = replace(roster, keys={**roster.keys, "b": seed("hub's own key")})
    other_layout: Layout = {**LAYOUT, "gram": FieldSpec((4,), "real")}
    honest = world.mask_all(LAYOUT, ALL)
    flat = {**ONE, "gram": ONE["gram"].reshape(4)}
    for masked in (
        Party("a", world.secrets["a"], other_roster).mask(BINDING, LAYOUT, ONE),
        Party("a", world.secrets["a"], swapped).mask(BINDING, LAYOUT, ONE),
        world.party("a").mask(replace(BINDING, state_digest=digest("lie")), LAYOUT, ONE),
        world.party("a").mask(replace(BINDING, round=1), LAYOUT, ONE),
        world.party("a").mask(BINDING, other_layout, flat),
    ):
        with pytest.raises(ProtocolError) as caught:
            aggregate({**honest, "a": bytes(masked)}, roster, BINDING, LAYOUT)
        assert caught.value.code == "masks-do-not-cancel"


def test_a_party_needs_its_own_key_on_the_roster() -> None:
    world = World(SITES)
    roster = world.roster()
    for keys in (
        {site: key for site, key in roster.keys.items() if site != "a"},
        {**roster.keys, "a": seed("swapped")},
    ):
        with pytest.raises(ProtocolError) as caught:
            Party("a", world.secrets["a"], replace(roster, keys=keys))
        assert caught.value.code == "roster-mismatch"


def test_a_key_of_small_order_is_refused() -> None:
    world = World(SITES)
    roster = world.roster()
    for point in (bytes(32), bytes([1]) + bytes(31)):
        with pytest.raises(ProtocolError) as caught:
            Party("a", world.secrets["a"], replace(roster, keys={**roster.keys, "b": point}))
        assert caught.value.details == {"site": "b"}


def test_overflow_names_the_component_before_anything_is_masked() -> None:
    world = World(SITES)
    n = 3 * BLOCK_WORDS
    layout: Layout = {"x": FieldSpec((n,), "real")}
    column = np.zeros(n)
    column[n - 2] = np.nan
    with pytest.raises(InputError) as caught:
        world.party("a").mask(BINDING, layout, {"x": column})
    assert caught.value.code == "overflow"
    assert caught.value.details == {"field": "x", "index": n - 2}
    assert "nan" not in caught.value.message


@pytest.mark.parametrize(
    "contribution",
    [
        {**ONE, "n": np.array([7])},
        {**ONE, "extra": np.zeros(2)},
        {"n": ONE["n"]},
    ],
)
def test_a_contribution_that_does_not_fit_the_layout_is_a_programming_error(
    contribution: dict[str, np.ndarray],
) -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        World(SITES).party("a").mask(BINDING, LAYOUT, contribution)


def test_an_empty_layout_still_shows_that_the_masks_cancel() -> None:
    assert World(SITES).sum({}, {site: {} for site in SITES}) == {}


def test_the_aggregator_wants_one_vector_of_the_right_length_of_each_party() -> None:
    world = World(SITES)
    masked = world.mask_all(LAYOUT, ALL)
    roster = world.roster()
    for vectors in ({k: masked[k] for k in "ab"}, {**masked, "d": masked["a"]}):
        with pytest.raises(ProtocolError) as caught:
            aggregate(vectors, roster, BINDING, LAYOUT)
        assert caught.value.code == "roster-mismatch"
    for vector in (b"", masked["a"][:-1], masked["a"] + bytes(8), bytes(3)):
        with pytest.raises(ProtocolError) as caught:
            aggregate({**masked, "a": vector}, roster, BINDING, LAYOUT)
        assert caught.value.code == "wrong-length"
        assert caught.value.details == {"site": "a"}
    with pytest.raises(ProtocolError) as caught:
        aggregate({**masked, "a": bytes(len(masked["a"]))}, roster, BINDING, LAYOUT)
    assert caught.value.code == "masks-do-not-cancel"
    with pytest.raises(ProtocolError) as caught:
        aggregate(masked, roster, replace(BINDING, run_id="f" * 32), LAYOUT)
    assert caught.value.code == "wrong-round"


def test_the_order_of_the_vectors_does_not_matter() -> None:
    world = World(SITES)
    masked = world.mask_all(LAYOUT, ALL)
    results = [
        aggregate({k: masked[k] for k in order}, world.roster(), BINDING, LAYOUT)["gram"].tobytes()
        for order in itertools.permutations(SITES)
    ]
    assert len(set(results)) == 1


def test_secrets_come_from_the_source_that_is_passed_in() -> None:
    world = World(["a", "b"])
    secret, envelope = Party.prepare(
        site="a",
        run_id=BINDING.run_id,
        contract_digest=BINDING.contract_digest,
        request_digest=BINDING.request_digest,
        signing_key=world.signing["a"],
    )
    assert len(secret) == 32
    assert secret != world.secrets["a"]
    roster: Roster = world.roster([envelope, world.envelopes["b"]])
    assert b64url(roster.keys["a"]).encode() not in envelope  # it lies inside the signed payload
    assert Party("a", secret, roster).site == "a"
