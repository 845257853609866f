from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.support.contracts import ADA, NOW, contract, key
from tests.support.life import amended, transition
from tests.support.slots import CODE, VENDOR, draft

from cohortium.contract import lifecycle
from cohortium.contract.lifecycle import StudyLife, next_instant, permits
from cohortium.contract.model import Contract, Researcher
from cohortium.contract.statements import Action
from cohortium.errors import CohortiumError

BOB = Researcher(name="Bob", key=key("Bob").public)
HOUR = timedelta(hours=1)


def refused(code: str) -> pytest.RaisesExc[CohortiumError]:
    return pytest.raises(CohortiumError, check=lambda error: error.code == code)


def proposed(made: Contract, life: StudyLife | None = None) -> StudyLife:
    return lifecycle.propose(life, made, made.proposed_by.key, NOW)


def active(made: Contract, life: StudyLife | None = None) -> StudyLife:
    life = proposed(made, life)
    for signer in made.signatories.values():
        life = lifecycle.sign(life, made.digest, signer, NOW)
    return life


def say(life: StudyLife, made: Contract, action: Action, author: str, **fields: Any) -> StudyLife:
    """What `author` states, at the next moment at which it can."""
    at = fields.pop("at", next_instant(life, author, NOW))
    said = transition(made, action, author, at=at, **fields)
    return lifecycle.apply(life, said, key(author).public, fields.get("now", NOW + HOUR))


FIRST = contract(recipients=(ADA, BOB))


# Proposals


def test_a_contract_becomes_active_with_the_last_signature_in_any_order() -> None:
    lives = []
    for order in (("Aarhus", "Boston"), ("Boston", "Aarhus")):
        life = proposed(FIRST)
        assert (life.newest.state, life.newest.missing) == ("proposed", ("Aarhus", "Boston"))
        for name in order:
            assert life.in_force is None
            life = lifecycle.sign(life, FIRST.digest, key(name).public, NOW)
        lives.append(life)
    assert lives[0] == lives[1]
    assert lives[0].in_force == lives[0].newest == lives[0].current
    assert lives[0].newest.state == "active"


def test_the_proposers_signature_counts_where_it_is_needed() -> None:
    own = contract(proposed_by={"name": "Boston", "key": key("Boston").public})
    life = proposed(own)
    assert life.newest.signed == {"Boston"}
    assert lifecycle.sign(life, own.digest, key("Boston").public, NOW) is life
    assert lifecycle.sign(life, own.digest, key("Aarhus").public, NOW).in_force is not None
    assert proposed(FIRST).newest.signed == frozenset()


def test_only_the_proposer_proposes_and_only_what_is_written_and_not_expired() -> None:
    with refused("unknown-signer"):
        lifecycle.propose(None, FIRST, key("Aarhus").public, NOW)
    with refused("stale-request"):
        lifecycle.propose(None, FIRST, ADA.key, NOW - 2 * HOUR)
    with refused("contract-expired"):
        lifecycle.propose(None, FIRST, ADA.key, FIRST.expires_at)
    with refused("bad-digest"):
        proposed(contract(study="other"), proposed(FIRST))
    with refused("not-found"):
        lifecycle.sign(proposed(FIRST), contract(title="Other").digest, ADA.key, NOW)


def test_a_study_begins_anew_when_nothing_is_open_any_more() -> None:
    again = contract(title="Again")
    with refused("already-exists"):
        proposed(again, proposed(FIRST))
    for ended in (
        say(proposed(FIRST), FIRST, "refuse", "Boston"),
        say(proposed(FIRST), FIRST, "withdraw", "Ada"),
        say(active(FIRST), FIRST, "revoke", "Boston"),
        say(active(FIRST), FIRST, "close", "Ada"),
    ):
        assert active(again, ended).in_force is not None
    later = FIRST.expires_at + HOUR
    anew = contract(created_at=later, expires_at=later + HOUR)
    life = lifecycle.propose(active(FIRST), anew, ADA.key, later)
    assert life.in_force == life.version(FIRST.digest)
    for name in ("Aarhus", "Boston"):
        life = lifecycle.sign(life, anew.digest, key(name).public, later)
    assert [version.state for version in life.versions] == ["superseded", "active"]


