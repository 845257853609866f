"""``cohortium audit`` against a real hub in this process, and on files that are wrong."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.support.audit import honest, key
from tests.support.audit_faults import FAULTS, released
from tests.support.audit_tasks import TaskStory, lending, run_at_l4, simulated_terms
from typer.testing import CliRunner, Result

import cohortium as co
from cohortium.audit.steps import STEPS
from cohortium.audit.verify import verify
from cohortium.cli.main import app
from cohortium.core.canonical import canonical
from cohortium.crypto.keys import fingerprint
from cohortium.errors import VerificationError
from cohortium.inprocess.federation import LocalFederation

runner = CliRunner()


@pytest.fixture(scope="module")
def federation() -> Iterator[LocalFederation]:
    rng = np.random.default_rng(1)
    frames = {
        site: pd.DataFrame(
            {"age": np.round(rng.normal(60, 9, 150), 1), "dead": rng.integers(0, 2, 150)}
        )
        for site in ("North", "South")
    }
    with co.local(frames) as made:
        yield made


@pytest.fixture(autouse=True)
def connected(federation: LocalFederation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    @contextmanager
    def connect(*_: object, **__: object) -> Iterator[LocalFederation]:
        yield federation

    monkeypatch.setattr("cohortium.sdk.federation.connect", connect)
    monkeypatch.setattr("sys.argv", ["cohortium"])
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    return runner.invoke(app, list(arguments), catch_exceptions=False)


def run_json(*arguments: str) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The honest bundle of the tests' story, and the results in ``results``."""
    story, path = honest(), tmp_path / "lung.audit.json"
    path.write_bytes(canonical(story.story.seal()))
    (tmp_path / "results").mkdir()
    for run_id, result in released(story).items():
        saved = {"run": {"id": run_id}, "result": json.loads(result)}
        (tmp_path / "results" / f"{run_id}.json").write_text(json.dumps(saved, indent=2))
    return path


def test_what_a_researcher_saves_is_verified_against_what_the_hub_exports() -> None:
    described = run("run", "local", "describe", "age", "-o", "age.json")
    fitted = run("run", "local", "glm", "dead ~ age", "-o", "fit.json")
    assert (described.exit_code, fitted.exit_code) == (0, 0)
    exported = run_json("audit", "export", "local", "-o", "local.audit.json")
    assert exported["study"] == "local"
    assert exported["bytes"] == Path("local.audit.json").stat().st_size
    found = run_json(
        *("audit", "verify", "local.audit.json", "--result", "age.json", "--result", "fit.json")
    )
    runs = {json.loads(Path(name).read_text())["run"]["id"] for name in ("age.json", "fit.json")}
    assert set(found["results"]) == runs
    assert found["complete"] is False
    shown = run("run", "show", min(runs)[:8], "-o", "shown.json")
    assert shown.exit_code == 0
    assert run("audit", "verify", "local.audit.json", "--result", "shown.json").exit_code == 0
    altered = json.loads(Path("fit.json").read_text())
    altered["result"]["n"] += 1
    Path("fit.json").write_text(json.dumps(altered))
    done = run("audit", "verify", "local.audit.json", "--result", "fit.json")
    assert done.exit_code == VerificationError.exit_code
    assert "Step 14 (results)" in done.stderr


def test_the_whole_ledger_and_the_default_file() -> None:
    assert "all " in run("audit", "export", "local", "--whole").stdout
    found = run_json("audit", "verify", "local.audit.json")
    assert found["complete"] is True
    assert [step["name"] for step in found["steps"]] == list(STEPS)


def test_the_sdk_gives_what_it_has_verified(federation: LocalFederation, tmp_path: Path) -> None:
    audit = federation.study().audit()
    assert "facts hold" in repr(audit)
    assert "signed version 1" in audit._repr_html_()
    saved = audit.save(tmp_path / "bundle.json")
    assert verify(saved.read_bytes()).events == audit.events
    assert all(party.pinned for party in audit.report.parties)


def test_the_timeline_says_who_did_what_and_which_keys_to_compare(bundle: Path) -> None:
    done = run("audit", "verify", str(bundle), "--results", "results")
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    for words in ("Boston suspended version 1", "Ada was refused stats.describe"):
        assert words in text
    assert fingerprint(key("Cairo").public) in text
    assert "compare" in text
    assert "It cannot be seen whether entries were left out" in text
    compared = sorted(path.stem[:8] for path in Path("results").iterdir())
    assert f"Results compared: {', '.join(compared)}" in text


def test_what_could_not_be_checked_is_not_said_to_hold(tmp_path: Path) -> None:
    story = TaskStory()
    contract = story.begin(lending(story, **simulated_terms()))
    run_at_l4(story, story.ask(contract))
    made = story.seal()
    whole, hidden = tmp_path / "whole.json", tmp_path / "hidden.json"
    whole.write_bytes(canonical(made))
    (receipt,) = made["releases"]
    del receipt["nonce"], made["statements"][receipt.pop("outcome")]
    hidden.write_bytes(canonical(made))
    text = " ".join(run("audit", "verify", str(whole)).stdout.split())
    assert "facts hold, in 15 steps." in text
    assert "on evidence" in text
    done = run("audit", "verify", str(hidden))
    assert done.exit_code == 0
    text = " ".join(done.stdout.split())
    assert "of those that could be checked here. NOT CHECKED: step 15 (outcomes), entry" in text
    (left,) = run_json("audit", "verify", str(hidden))["unchecked"]
    assert left["step"] == "outcomes"
    missing = run("audit", "verify", str(whole), "--collateral", str(tmp_path / "none"))
    assert (missing.exit_code, "no folder" in missing.stderr) == (2, True)


