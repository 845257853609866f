"""A study's life as its researcher sees it, on a whole federation in this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

import cohortium as co
from cohortium.core.rest import StatementInfo
from cohortium.errors import ConflictError, InputError, PolicyRefusal, VerificationError
from cohortium.inprocess.federation import LocalFederation
from cohortium.sdk.history import verified

YAML = """\
study: {study}
title: {title}
purpose: To test.
participants: [{{name: North{dataset}}}, {{name: South{dataset}}}]
variables: [{variables}]
computations: [{{name: stats.*}}]
min_sites: 2
recipients: [You]
expires_at: "2099-01-01T00:00:00Z"
"""
TYPED = "{name: age, type: real, decimals: 1}"


def yaml(study: str, title: str = "A title", **fields: str) -> str:
    values = {"dataset": ", dataset: local", "variables": "age"} | fields
    return YAML.format(study=study, title=title, **values)


@pytest.fixture(scope="module")
def federation() -> Iterator[LocalFederation]:
    frames = {}
    for number, site in enumerate(("North", "South")):
        rng = np.random.default_rng(number)
        frames[site] = pd.DataFrame({"age": np.round(rng.normal(60, 9, 50), 1)})
    with co.local(frames) as made:
        yield made


def test_an_old_study_object_says_that_a_new_version_is_in_force(
    federation: LocalFederation,
) -> None:
    first = federation.propose(yaml("amended"))
    assert first.describe("age").run.status == "succeeded"
    with pytest.raises(ConflictError) as exists:
        federation.propose(yaml("amended", "Another"))
    assert (exists.value.code, "amend" in exists.value.message) == ("already-exists", True)
    second = federation.amend("amended", yaml("amended", "Better"))
    assert (second.version, second.status, second.title) == (2, "active", "Better")
    assert second.contract.amends == first.digest
    with pytest.raises(ConflictError, match=r"fed\.study\('amended'\)") as stale:
        first.describe("age")
    assert (stale.value.code, stale.value.details["current"]) == ("stale-version", second.digest)
    assert first.refresh().status == "superseded"
    assert first.newer is not None
    assert first.newer.contract_digest == second.digest
    assert second.newer is None
    assert federation.study("amended").digest == second.digest
    assert second.describe("age").run.contract_digest == second.digest
    assert {run.info.contract_digest for run in federation.runs("amended")} == {
        first.digest,
        second.digest,
    }
    assert "version 2" in repr(second)
    assert [(v.version, v.status) for v in second.refresh().versions] == [
        (1, "superseded"),
        (2, "active"),
    ]


def test_a_researcher_suspends_resumes_and_closes(federation: LocalFederation) -> None:
    study = federation.propose(yaml("closed"))
    assert study.suspend("A doubt.").status == "suspended"
    with pytest.raises(PolicyRefusal) as held:
        study.describe("age")
    assert held.value.code == "contract-suspended"
    assert study.resume("Settled.").status == "active"
    assert study.suspend("Not this.", ["stats.describe"]).status == "suspended"
    assert study.resume("Settled.").status == "active"
    assert study.close("Done.", keeps=["The results, ten years, by You."]).status == "closed"
    with pytest.raises(PolicyRefusal) as ended:
        study.describe("age")
    assert ended.value.code == "contract-ended"
    history = study.history()
    assert [(said.author, said.action, said.state) for said in history] == [
        ("You", "propose", "proposed"),
        ("North", "sign", "proposed"),
        ("South", "sign", "active"),
        ("You", "suspend", "suspended"),
        ("You", "resume", "active"),
        ("You", "suspend", "suspended"),
        ("You", "resume", "active"),
        ("You", "close", "closed"),
    ]
    assert history[-1].keeps == ("The results, ten years, by You.",)
    assert history[5].computations == ("stats.describe",)
    assert list(history.to_frame()["action"])[-1] == "close"
    assert "close" in repr(history)
    assert "Done." in history._repr_html_()
    with pytest.raises(InputError, match="reason"):
        study.close("  ")


def test_a_proposal_is_withdrawn(federation: LocalFederation) -> None:
    study = super(LocalFederation, federation).submit_proposal(_read(yaml("withdrawn")))
    assert study.status == "proposed"
    with pytest.raises(PolicyRefusal) as early:
        study.describe("age")
    assert early.value.code == "contract-not-active"
    assert study.withdraw("A mistake.").status == "withdrawn"
    assert study.info.reason == "A mistake."
    with pytest.raises(ConflictError) as nothing:
        federation.amend("withdrawn", yaml("withdrawn"))
    assert nothing.value.code == "stale-version"


def test_sites_fill_the_slots_of_a_draft(federation: LocalFederation) -> None:
    text = yaml("drafted", dataset="", variables=TYPED)
    with pytest.raises(InputError, match="gives no dataset"):
        federation.propose(text)
    draft = federation.draft(text)
    assert set(draft.unfilled) == {"dataset/North", "dataset/South"}
    assert "slot dataset/North waits for North" in draft.render()
    with pytest.raises(ConflictError, match="unfilled"):
        draft.propose()
    consortium = federation._consortium
    consortium.thread.run(consortium.hub.delivered())
    for site in consortium.sites:
        name = site.identity.name
        datasets = site.service.datasets
        site.service.drafts.assign("drafted", f"dataset/{name}", "local", datasets)
        consortium.thread.run(site.flush())
    assert [one.id for one in federation.drafts] == ["drafted"]
    assert "North has assigned local to slot dataset/North" in draft.refresh().render()
    study = draft.propose()
    assert study.digest == draft.contract.digest
    assert federation.drafts == []
    consortium.sign(study.contract)
    assert study.refresh().describe("age").run.status == "succeeded"
    assert "dataset/North" in draft._repr_html_()
    with pytest.raises(InputError):
        federation.drafted("unknown")


def test_a_hub_that_answers_with_another_version_is_caught(
    federation: LocalFederation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = federation.propose(yaml("swapped"))
    second = federation.amend("swapped", yaml("swapped", "Better"))
    get = federation._client.get
    monkeypatch.setattr(federation._client, "get", lambda path, **_: get(path))
    with pytest.raises(VerificationError, match="another contract"):
        first.refresh()
    swapped = second.info.model_copy(update={"contract": first.contract.to_json()})
    with pytest.raises(VerificationError) as caught:
        co.Study(federation._client, swapped)
    assert caught.value.code == "bad-digest"


def _read(text: str) -> Any:
    from cohortium.contract.proposal import read_proposal

    return read_proposal(text)


@pytest.mark.parametrize(
    "lie",
    [
        {"action": "resume"},
        {"author": "South"},
        {"state": "active"},
        {"version": 2},
        {"contract_digest": "sha256:" + "0" * 64},
    ],
)
def test_a_hub_that_lies_about_a_statement_is_caught(
    federation: LocalFederation, lie: dict[str, Any]
) -> None:
    if "local" not in {s.id for s in federation.studies if s.status == "suspended"}:
        federation.study("local").suspend("A doubt.")
    infos = _listed(federation, "local")
    assert verified(infos)[-1].action == "suspend"
    with pytest.raises(VerificationError):
        verified([*infos[:-1], infos[-1].model_copy(update=lie)])


def test_a_hub_that_leaves_statements_out_or_turns_them_round_is_caught(
    federation: LocalFederation,
) -> None:
    infos = _listed(federation, "local")
    without_a_signature = [infos[0], *infos[2:]]
    last_first = [infos[-1], *infos[:-1]]
    garbled = infos[1].model_copy(update={"envelope": infos[2].envelope})
    for listed in (without_a_signature, last_first, [infos[0], garbled, *infos[2:]]):
        with pytest.raises(VerificationError):
            verified(listed)


def _listed(federation: LocalFederation, study: str) -> list[StatementInfo]:
    listed = federation._client.get(f"/studies/{study}/statements")
    return [StatementInfo.from_json(one) for one in listed]
