"""``cohortium study``, ``run`` and ``user`` against a real hub in this process."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

import cohortium as co
from cohortium.cli.main import app
from cohortium.core.rest import API
from cohortium.hub.api import build_app
from cohortium.inprocess.federation import LocalFederation
from cohortium.inprocess.transport import AsgiTransport
from cohortium.sdk.profile import Profile

runner = CliRunner()


def _frames() -> dict[str, pd.DataFrame]:
    out = {}
    for number, site in enumerate(("North", "South")):
        rng = np.random.default_rng(number)
        age = np.round(rng.normal(60, 9, 150), 1)
        dead = (rng.random(150) < 1 / (1 + np.exp(-(age - 60) / 12))).astype(int)
        out[site] = pd.DataFrame({"age": age, "dead": dead, "sex": rng.choice(["f", "m"], 150)})
    return out


@pytest.fixture(scope="module")
def federation() -> Iterator[LocalFederation]:
    with co.local(_frames()) as made:
        yield made


@pytest.fixture(autouse=True)
def connected(federation: LocalFederation, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def connect(*_: object, **__: object) -> Iterator[LocalFederation]:
        yield federation

    monkeypatch.setattr("cohortium.sdk.federation.connect", connect)
    monkeypatch.setattr("sys.argv", ["cohortium"])


def _run(*arguments: str) -> Result:
    return runner.invoke(app, list(arguments), catch_exceptions=False)


def _json(*arguments: str) -> Any:
    done = _run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_describe_and_glm_with_the_study_first() -> None:
    described = _json("run", "local", "describe", "age", "--by", "sex", "-q", "0.5")
    assert {group["level"] for group in described["result"]["groups"]} == {"f", "m"}
    assert described["run"]["status"] == "succeeded"
    fit = _json("run", "local", "glm", "dead ~ age", "--family", "binomial")
    assert fit["result"]["terms"] == ["Intercept", "age"]
    options = ("--family", "gamma", "--link", "log", "--errors", "HC3")
    gamma = _json("run", "local", "glm", "age ~ sex", *options)["result"]
    assert (gamma["family"], gamma["link"], gamma["errors"]) == ("gamma", "log", "HC3")
    text = _run("run", "local", "glm", "dead ~ age").stdout
    assert "Generalized linear model" in text
    assert "bytes left the sites" in text


@pytest.mark.parametrize("arguments", [["local"], ["local", "forest", "age"]])
def test_a_run_without_a_computation_names_them(arguments: list[str]) -> None:
    done = _run("run", *arguments)
    assert done.exit_code == 2
    assert "describe, " in " ".join(done.stderr.split())


def test_criteria_and_derived_variables_are_options_of_every_computation() -> None:
    persons = ("--include", "age >= 50", "--include", "sex = 'f'", "--exclude", "old")
    derive = ("--derive", "old = age > 70")
    described = _json("run", "local", "describe", "age", *persons, *derive)
    assert described["run"]["cohort"] == {
        "include": ["age >= 50", "sex = 'f'"],
        "exclude": ["old"],
        "derived": [{"name": "old", "expression": "age > 70"}],
    }
    fit = _json("run", "local", "glm", "dead ~ old + age", *derive, "--include", "sex = 'm'")
    assert fit["result"]["terms"] == ["Intercept", "old", "age"]
    params = ("--params", '{"variables": ["age"]}', "--include", "age < 70")
    assert _json("run", "local", "submit", "stats.describe", *params)["run"]["cohort"] == {
        "include": ["age < 70"],
        "exclude": [],
        "derived": [],
    }
    done = _run("run", "local", "describe", "age", "--include", "agee > 1")
    assert (done.exit_code, "Did you mean age?" in done.stderr) == (2, True)


def test_missing_values_are_filled_by_an_option() -> None:
    run = _json("run", "local", "describe", "age", "--fill", "age = 50")["run"]
    assert run["cohort"]["filled"] == [{"variable": "age", "value": 50}]
    done = _run("run", "local", "describe", "age", "--fill", "age")
    assert (done.exit_code, "a name, = and a value" in done.stderr) == (2, True)


def test_a_table_in_a_file_has_no_column_of_line_numbers(tmp_path: Path) -> None:
    file = tmp_path / "age.csv"
    assert _run("run", "local", "describe", "age", "--output", str(file)).exit_code == 0
    assert file.read_text().startswith("variable,level,n,missing,mean")
    assert _run("run", "local", "glm", "dead ~ age", "--output", str(file)).exit_code == 0
    assert file.read_text().startswith("term,")


def test_an_interrupted_wait_says_where_the_run_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: co.Run) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(co.Run, "result", interrupted)
    done = _run("run", "local", "describe", "age")
    assert done.exit_code == 130
    assert "Its result: cohortium run show " in done.stderr


@pytest.mark.parametrize("name", ["fit.json", "fit.csv", "fit.txt", "fit.svg"])
def test_output_goes_to_a_file_by_its_ending(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    done = _run("run", "local", "glm", "dead ~ age", "--output", str(file))
    assert done.exit_code == 0
    text = file.read_text()
    expected = {"json": '"params"', "csv": "std_error", "txt": "coef", "svg": "<svg"}
    assert expected[name.rpartition(".")[2]] in text


def test_a_json_file_is_written_with_json_too(tmp_path: Path) -> None:
    file = tmp_path / "fit.json"
    done = _run("run", "local", "glm", "dead ~ age", "--output", str(file), "--json")
    assert done.stdout == ""
    assert json.loads(file.read_text())["result"]["n"] == 300


def test_submit_list_show_cancel() -> None:
    info = _json(
        "run", "local", "submit", "stats.describe", "--params", '{"variables":["age"]}', "--no-wait"
    )
    shown = _json("run", "show", info["id"])
    assert shown["run"]["id"] == info["id"]
    assert _json("run", "show", info["id"][:8])["run"]["id"] == info["id"]
    assert info["id"] in {one["id"] for one in _json("run", "list", "local")}
    assert "describe" in _run("run", "list").stdout
    cancelled = _run("run", "cancel", info["id"])
    assert cancelled.exit_code in {0, co.ConflictError.exit_code}
    resumed = _run("run", "resume", info["id"])
    assert resumed.exit_code == co.ConflictError.exit_code


@pytest.mark.parametrize(
    ("arguments", "family"),
    [
        (["run", "local", "describe", "nobody"], co.InputError),
        (["run", "elsewhere", "describe", "age"], co.InputError),
        (["run", "local", "submit", "glm", "--params", "[1"], co.InputError),
        (["run", "local", "submit", "glm", "--params", "[1]"], co.InputError),
        (["run", "local", "submit", "learn.sgd"], co.PolicyRefusal),
        (["run", "show", "absent"], co.InputError),
        (["run", "show", "01234567"], co.InputError),
        (["study", "show", "absent"], co.InputError),
        (["study", "propose", "absent.yaml"], co.InputError),
        (["user", "create", "cohortium-invite-1.nonsense"], co.VerificationError),
        (["user", "show", "--profile", "absent"], co.InputError),
    ],
)
def test_errors_have_their_exit_code_and_say_why(
    arguments: list[str],
    family: type[co.CohortiumError],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("COHORTIUM_PROFILE", raising=False)
    done = _run(*arguments)
    assert done.exit_code == family.exit_code, done.output
    assert done.stderr.startswith("Error (")
    assert done.stdout == ""


def test_study_list_and_show(tmp_path: Path) -> None:
    listed = _json("study", "list")
    assert [one["id"] for one in listed] == ["local"]
    assert "active" in _run("study", "list").stdout
    shown = _json("study", "show", "local")
    assert shown["status"] == "active"
    assert shown["contract"]["study"] == "local"
    assert "North" in _run("study", "show", "local").stdout
    file = tmp_path / "contract.txt"
    assert _run("study", "show", "local", "--output", str(file)).exit_code == 0
    assert "North" in file.read_text()


def test_user_create_writes_key_and_profile_once(
    federation: LocalFederation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = federation._consortium
    transport = AsgiTransport(build_app(consortium.hub), consortium.thread)
    monkeypatch.setattr("cohortium.sdk.enrol.fetch_consortium", lambda url, ca: consortium.info)
    monkeypatch.setattr(
        "cohortium.sdk.enrol.pinned_http",
        lambda url, ca_pem, ca: httpx.Client(base_url="http://local" + API, transport=transport),
    )
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("COHORTIUM_PROFILE", raising=False)
    invite = consortium.hub.members.invite
    text = invite("Dr. Ada", kind="researcher", hub="https://hub.example:8443").to_text()
    made = _json("user", "create", text)
    assert made["user"] == "Dr. Ada"
    assert Path(made["key_file"]).stat().st_mode & 0o077 == 0
    assert Path(made["profile"]).parent == tmp_path / "cohortium" / "profiles"
    assert {user.name for user in federation.users} >= {"You", "Dr. Ada"}
    assert _json("user", "show")["key"] == made["key"]
    assert [one["user"] for one in _json("user", "list")] == ["Dr. Ada"]
    assert "Dr. Ada" in _run("user", "list").stdout
    assert _run("user", "create", text).exit_code == co.ConflictError.exit_code
    again = _run("user", "create", text, "--profile", "again")
    assert again.exit_code == co.VerificationError.exit_code
    site = invite("East", kind="site", hub="https://hub.example:8443").to_text()
    wrong = _run("user", "create", site, "--profile", "site")
    assert wrong.exit_code == co.InputError.exit_code
    assert Profile.from_bytes(Path(made["profile"]).read_bytes()).url == "https://hub.example:8443"


def test_a_misspelt_computation_is_not_proposed(tmp_path: Path) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(
        "study: second\ntitle: T\npurpose: P\nparticipants:\n"
        "  - {name: North, dataset: local}\n  - {name: South, dataset: local}\n"
        "variables: [age]\ncomputations:\n  - name: gml\nmin_sites: 2\nrecipients: [You]\n"
        'expires_at: "2099-01-01T00:00:00Z"\n'
    )
    done = _run("study", "propose", str(file))
    assert done.exit_code == co.InputError.exit_code
    assert "no analysis 'gml'" in done.stderr
    assert "Did you mean glm?" in done.stderr
