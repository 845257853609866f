from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, cast

import pytest
from tests.support.contracts import ADA, NOW, contract, key, request
from tests.support.slots import CODE, artefact, filled, task, task_contract

from cohortium.analysis.interface import AnyAnalysis, Params, Scope
from cohortium.contract.check import Admitted, AdmittedTask, check_run, check_task, unenforceable
from cohortium.contract.model import Computation, Contract, RunRequest
from cohortium.contract.task import Code, Task
from cohortium.core.canonical import digest
from cohortium.crypto.keys import SigningKey
from cohortium.errors import CohortiumError, InputError, PolicyRefusal, VerificationError

TRAIN = filled(task(), images=artefact("Aarhus"))
NAMED = {"enclaves": ({"name": "Kiel", "key": key("Kiel").public},)}
MEASURED = {"measurements": ({"kind": "mrenclave", "value": "0" * 64},)}
BUILT_IN = CODE.model_copy(update={"name": "builtin:join"})


def at(level: str, code: Code = CODE) -> Task:
    """The task at a level of its own."""
    return TRAIN.model_copy(update={"security_level": level, "code": code})


GLM = {"outcome": "sex", "terms": ["age"], "family": "binomial"}


class DescribeParams(Params):
    variables: tuple[str, ...]
    by: str | None = None
    quantiles: tuple[float, ...] = (0.25, 0.5, 0.75)
    rounded: bool | int = 1


class GlmParams(Params):
    outcome: str
    terms: tuple[str, ...]
    family: str = "gaussian"


@dataclass
class Stub:
    """As much of an analysis as the checks look at."""

    params_type: type[Params]
    names: Callable[[Any], set[str]]
    version: int = 1

    def variables(self, params: Params) -> frozenset[str]:
        return frozenset(self.names(params))


REGISTRY = {
    "stats.describe": Stub(DescribeParams, lambda p: {*p.variables, *([p.by] if p.by else [])}),
    "glm": Stub(GlmParams, lambda p: {p.outcome, *p.terms}),
}


def find(name: str) -> AnyAnalysis:
    if name not in REGISTRY:
        raise InputError("not-found", name)
    return cast("AnyAnalysis", REGISTRY[name])


def check(signed: Contract, asked: RunRequest, **changes: Any) -> Admitted:
    options: dict[str, Any] = {"signatures_ok": True, "find_analysis": find, "now": NOW}
    signer = changes.pop("signer", ADA.key)
    return check_run(signed, asked, signer, **(options | changes))


def refused(
    family: type[CohortiumError], code: str, signed: Contract, asked: RunRequest, **changes: Any
) -> CohortiumError:
    with pytest.raises(family) as caught:
        check(signed, asked, **changes)
    assert caught.value.code == code
    return caught.value


def test_what_the_contract_allows_is_admitted_with_its_scope() -> None:
    signed = contract()
    admitted = check(signed, request(signed))
    assert admitted.contract is signed
    assert admitted.analysis is find("stats.describe")
    assert admitted.params.to_json()["variables"] == ["age"]
    assert set(admitted.scope.variables) == {"age", "sex", "wt_loss"}
    assert admitted.scope.n_sites == 2
    assert admitted.scope.disclosure == signed.disclosure
    glm = check(signed, request(signed, computation="glm", params=GLM))
    assert set(glm.scope.variables) == {"age", "sex"}


def test_1_the_signer_is_the_researcher_named() -> None:
    signed = contract()
    refused(VerificationError, "unknown-signer", signed, request(signed), signer=key("Eve").public)


def test_2_a_removed_researcher_may_not() -> None:
    signed = contract()
    refused(PolicyRefusal, "not-authorised", signed, request(signed), revoked=frozenset({ADA.key}))


@pytest.mark.parametrize("change", [{"contract_digest": digest("other")}, {"study": "other"}])
def test_3_the_request_names_this_contract(change: dict[str, str]) -> None:
    signed = contract()
    refused(VerificationError, "bad-digest", signed, request(signed, **change))


