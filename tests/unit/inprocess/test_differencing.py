"""N against N - 1 persons in `co.local`, the ways round it, and what one does instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.contract.model import Proposal
from cohortium.errors import InputError, PolicyRefusal
from cohortium.inprocess.federation import LocalFederation
from cohortium.sdk.attrition import AttritionResult
from cohortium.sdk.study import Study

VICTIM = 99
"""The age of one person, at North."""
BUT_VICTIM = f"age = {VICTIM}"


def _frames() -> dict[str, pd.DataFrame]:
    frames = {}
    for number, site in enumerate(("North", "South")):
        rng = np.random.default_rng(number)
        ages = rng.permutation(np.tile(np.arange(30, 90), 4))
        income = rng.normal(3000, 500, len(ages)).round()
        sex = np.where(np.arange(len(ages)) % 2, "f", "m")
        frames[site] = pd.DataFrame({"age": ages, "income": income, "sex": sex})
    victim = pd.DataFrame({"age": [VICTIM], "income": [9999.0], "sex": ["f"]})
    frames["North"] = pd.concat([victim, frames["North"]], ignore_index=True)
    return frames


POOLED = pd.concat(_frames().values(), ignore_index=True)


@pytest.fixture(scope="module")
def federation() -> Iterator[LocalFederation]:
    with co.local(_frames()) as made:
        yield made


@pytest.fixture
def study(federation: LocalFederation) -> Study:
    """A study of its own, whose memory is empty."""
    first = federation.study("local")
    terms = first.contract
    number = len(federation.studies)
    proposal = Proposal.model_validate(
        {
            **{
                name: terms.to_json()[name]
                for name in ("title", "purpose", "min_sites", "disclosure", "cohort", "expires_at")
            },
            "study": f"study-{number}",
            "participants": [
                {"name": p.name, "dataset": p.dataset, "variables": list(p.variables)}
                for p in terms.givers
            ],
            "variables": [
                {"name": v.name, "type": v.type, "levels": v.levels} for v in terms.variables
            ],
            "computations": [{"name": "stats.*"}],
            "recipients": [r.name for r in terms.recipients],
        }
    )
    return federation.submit_proposal(proposal)


def _refused(ask: Callable[[], object]) -> None:
    with pytest.raises(PolicyRefusal) as caught:
        ask()
    assert caught.value.code == "differencing"
    assert caught.value.message.startswith("These persons are nearly those of an earlier result")
    told = caught.value.message + str(caught.value.details)
    assert not any(word in told for word in ("North", "South", str(VICTIM), "age", "income"))


def test_the_mean_of_all_but_one_would_give_the_one_away_and_is_refused(study: Study) -> None:
    everybody = study.describe(["income"])
    n, mean = everybody.n[None], everybody["income"].mean
    rest = POOLED[POOLED["age"] != VICTIM]["income"].mean()
    assert n == len(POOLED)
    assert mean is not None
    assert n * mean - (n - 1) * rest == pytest.approx(9999)  # what the attack is after
    _refused(lambda: study.cohort(exclude=[BUT_VICTIM]).describe(["income"]))
    _refused(lambda: study.cohort(include=["age < 95"]).describe(["age"], by="sex"))


def test_two_halves_do_not_add_up_to_all_but_one(study: Study) -> None:
    study.cohort(include=["age >= 60"]).describe(["income"])
    study.cohort(include=["age < 60"]).describe(["income"])
    _refused(lambda: study.cohort(include=["age >= 60"], exclude=[BUT_VICTIM]).describe(["income"]))


def test_groups_are_no_way_round(study: Study) -> None:
    study.derive("old = CASE WHEN age >= 60 THEN TRUE ELSE FALSE END")
    study.derive(f"other = CASE WHEN age >= 60 AND age <> {VICTIM} THEN TRUE ELSE FALSE END")
    study.describe(["income"], by="old")
    _refused(lambda: study.describe(["income"], by="other"))
    _refused(lambda: study.cohort(include=["other"]).describe(["income"]))


def test_tables_of_the_same_persons_are_not_refused(study: Study) -> None:
    study.derive("old = age >= 60")
    first = study.describe(["income"])
    study.describe(["income"], by="sex")
    study.crosstab("sex", "old")
    study.describe(["age", "income"], by="old")
    assert study.describe(["income"]).run.rounds == first.run.rounds


def test_attrition_is_no_way_round(study: Study) -> None:
    study.cohort(include=["age >= 60"]).attrition()
    _refused(lambda: study.cohort(include=[f"age >= 60 AND age <> {VICTIM}"]).attrition())
    _refused(lambda: study.cohort(include=["age >= 60"], exclude=[BUT_VICTIM]).describe(["income"]))


def test_rounded_counts_a_wider_criterion_and_the_same_again_are_not_refused(study: Study) -> None:
    study.cohort(include=["age >= 60"]).attrition()
    but = study.cohort(include=[f"age >= 60 AND age <> {VICTIM}"])
    _refused(but.attrition)
    rounded = but.attrition(rounding=5)
    assert rounded.n is not None
    assert rounded.n % 5 == 0
    assert study.cohort(include=["age >= 65"]).attrition().n == (POOLED["age"] >= 65).sum()
    assert (
        study.cohort(include=["age >= 60"]).describe(["income"]).n[None]
        == (POOLED["age"] >= 60).sum()
    )


def test_a_few_persons_are_merged_in_an_attrition(study: Study) -> None:
    flow = study.cohort(exclude=[BUT_VICTIM, "age < 40"]).attrition()
    left = ((POOLED["age"] >= 40) & (POOLED["age"] != VICTIM)).sum()
    assert flow.remaining == (None, left)
    assert [len(stage.criteria) for stage in flow.stages] == [2]
    assert flow.stages[0].excluded == len(POOLED) - left
    assert len(flow.suppressed) == 1


def test_a_cohort_may_be_described_before_and_after_an_attrition_that_merges(study: Study) -> None:
    cohort = study.cohort(exclude=["age < 40", BUT_VICTIM])
    cohort.describe(["income"])
    assert cohort.attrition().remaining[0] is None
    other = study.cohort(exclude=["age < 50", BUT_VICTIM])
    assert other.attrition().remaining[0] is None
    other.describe(["income"])
    _refused(lambda: study.cohort(exclude=["age < 50"]).describe(["income"]))


def _asked(study: Study) -> int:
    return len(study.runs())


def test_another_order_and_fewer_criteria_ask_nothing_new(study: Study) -> None:
    criteria = ["age >= 40", "sex = 'f'", "income > 2900"]
    cohort = study.cohort(include=criteria)
    first, runs = cohort.attrition(), _asked(study)
    assert not first.reused
    masks = [POOLED["age"] >= 40, POOLED["sex"] == "f", POOLED["income"] > 2900]
    assert first.remaining == (
        masks[0].sum(),
        (masks[0] & masks[1]).sum(),
        (masks[0] & masks[1] & masks[2]).sum(),
    )
    turned = cohort.attrition(order=list(reversed(criteria)))
    assert turned.remaining == (masks[2].sum(), (masks[2] & masks[1]).sum(), first.n)
    fewer = study.cohort(include=["income>2900", "age  >= 40"]).attrition()
    assert fewer.remaining == (masks[2].sum(), (masks[2] & masks[0]).sum())
    assert turned.reused
    assert fewer.reused
    assert _asked(study) == runs
    assert not study.cohort(include=["age >= 50"]).attrition().reused


def test_a_cohort_without_criteria_or_with_a_wrong_order_has_no_attrition(study: Study) -> None:
    with pytest.raises(InputError):
        study.cohort().attrition()
    with pytest.raises(InputError):
        study.cohort(include=["age > 40"]).attrition(order=["age > 50"])


@pytest.fixture(scope="module")
def flow(federation: LocalFederation) -> AttritionResult:
    cohort = federation.study("local").cohort(include=["age >= 40"], exclude=["sex = 'm'"])
    return cohort.attrition()


def test_an_attrition_is_a_table_words_and_a_flow(flow: AttritionResult) -> None:
    frame = flow.to_frame()
    assert frame["n"].tolist() == [flow.start, *flow.remaining]
    assert frame["excluded"].tolist()[1:] == [stage.excluded for stage in flow.stages]
    assert f"{flow.n:,}" in flow.interpret()
    assert f"{flow.n:,}" in flow.interpret("zh")
    assert "nothing is estimated" in flow.interpret()
    with pytest.raises(InputError):
        flow.interpret("fr")  # type: ignore[arg-type]
    drawn = str(flow.plot().to_dict())
    for text in (f"n = {flow.n:,}", "not met: age >= 40", "met: sex = 'm'", "excluded: "):
        assert text in drawn
    assert "age >= 40" in str(flow.summary())