# Amendments


def test_the_old_version_stays_in_force_until_all_have_signed_the_new_one() -> None:
    second = amended(FIRST, title="Second")
    life = proposed(second, active(FIRST))
    life = lifecycle.sign(life, second.digest, key("Boston").public, NOW)
    assert life.in_force == life.version(FIRST.digest)
    assert life.newest == life.version(second.digest)
    assert life.amendments(FIRST.digest) == (life.newest,)
    life = lifecycle.sign(life, second.digest, key("Aarhus").public, NOW)
    assert life.in_force == life.version(second.digest)
    assert life.version(FIRST.digest).state == "superseded"
    third = amended(second, title="Third")
    assert active(third, life).in_force == active(third, life).version(third.digest)


def test_an_amendment_is_of_the_version_in_force() -> None:
    second = amended(FIRST, title="Second")
    for life in (None, proposed(FIRST), say(active(FIRST), FIRST, "revoke", "Boston")):
        with refused("stale-version"):
            proposed(second, life)
    with refused("stale-version"):
        proposed(contract(version=3, amends=FIRST.digest), active(FIRST))
    with refused("stale-version"):
        proposed(amended(contract(title="Other")), active(FIRST))


def test_only_who_could_end_a_contract_amends_it() -> None:
    for name in ("Aarhus", "Ada"):
        made = amended(FIRST, proposed_by=Researcher(name=name, key=key(name).public))
        assert proposed(made, active(FIRST)).newest.contract == made
    for name in ("Bob", "Eve"):
        made = amended(FIRST, proposed_by=Researcher(name=name, key=key(name).public))
        with refused("not-authorised"):
            proposed(made, active(FIRST))


def test_the_end_of_a_contract_ends_its_amendments() -> None:
    second = amended(FIRST, title="Second")
    life = proposed(second, active(FIRST))
    for action, author, state in (("revoke", "Boston", "revoked"), ("close", "Ada", "closed")):
        after = say(life, FIRST, action, author)  # type: ignore[arg-type]
        assert [version.state for version in after.versions] == [state, state]
        assert after.newest.ended_by == author
        with refused("contract-ended"):
            lifecycle.sign(after, second.digest, key("Aarhus").public, NOW)


def test_a_suspension_outlives_an_amendment_of_who_is_still_there() -> None:
    own = {"name": "own_model", "code": CODE}
    wide = contract(computations=({"name": "stats.*"}, own), owners=(VENDOR,))
    life = say(active(wide), wide, "suspend", "Boston", computations=("stats.*",))
    life = say(life, wide, "suspend", "Vendor")
    narrow = amended(contract(), version=2, amends=wide.digest)
    life = active(narrow, life)
    current = life.in_force
    assert current is not None
    assert (current.digest, current.state) == (narrow.digest, "suspended")
    assert dict(current.suspensions) == {"Boston": frozenset({"stats.*"})}
    after = say(life, narrow, "resume", "Boston").in_force
    assert after is not None
    assert after.state == "active"


# Transitions


def test_a_suspension_is_lifted_only_by_who_suspended() -> None:
    life = say(active(FIRST), FIRST, "suspend", "Boston")
    life = say(life, FIRST, "suspend", "Ada", computations=("glm",))
    assert life.current.state == "suspended"
    for name in ("Aarhus",):
        with refused("wrong-state"):
            say(life, FIRST, "resume", name)
    life = say(life, FIRST, "resume", "Boston")
    assert life.current.state == "suspended"
    life = say(life, FIRST, "resume", "Ada")
    assert life.current.state == "active"
    with refused("wrong-state"):
        say(life, FIRST, "resume", "Ada")