def test_3_a_contract_changed_by_one_letter_is_another_contract() -> None:
    signed = contract()
    changed = contract(purpose="Survival by sex!")
    assert changed.digest != signed.digest
    refused(VerificationError, "bad-digest", changed, request(signed))


def test_4_every_participant_has_signed() -> None:
    signed = contract()
    refused(PolicyRefusal, "contract-not-active", signed, request(signed), signatures_ok=False)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"security_level": "L2"}, "level L2"),
        ({"environment": {"executor": "bubblewrap"}}, "executor bubblewrap"),
        ({"environment": {"measurements": ({"kind": "mrtd", "value": "0" * 96},)}}, "measure"),
        ({"environment": {"tcb_states": ("UpToDate",)}}, "measurements"),
        ({"aggregation": "enclave"}, "enclave"),
        ({"tasks": (TRAIN,)}, "train at a level below L4, or without inputs, and names no"),
        ({"tasks": (at("L3"),), "environment": NAMED}, "train at L3 or above without saying what"),
        ({"tasks": (at("L5"),), "environment": MEASURED}, "train at L5, where only built-in"),
        (
            {"tasks": (at("L5", BUILT_IN),), "environment": {**MEASURED, "allow_simulated": True}},
            "L5 with a simulated environment",
        ),
        (
            {"tasks": (at("L5", BUILT_IN),), "environment": {**MEASURED, "tcb_states": ("Old",)}},
            "platforms that are not up to date",
        ),
        ({"computations": ({"name": "stats.*"}, {"name": "own", "code": CODE})}, "custom code"),
    ],
)
def test_4_nothing_runs_under_terms_that_cannot_be_enforced(
    changes: dict[str, Any], says: str
) -> None:
    signed = task_contract(**{"tasks": (), **changes})
    (problem,) = unenforceable(signed)
    assert says in problem.message
    refused(PolicyRefusal, "unenforceable", signed, request(signed))


def test_4_more_sites_than_the_ledger_has_room_for_are_refused_early() -> None:
    """Their decisions on a run would not fit into one entry, and no run could begin."""
    seats = [one.to_json() for one in contract().participants]
    names = [f"Institution {number:04d}" for number in range(600)]
    keys = [SigningKey.from_seed(number.to_bytes(32, "big")).public for number in range(600)]
    many = [seats[0] | {"name": n, "key": k} for n, k in zip(names, keys, strict=True)]
    few = contract(participants=tuple(many[:400]))
    assert unenforceable(few) == []
    (problem,) = unenforceable(contract(participants=tuple(many)))
    assert "600 participants, whose decisions on a run do not fit" in problem.message


def test_4_terms_that_change_nothing_are_enforced() -> None:
    signed = contract(environment={}, contacts=({"name": "Bo", "role": "DPO", "email": "a@b.c"},))
    assert unenforceable(signed) == []
    assert check(signed, request(signed)).contract is signed


def test_5_the_contract_ends_at_its_expiry() -> None:
    signed = contract()
    for accepted_before in (False, True):
        at_the_end = {"now": signed.expires_at, "accepted_before": accepted_before}
        asked = request(
            signed,
            issued_at=signed.expires_at - timedelta(minutes=1),
            valid_until=signed.expires_at + timedelta(minutes=1),
        )
        refused(PolicyRefusal, "contract-expired", signed, asked, **at_the_end)
        check(signed, asked, **(at_the_end | {"now": signed.expires_at - timedelta(seconds=1)}))


@pytest.mark.parametrize(
    ("window", "after"),
    [
        (timedelta(hours=25), timedelta(0)),
        (timedelta(0), timedelta(0)),
        (-timedelta(hours=1), timedelta(0)),
        (timedelta(hours=1), timedelta(hours=1, minutes=6)),
        (timedelta(hours=1), -timedelta(minutes=6)),
    ],
)
def test_5_the_request_is_fresh(window: timedelta, after: timedelta) -> None:
    signed = contract()
    asked = request(signed, valid_until=NOW + window)
    refused(VerificationError, "stale-request", signed, asked, now=NOW + after)


