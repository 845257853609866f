"""A whole federation in one process: hub, nodes, guard and masks, no stand-ins."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.errors import CohortiumError
from cohortium.inprocess import federation as federation_module
from cohortium.inprocess.federation import LocalFederation
from cohortium.node import alarms


def _frames(n_rows: int = 200) -> dict[str, pd.DataFrame]:
    out = {}
    for number, site in enumerate(("North", "East", "South")):
        rng = np.random.default_rng(number)
        age = np.round(rng.normal(60, 9, n_rows), 1)
        sex = rng.choice(["f", "m"], n_rows)
        risk = 1 / (1 + np.exp(-(age - 60) / 12 + 0.4 * (sex == "m")))
        dead = (rng.random(n_rows) < risk).astype(int)
        frame = pd.DataFrame({"age": age, "sex": sex, "dead": dead})
        frame.loc[rng.random(n_rows) < 0.05, "age"] = np.nan
        frame["note"] = [f"free text of {site} {row}" for row in range(n_rows)]
        out[site] = frame
    return out


@pytest.fixture(scope="module")
def federation() -> Iterator[LocalFederation]:
    with co.local(_frames()) as made:
        yield made


@pytest.fixture(scope="module")
def pooled() -> pd.DataFrame:
    return pd.concat(_frames().values(), ignore_index=True)


def test_the_study_is_signed_by_every_site(federation: LocalFederation) -> None:
    study = federation.study()
    assert study.status == "active"
    assert set(study.signatures) == {"North", "East", "South"}
    assert [one.id for one in federation.studies] == ["local"]
    assert set(study.variables) == {"age", "sex", "dead"}
    assert study.digest in study.text.replace("\n", "") or study.title in study.text
    assert "North" in study._repr_html_()
    assert "Federation" in repr(federation)
    assert "local" in federation._repr_html_()
    assert "active" in repr(study)


def test_members_publish_dictionaries(federation: LocalFederation) -> None:
    members = federation.members
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert all(member.connected and member.status == "approved" for member in members)
    assert {d.name for member in members for d in member.datasets} == {"local"}
    assert [user.name for user in federation.users] == ["You"]


def test_describe_equals_the_pooled_numbers(
    federation: LocalFederation, pooled: pd.DataFrame
) -> None:
    result = federation.study().describe(["age", "dead"], by="sex")
    for sex in ("f", "m"):
        values = pooled.loc[pooled["sex"] == sex, "age"]
        one = result["age", sex]
        assert one.n == values.notna().sum()
        assert one.missing == values.isna().sum()
        assert one.mean == pytest.approx(values.mean(), rel=1e-10)
        assert one.variance == pytest.approx(values.var(), rel=1e-10)
    assert set(result.run.participants) == {"North", "East", "South"}
    assert all(result.run.bytes[site] > 0 for site in result.run.participants)
    assert result.run.contract_digest == federation.study().digest


def test_one_variable_may_be_given_by_its_name(federation: LocalFederation) -> None:
    assert federation.study().describe("age", quantiles=[0.5])["age"].median is not None


def test_a_submitted_run_is_found_again(federation: LocalFederation) -> None:
    study = federation.study()
    run = study.submit("stats.describe", {"variables": ["dead"], "by": None})
    assert run.wait(timeout_s=60, progress=True).status == "succeeded"
    again = federation.run(run.id)
    assert again.result().to_json()["result"] == run.result().to_json()["result"]
    assert run.id in {one.id for one in study.runs()}
    assert run.id in {one.id for one in federation.runs()}
    assert run.id[:8] in repr(run)
    assert "stats.describe" in run._repr_html_()


@pytest.mark.parametrize(
    ("attempt", "family", "code"),
    [
        (lambda s: s.describe(["nobody"]), co.InputError, "not-found"),
        (lambda s: s.describe(["age"], by="age"), co.InputError, "bad-input"),
        (lambda s: s.submit("learn.sgd", {}), co.PolicyRefusal, "not-permitted"),
        (lambda s: s.submit("not a name", {}), co.InputError, "bad-input"),
        (lambda s: s.glm("dead ~ __import__('os')"), co.InputError, "bad-formula"),
    ],
)
def test_refusals_are_raised_as_their_own_family(
    federation: LocalFederation, attempt: Any, family: type[co.CohortiumError], code: str
) -> None:
    with pytest.raises(family) as caught:
        attempt(federation.study())
    assert caught.value.code == code


def test_a_proposal_is_signed_by_all(federation: LocalFederation, tmp_path: Any) -> None:
    text = """\