def test_what_is_suspended_does_not_run_and_the_rest_does() -> None:
    life = say(active(FIRST), FIRST, "suspend", "Boston", computations=("stats.describe",))
    permits(life.current, "glm", NOW)
    with refused("contract-suspended"):
        permits(life.current, "stats.describe", NOW)
    life = say(life, FIRST, "suspend", "Boston", computations=("glm",))
    permits(life.current, "stats.describe", NOW)
    life = say(life, FIRST, "suspend", "Boston", computations=("stats.*",))
    with refused("contract-suspended"):
        permits(life.current, "stats.describe", NOW)
    life = say(life, FIRST, "suspend", "Boston")
    with refused("contract-suspended"):
        permits(life.current, "glm", NOW)
    with refused("bad-input"):
        say(life, FIRST, "suspend", "Boston", computations=("other",))


def test_what_a_contract_permits_follows_from_its_state_and_the_clock() -> None:
    with refused("contract-not-active"):
        permits(proposed(FIRST).newest, "glm", NOW)
    life = active(FIRST)
    permits(life.newest, "glm", NOW)
    with refused("contract-expired"):
        permits(life.newest, "glm", FIRST.expires_at)
    second = amended(FIRST, title="Second")
    for ended in (
        say(proposed(FIRST), FIRST, "refuse", "Boston"),
        say(proposed(FIRST), FIRST, "withdraw", "Ada"),
        say(life, FIRST, "revoke", "Boston"),
        say(life, FIRST, "close", "Ada"),
        active(second, life),
    ):
        with refused("contract-ended"):
            permits(ended.version(FIRST.digest), "glm", NOW)


def test_an_end_says_who_and_why_and_what_is_kept() -> None:
    closed = say(active(FIRST), FIRST, "close", "Ada", keeps=("The results.",), reason="Done.")
    assert (closed.newest.ended_by, closed.newest.reason) == ("Ada", "Done.")
    assert closed.newest.keeps == ("The results.",)
    no = say(proposed(FIRST), FIRST, "refuse", "Boston", reason="Too broad.")
    assert dict(no.newest.refused) == {"Boston": "Too broad."}
    assert no.in_force is None
    assert no.current.state == "refused"


@pytest.mark.parametrize(
    ("life", "action", "author", "code"),
    [
        (proposed, "suspend", "Boston", "contract-not-active"),
        (proposed, "resume", "Boston", "contract-not-active"),
        (proposed, "revoke", "Boston", "contract-not-active"),
        (proposed, "close", "Ada", "contract-not-active"),
        (proposed, "refuse", "Ada", "not-authorised"),
        (proposed, "refuse", "Bob", "not-authorised"),
        (proposed, "withdraw", "Boston", "not-authorised"),
        (active, "refuse", "Boston", "wrong-state"),
        (active, "withdraw", "Ada", "wrong-state"),
        (active, "suspend", "Bob", "not-authorised"),
        (active, "resume", "Bob", "not-authorised"),
        (active, "revoke", "Ada", "not-authorised"),
        (active, "close", "Boston", "not-authorised"),
    ],
)
def test_who_may_do_what_and_when(
    life: Callable[[Contract], StudyLife], action: Action, author: str, code: str
) -> None:
    with refused(code):
        say(life(FIRST), FIRST, action, author)


@pytest.mark.parametrize("action", ["refuse", "withdraw", "suspend", "resume", "revoke", "close"])
def test_after_the_end_nothing_is_stated(action: Action) -> None:
    author = "Ada" if action in {"withdraw", "close"} else "Boston"
    for life in (
        say(active(FIRST), FIRST, "revoke", "Aarhus"),
        say(proposed(FIRST), FIRST, "refuse", "Aarhus"),
    ):
        with refused("contract-ended"):
            say(life, FIRST, action, author)
        with refused("contract-ended"):
            lifecycle.sign(
                replace(life, versions=(replace(life.newest, signed=frozenset()),)),
                FIRST.digest,
                key("Boston").public,
                NOW,
            )


