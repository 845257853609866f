"""``cohortium study show`` and ``diff``: the contract in words, made from the verified document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from tests.support.contracts import NOW, contract
from tests.support.fake_hub import FakeHub
from typer.testing import CliRunner, Result

import cohortium as co
from cohortium.cli.main import app
from cohortium.core.rest import (
    RefusalInfo,
    SignatureInfo,
    StudyInfo,
    StudyStatus,
    SuspensionInfo,
    VersionInfo,
)
from cohortium.errors import InputError
from cohortium.inprocess.federation import LocalFederation
from cohortium.sdk.federation import Federation
from cohortium.sdk.study import Study

PROPOSAL = """\
study: ages
title: Ages
purpose: How old are they?
participants:
  - {name: North, dataset: local}
  - {name: South, dataset: local}
variables: [age]
computations:
  - {name: stats.*, max_runs: %d}
recipients: [You]
expires_at: "2099-01-01T00:00:00Z"
"""


@pytest.fixture(scope="module")
def federation() -> Iterator[LocalFederation]:
    frames = {site: pd.DataFrame({"age": range(60)}) for site in ("North", "South")}
    with co.local(frames) as made:
        made.propose(PROPOSAL % 10)
        made.amend("ages", PROPOSAL % 20)
        yield made


@pytest.fixture
def connected(federation: LocalFederation, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(*_: object, **__: object) -> Iterator[LocalFederation]:
        yield federation

    monkeypatch.setattr("cohortium.sdk.federation.connect", connect)
    monkeypatch.setattr("sys.argv", ["cohortium"])


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


@pytest.mark.usefixtures("connected")
def test_a_contract_is_shown_in_english_and_chinese() -> None:
    english = _run("study", "show", "ages").stdout
    assert english.startswith("Contract: Ages (ages)\n\n1. Purpose\n    | How old are they?\n")
    assert "  - state: active\n  - 2 of 2 signed\n" in english
    assert "runs: at most 20" in " ".join(english.split())
    chinese = _run("study", "show", "ages", "--lang", "zh").stdout
    assert "  - 合同状态：生效\n  - 应签署 2 方，已签署 2 方\n" in chinese
    assert "至多运行 20 次" in chinese
    first = _run("study", "show", "ages", "--version", "1").stdout
    assert "  - state: superseded by another version\n" in first
    assert "runs: at most 10" in " ".join(first.split())


@pytest.mark.usefixtures("connected")
def test_the_text_can_go_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "contract.txt"
    done = _run("study", "show", "ages", "--lang", "zh", "--output", str(file))
    assert (done.exit_code, done.stdout) == (0, "")
    assert "第 1 条 研究目的" in file.read_text(encoding="utf-8")


@pytest.mark.usefixtures("connected")
def test_the_difference_of_two_versions_is_shown(
    federation: LocalFederation, tmp_path: Path
) -> None:
    told = "[LOOSENS PROTECTION] The number of runs of computation stats.* was 10 and becomes 20\n"
    assert told in _run("study", "diff", "ages").stdout
    digests = [one.contract_digest for one in federation.study("ages").versions]
    by_digest = ("--from", digests[0][:20], "--to", digests[1].removeprefix("sha256:")[:10])
    assert told in _run("study", "diff", "ages", *by_digest).stdout
    back = _run("study", "diff", "ages", "--from", "2", "--to", "1", "--lang", "zh").stdout
    assert "【加强保护】 计算 stats.* 的运行次数上限：原为 20，变更为 10\n" in back
    data: Any = json.loads(_run("study", "diff", "ages", "--json").stdout)
    assert [data["from"], data["to"]] == digests
    runs = [one for one in data["changes"] if one["path"][-1] == "max_runs"]
    assert [(one["before"], one["after"], one["effect"]) for one in runs] == [(10, 20, "looser")]
    file = tmp_path / "diff.txt"
    assert _run("study", "diff", "ages", "--output", str(file)).stdout == ""
    assert told in file.read_text(encoding="utf-8")


def test_a_draft_is_shown_with_what_it_waits_for(
    federation: LocalFederation, connected: None
) -> None:
    text = (PROPOSAL % 1).replace("study: ages", "study: open").replace(", dataset: local", "")
    made = federation.draft(text.replace("[age]", "[{name: age, type: integer}]"))
    shown = _run("study", "show", "open", "--draft").stdout
    assert shown.startswith("Draft of a contract, under which nothing may run: Ages (open)\n")
    assert "  - slot dataset/North waits for North\n" in shown
    assert "尚待 North 填入" in _run("study", "show", "open", "--draft", "--lang", "zh").stdout
    data: Any = json.loads(_run("study", "show", "open", "--draft", "--json").stdout)
    assert data["draft_digest"] == made.digest


@pytest.mark.usefixtures("connected")
@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["study", "show", "ages", "--lang", "tlh"], "there is en, zh"),
        (["study", "show", "ages", "--version", "3"], "no version 3"),
        (["study", "show", "ages", "--version", "sha256:12"], "no version sha256:12"),
        (["study", "diff", "local"], "amends nothing"),
        (["study", "diff", "ages", "--to", "1"], "amends nothing"),
    ],
)
def test_what_cannot_be_shown_is_an_error_of_the_caller(arguments: list[str], why: str) -> None:
    done = _run(*arguments)
    assert done.exit_code == InputError.exit_code
    assert why in " ".join(done.stderr.split())


# --- the SDK, with a hub that lies ----------------------------------------------------------------


def _info(**changes: Any) -> StudyInfo:
    made = contract(consortium="sha256:" + "a" * 64)
    status: StudyStatus = changes.pop("status", "active")
    return StudyInfo(
        id="lung",
        contract_digest=made.digest,
        status=status,
        contract=made.to_json(),
        versions=(VersionInfo(version=1, contract_digest=made.digest, status=status),),
        **changes,
    )


def _study(**changes: Any) -> Study:
    answers: dict[str, Any] = {"GET /studies/lung": _info(**changes).to_json()}
    return Federation(FakeHub(answers).client(), "Test").study("lung")


def test_the_text_of_the_hub_is_not_shown() -> None:
    study = _study(rendered="Everybody may do anything.")
    assert "anything" not in study.text
    assert "at least 2 of the 2 participants" in study.text
    assert study.text == study.render()


def test_the_standing_is_what_the_hub_says() -> None:
    suspended = _study(
        status="suspended",
        signatures=tuple(SignatureInfo(site=s, signed_at=NOW) for s in ("Aarhus", "Boston", "Eve")),
        suspensions=(SuspensionInfo(by="Aarhus", computations=("glm",)),),
    )
    assert (
        "  - state: suspended\n  - Aarhus has suspended these computations: glm\n"
        "  - 2 of 2 signed\n"
    ) in suspended.text
    refused = _study(
        status="refused",
        refusals=(RefusalInfo(site="Boston", reason="No.", at=NOW),),
        ended_by="Boston",
        reason="No.",
    )
    assert "  - state: refused\n  - ended by Boston:\n    | No.\n" in refused.text
    assert "state: active" in _study(status="expired").text
    assert _study().predecessor is None


def test_a_number_that_two_amendments_share_needs_a_digest() -> None:
    made = _info()
    other = VersionInfo(version=1, contract_digest="sha256:" + "b" * 64, status="superseded")
    made = made.model_copy(update={"versions": (*made.versions, other)})
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> Any:
        asked.append(request)
        return made.to_json()

    federation = Federation(FakeHub({"GET /studies/lung": answer}).client(), "Test")
    with pytest.raises(InputError) as caught:
        federation.study("lung", 1)
    assert caught.value.details["contracts"] == [made.contract_digest, other.contract_digest]
    assert federation.study("lung", made.contract_digest[:20]).digest == made.contract_digest
    assert asked[-1].url.params["contract"] == made.contract_digest