@pytest.mark.parametrize("after", [timedelta(hours=1, minutes=4), -timedelta(minutes=4)])
def test_5_clocks_may_differ_by_five_minutes(after: timedelta) -> None:
    signed = contract()
    check(signed, request(signed), now=NOW + after)


def test_5_a_run_that_was_accepted_in_time_may_be_resumed_later() -> None:
    signed = contract()
    check(signed, request(signed), now=NOW + timedelta(days=30), accepted_before=True)
    too_long = request(signed, valid_until=NOW + timedelta(hours=25))
    refused(VerificationError, "stale-request", signed, too_long, accepted_before=True)


def test_6_only_a_recipient_may_run() -> None:
    signed = contract()
    eve = key("Eve").public
    refused(PolicyRefusal, "not-authorised", signed, request(signed, researcher=eve), signer=eve)


def test_7_only_permitted_computations() -> None:
    signed = contract(computations=({"name": "stats.*"},))
    error = refused(
        PolicyRefusal, "not-permitted", signed, request(signed, computation="glm", params=GLM)
    )
    assert "stats.*" in error.message
    refused(InputError, "not-found", signed, request(signed, computation="stats.secret"))


@pytest.mark.parametrize("params", [{}, {"variables": "age"}, {"variables": ["age"], "spy": 1}])
def test_8_parameters_that_do_not_parse_are_the_callers_fault(params: dict[str, Any]) -> None:
    signed = contract()
    refused(InputError, "bad-input", signed, request(signed, params=params))


@pytest.mark.parametrize("family", ["gaussian", "poisson"])
def test_9_parameters_outside_the_limits(family: str) -> None:
    signed = contract()
    asked = request(signed, computation="glm", params={**GLM, "family": family})
    error = refused(PolicyRefusal, "not-permitted", signed, asked)
    assert error.details == {"parameter": "family"}


def test_9_a_limit_holds_for_defaults_each_item_and_unknown_parameters() -> None:
    def limited(limits: dict[str, Any]) -> Contract:
        return contract(computations=(Computation(name="stats.describe", limits=limits),))

    def ask(signed: Contract, quantiles: list[float]) -> RunRequest:
        return request(signed, params={"variables": ["age"], "quantiles": quantiles})

    half = limited({"quantiles": (0.5,)})
    check(half, ask(half, [0.5]))
    refused(PolicyRefusal, "not-permitted", half, ask(half, [0.5, 0.9]))
    refused(PolicyRefusal, "not-permitted", half, request(half))  # by default also quartiles
    by_sex = limited({"by": ("sex",)})
    refused(PolicyRefusal, "not-permitted", by_sex, request(by_sex))
    unknown = limited({"spelled_wrongly": (1,)})
    refused(PolicyRefusal, "not-permitted", unknown, request(unknown))


@pytest.mark.parametrize(("allowed", "given"), [(True, 1), (1, True), (0, False), ("1", 1)])
def test_9_true_is_not_one(allowed: str | int, given: int) -> None:
    entry = Computation(name="stats.describe", limits={"rounded": (allowed,)})
    signed = contract(computations=(entry,))
    params = {"variables": ["age"], "rounded": given}
    refused(PolicyRefusal, "not-permitted", signed, request(signed, params=params))


def test_9_one_is_one_point_zero() -> None:
    entry = Computation(name="stats.describe", limits={"quantiles": (1, 0.5), "rounded": (1,)})
    signed = contract(computations=(entry,))
    check(signed, request(signed, params={"variables": ["age"], "quantiles": [1.0, 0.5]}))


def test_10_only_permitted_variables() -> None:
    signed = contract()
    asked = request(signed, computation="glm", params={**GLM, "terms": ["age", "wt_loss"]})
    error = refused(PolicyRefusal, "not-permitted", signed, asked)
    assert error.details == {"variables": ["wt_loss"]}
    grouped = contract(computations=({"name": "stats.*", "variables": ("age",)},))
    by_sex = request(grouped, params={"variables": ["age"], "by": "sex"})
    refused(PolicyRefusal, "not-permitted", grouped, by_sex)