study: second
title: A second study
purpose: To see that proposals work.
participants:
  - {name: North, dataset: local}
  - {name: East, dataset: local}
variables: [age]
computations: [{name: stats.describe}]
min_sites: 2
recipients: [You]
expires_at: "2099-01-01T00:00:00Z"
"""
    file = tmp_path / "study.yaml"
    file.write_text(text)
    study = federation.propose(file)
    assert study.status == "active"
    assert set(study.describe(["age"]).run.participants) == {"North", "East"}
    with pytest.raises(co.InputError, match="several studies"):
        federation.study()
    with pytest.raises(co.InputError) as caught:
        federation.propose(tmp_path / "absent.yaml")
    assert caught.value.code == "not-found"
    with pytest.raises(co.InputError):
        federation.study("../members")


def test_a_limit_that_cannot_be_is_said_in_one_line() -> None:
    with pytest.raises(co.InputError) as caught:
        co.local(_frames(), min_cell=0)
    assert "min_cell" in caught.value.message
    assert "\n" not in caught.value.message


def test_small_cells_are_not_released() -> None:
    few = {site: frame.head(3) for site, frame in _frames().items()}
    with co.local(few, min_cell=20) as made, pytest.raises(co.PolicyRefusal) as caught:
        made.study().describe(["age"])
    assert caught.value.code == "too-few-persons"


def test_closing_leaves_no_thread_and_may_be_repeated() -> None:
    before = {thread.name for thread in threading.enumerate()}
    made = co.local(_frames(50))
    made.study().describe(["age"])
    made.close()
    made.close()
    assert {thread.name for thread in threading.enumerate()} <= before


def test_a_study_keeps_its_federation_and_the_last_one_out_closes_it() -> None:
    before = set(threading.enumerate())
    study = co.local(_frames(50)).study()
    assert study.describe(["age"])["age"].n is not None
    del study
    gc.collect()
    assert set(threading.enumerate()) <= before


def test_a_closed_federation_says_so() -> None:
    made = co.local(_frames(50))
    study = made.study()
    made.close()
    with pytest.raises(co.PeerError, match="was closed"):
        study.describe(["age"])


def test_exit_without_closing_is_quiet() -> None:
    code = (
        "import pandas as pd, cohortium as co\n"
        "frame = pd.DataFrame({'age': range(30)})\n"
        "fed = co.local({'A': frame, 'B': frame})\n"
        "print(fed.study().describe(['age'])['age'].mean)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("14.5\n", "")


def test_closing_cancels_a_run_under_way() -> None:
    made = co.local(_frames(2000))
    made.study().submit("stats.describe", {"variables": ["age"], "by": "sex"})
    made.close()


@pytest.mark.parametrize("frames", [{}, {"A": _frames(20)["North"]}, [1, 2]])
def test_a_federation_has_two_sites(frames: Any) -> None:
    with pytest.raises(co.InputError, match="at least two sites"):
        co.local(frames)


def test_a_site_may_not_ask_for_more_sites_than_there_are() -> None:
    with pytest.raises(co.InputError):
        co.local(_frames(20), min_sites=4)
    with pytest.raises(co.InputError, match="free text"):
        co.local({s: f[["note"]] for s, f in _frames(20).items()})


def test_what_is_kept_off_the_ledger_is_missed_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation_module, "WATCH_S", 0.2)
    with co.local(_frames(50)) as made:
        site = made._consortium.sites[0]
        with site.store.transaction():  # as if it had answered, and nobody had noted it
            site.store.execute(
                "INSERT INTO ledger_due VALUES (?, '2020-01-01T00:00:00Z')", "0" * 32
            )
        site.service.witness._attendance._began = datetime(2020, 1, 1, tzinfo=UTC)
        waited = 0.0
        while not alarms.alarms(site.store):
            assert waited < 20
            time.sleep(0.1)
            waited += 0.1
        (alarm,) = alarms.alarms(site.store)
        assert (alarm.kind, alarm.proof) == ("omission", b"0" * 32)
        with pytest.raises(CohortiumError) as refusal:
            made.study().describe(["age"])
        assert refusal.value.code == "ledger-alarm"