def test_known_keys_are_pinned(bundle: Path) -> None:
    good, other = f"Boston={key('Boston').public}", f"Boston={key('Cairo').public}"
    found = run_json("audit", "verify", str(bundle), "--key", good, "--key", other)
    assert {one["name"] for one in found["parties"] if one["pinned"]} == {"Boston"}
    done = run("audit", "verify", str(bundle), "--key", other)
    assert (done.exit_code, "Step 7 (parties)" in done.stderr) == (4, True)
    for wrong in ("Boston", "=ed25519:x", "Boston=x"):
        assert run("audit", "verify", str(bundle), "--key", wrong).exit_code == 2
    done = run("audit", "verify", str(bundle), "--key", f"Bostom={key('Boston').public}")
    assert (done.exit_code, "names nobody 'Bostom'" in done.stderr) == (2, True)


def test_known_keys_come_from_a_file_too(bundle: Path) -> None:
    log = json.loads(bundle.read_bytes())["log"]["keys"][0]["key"]
    keys = {"Boston": key("Boston").public, "Cairo": [key("Cairo").public], "Nobody": "ed25519:x"}
    Path("keys.json").write_text(json.dumps({"keys": keys, "log": log}))
    found = run_json("audit", "verify", str(bundle), "--trust", "keys.json")
    assert {one["name"] for one in found["parties"] if one["pinned"]} == {"Boston", "Cairo"}
    Path("keys.json").write_text(json.dumps({"keys": {"Boston": key("Cairo").public}}))
    assert run("audit", "verify", str(bundle), "--trust", "keys.json").exit_code == 4
    Path("keys.json").write_text(json.dumps({"log": log + "A"}))
    assert run("audit", "verify", str(bundle), "--trust", "keys.json").exit_code == 4


@pytest.mark.parametrize(
    "text", ["", "[]", '{"key": {}}', '{"keys": []}', '{"log": 1}', '{"keys": {"A": [1]}}']
)
def test_a_file_of_keys_that_is_none_is_refused(bundle: Path, text: str) -> None:
    Path("keys.json").write_text(text)
    done = run("audit", "verify", str(bundle), "--trust", "keys.json")
    assert (done.exit_code, "keys.json is not" in done.stderr) == (2, True)


def test_results_that_are_none_are_named(bundle: Path) -> None:
    (Path("results") / "notes.json").write_text("[1, 2]")
    done = run("audit", "verify", str(bundle), "--results", "results")
    assert done.exit_code == 0
    assert "notes.json is not a result" in done.stderr
    assert run("audit", "verify", str(bundle), "--result", "results/notes.json").exit_code == 2
    assert run("audit", "verify", str(bundle), "--result", "nothing.json").exit_code == 2
    first, second = sorted(Path("results").glob("?" * 32 + ".json"))
    good, wrong = f"{first.stem[:8]}={first}", f"{second.stem[:8]}={first}"
    assert run("audit", "verify", str(bundle), "--result", good).exit_code == 0
    assert run("audit", "verify", str(bundle), "--result", wrong).exit_code == 2
    (Path("results") / "twice.json").write_text(first.read_text().replace("212", "213"))
    done = run("audit", "verify", str(bundle), "--results", "results")
    assert (done.exit_code, "two different results" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing.json"],
        ["lung.audit.json", "--trust", "no"],
        ["lung.audit.json", "--results", "no"],
    ],
)
def test_files_that_are_not_there_are_named(bundle: Path, arguments: list[str]) -> None:
    done = run("audit", "verify", *arguments)
    assert (done.exit_code, arguments[-1] in done.stderr) == (2, True)


@pytest.mark.parametrize("fault", FAULTS[::9], ids=lambda fault: f"{fault.step}: {fault.name}")
def test_the_first_false_fact_decides_the_exit_code(fault: Any, tmp_path: Path) -> None:
    story = honest()
    (tmp_path / "bad.json").write_bytes(fault.data(story))
    arguments = []
    for run_id, result in fault.results(story).items():
        saved = {"run": {"id": run_id}, "result": json.loads(result)}
        (tmp_path / f"{run_id}.json").write_text(json.dumps(saved))
        arguments += ["--result", f"{run_id}.json"]
    (tmp_path / "keys.json").write_text(
        json.dumps(
            {"keys": {name: sorted(keys) for name, keys in fault.trust.keys.items()}}
            | ({} if fault.trust.log is None else {"log": fault.trust.log})
        )
    )
    done = run("audit", "verify", "bad.json", "--trust", "keys.json", *arguments)
    assert done.exit_code == (5 if fault.step == "format" else 4)
    assert f"Step {STEPS[fault.step].number} ({fault.step})" in done.stderr
    assert done.stdout == ""