@dataclass
class PersonStub(Stub):
    """An analysis that bounds what a person adds."""

    norm: float = 2.0

    def person_norm(self, params: Params, scope: Scope) -> float:
        return self.norm


def test_11_noise_hides_a_person_only_where_the_computation_bounds_what_one_adds() -> None:
    def signed(unit: str, clip: float) -> Contract:
        noise = {"unit": unit, "epsilon": 1, "delta": 1e-6, "sums": 1, "clip": clip}
        entry = {"name": "stats.*", "noise": noise | {"multiplier": 5.0}}
        return contract(computations=(entry,))

    def bounded(_name: str) -> AnyAnalysis:
        stub = REGISTRY["stats.describe"]
        return cast("AnyAnalysis", PersonStub(stub.params_type, stub.names))

    enough = signed("person", 2.0)
    admitted = check(enough, request(enough), find_analysis=bounded)
    assert admitted.noise == enough.computations[0].noise
    refused(PolicyRefusal, "not-permitted", enough, request(enough))
    less = signed("person", 1.9)
    refused(PolicyRefusal, "not-permitted", less, request(less), find_analysis=bounded)
    whole = signed("institution", 0.1)
    assert check(whole, request(whole)).noise is not None
    assert check(contract(), request(contract())).noise is None


# --- tasks ----------------------------------------------------------------------------------------


def admit(signed: Contract, **changes: Any) -> AdmittedTask:
    asked = {"computation": "task.train", "params": {"rate": 0.1}} | changes
    return check_task(signed, request(signed, **asked), ADA.key, signatures_ok=True, now=NOW)


def test_a_run_of_a_task_has_its_arguments_and_its_level() -> None:
    signed = task_contract(at("L2"), environment=NAMED)
    admitted = admit(signed)
    assert admitted.arguments == {"epochs": 10, "rate": 0.1}
    assert (admitted.task.name, admitted.level) == ("train", "L2")
    lower = task_contract(
        at("L1"), environment=NAMED, security_level="L2", computations=(), **ALONE
    )
    assert admit(lower).level == "L2"


SEATS = tuple({"name": name, "key": key(name).public} for name in ("Aarhus", "Boston"))
ALONE: dict[str, Any] = {"variables": (), "participants": SEATS}


@pytest.mark.parametrize(
    ("family", "code", "changes"),
    [
        (PolicyRefusal, "not-permitted", {"computation": "task.other"}),
        (PolicyRefusal, "not-permitted", {"params": {"rate": 0.1, "epochs": 11}}),
        (InputError, "bad-input", {"params": {}}),
        (InputError, "bad-input", {"params": {"rate": 0.1, "spy": 1}}),
        (InputError, "bad-input", {"cohort": {"include": ("age > 70",)}}),
        (VerificationError, "bad-digest", {"contract_digest": digest("other")}),
        (VerificationError, "stale-request", {"valid_until": NOW + timedelta(hours=25)}),
        (VerificationError, "unknown-signer", {"researcher": key("Eve").public}),
    ],
)
def test_a_run_of_a_task_is_what_the_contract_says(
    family: type[CohortiumError], code: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(family) as caught:
        admit(task_contract(TRAIN, environment=NAMED), **changes)
    assert caught.value.code == code


def test_tasks_without_an_enclave_below_l4_do_not_run() -> None:
    with pytest.raises(PolicyRefusal, match="names no enclaves"):
        admit(task_contract(TRAIN))
    assert unenforceable(task_contract(at("L4"), environment=MEASURED)) == []
    alone = at("L4").model_copy(update={"inputs": ()})
    assert unenforceable(task_contract(alone, environment=MEASURED))
    assert unenforceable(task_contract(at("L5", BUILT_IN), environment=MEASURED)) == []


def test_a_computation_cannot_pass_for_a_task() -> None:
    for name in ("task.train", "task.*"):
        with pytest.raises(ValueError, match="cannot be called task"):
            contract(computations=({"name": name},))
    refused(PolicyRefusal, "not-permitted", contract(), request(contract(), computation="task.x"))