def test_a_statement_is_signed_by_its_author_about_this_study_and_a_known_contract() -> None:
    life = active(FIRST)
    said = transition(FIRST, "suspend", "Boston", at=NOW)
    for signer in ("Aarhus", "Ada", "Eve"):
        with refused("unknown-signer"):
            lifecycle.apply(life, said, key(signer).public, NOW)
    other = said.model_copy(update={"study": "other"})
    with refused("bad-digest"):
        lifecycle.apply(life, other, key("Boston").public, NOW)
    unknown = said.model_copy(update={"contract_digest": contract(title="Other").digest})
    with refused("not-found"):
        lifecycle.apply(life, unknown, key("Boston").public, NOW)


def test_an_old_statement_brought_again_changes_nothing() -> None:
    suspended = say(active(FIRST), FIRST, "suspend", "Boston", at=NOW)
    lift = transition(FIRST, "resume", "Boston", at=NOW + timedelta(seconds=1))
    resumed = lifecycle.apply(suspended, lift, key("Boston").public, NOW)
    again = say(resumed, FIRST, "suspend", "Boston")
    assert again.current.state == "suspended"
    assert lifecycle.apply(again, lift, key("Boston").public, NOW) is again
    hidden = replace(again, said=again.said - {lift})
    with refused("stale-request"):
        lifecycle.apply(hidden, lift, key("Boston").public, NOW)


def test_a_statement_is_later_than_its_authors_last_and_not_from_the_future() -> None:
    life = say(active(FIRST), FIRST, "suspend", "Boston", at=NOW)
    for at in (NOW, NOW - HOUR):
        with refused("stale-request"):
            say(life, FIRST, "resume", "Boston", at=at)
    with refused("stale-request"):
        say(life, FIRST, "resume", "Boston", at=NOW + 3 * HOUR)
    assert next_instant(life, "Boston", NOW) == NOW + timedelta(seconds=1)
    assert next_instant(life, "Aarhus", NOW) == NOW
    assert next_instant(life, "Boston", NOW + HOUR) == NOW + HOUR
    say(life, FIRST, "suspend", "Aarhus", at=NOW - HOUR)


# Replay


def test_what_was_said_gives_the_same_life_again_at_any_later_time() -> None:
    second = amended(FIRST, title="Second")
    envelopes = [
        FIRST.sign(key("Ada")),
        FIRST.sign(key("Boston")),
        FIRST.sign(key("Aarhus")),
        transition(FIRST, "suspend", "Boston", at=NOW).sign(key("Boston")),
        second.sign(key("Ada")),
        second.sign(key("Aarhus")),
        second.sign(key("Boston")),
        second.sign(key("Boston")),
    ]
    life = lifecycle.replay([(envelope, NOW) for envelope in envelopes])
    assert [version.state for version in life.versions] == ["superseded", "suspended"]
    late = second.expires_at + HOUR
    assert lifecycle.replay([(envelope, late) for envelope in envelopes]) == life
    first = lifecycle.replay([(envelope, NOW) for envelope in envelopes[:3]])
    assert lifecycle.replay([(envelope, NOW) for envelope in envelopes[3:]], first) == life
    assert lifecycle.replay([], life) is life


def test_what_cannot_begin_a_life() -> None:
    with refused("not-found"):
        lifecycle.replay([])
    with refused("not-found"):
        said = transition(FIRST, "suspend", "Boston", at=NOW)
        lifecycle.hear(None, said.sign(key("Boston")), NOW)
    with refused("unknown-signer"):
        lifecycle.hear(None, FIRST.sign(key("Boston")), NOW)
    with refused("unexpected-message"):
        lifecycle.hear(None, draft().sign(key("Ada")), NOW)
