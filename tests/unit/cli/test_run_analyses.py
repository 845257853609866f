"""The tables and tests from the command line."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from openpyxl import load_workbook
from tests.support.commands import all_commands
from typer.testing import CliRunner, Result

import cohortium as co
from cohortium.cli.main import app
from cohortium.cli.run_analyses import COMMANDS
from cohortium.sdk.cohort import Cohort

runner = CliRunner()


@pytest.fixture(scope="module", autouse=True)
def federation() -> Iterator[None]:
    rng = np.random.default_rng(3)
    frames = {
        name: pd.DataFrame(
            {
                "age": rng.integers(40, 85, 150),
                "arm": rng.choice(["drug", "placebo"], 150),
                "died": rng.choice(["no", "yes"], 150),
            }
        )
        for name in ("North", "South")
    }
    with pytest.MonkeyPatch.context() as patch, co.local(frames) as made:
        patch.setattr("cohortium.sdk.federation.connect", lambda **_: nullcontext(made))
        patch.setattr("sys.argv", ["cohortium"])
        yield


def _run(*arguments: str) -> Result:
    return runner.invoke(app, ["run", "local", *arguments], catch_exceptions=False)


def test_each_command_is_a_method_with_its_parameters() -> None:
    paths = {path[1] for path in all_commands() if path[0] == "run"}
    for command in COMMANDS:
        assert command.name in paths
        named = {parameter.name for parameter in command.parameters}
        assert named <= set(inspect.signature(getattr(Cohort, command.method)).parameters)


def test_each_analysis_with_a_method_has_a_command() -> None:
    own = {name for name in vars(Cohort) if not name.startswith("_")} - {"attrition"}
    every = {
        name
        for name, method in inspect.getmembers(Cohort, inspect.isfunction)
        if not name.startswith("_") and name not in own
    }
    shown = {command.method for command in COMMANDS} | {"describe", "glm", "submit"}
    # A frequency table is a crosstab of one variable.
    assert every - shown == {"frequency"}


@pytest.mark.parametrize(
    ("arguments", "params"),
    [
        (["t-test", "age", "--by", "arm", "--kind", "student"], {"kind": "student", "mu": 0.0}),
        (["t-test", "age", "--by", "arm", "--levels", "placebo", "drug"], {"kind": "welch"}),
        (["crosstab", "died", "--column", "arm"], {"row": "died", "column": "arm"}),
        (["table-one", "age", "died", "--by", "arm"], {"variables": ["age", "died"]}),
        (["missing"], {"variables": ["age", "arm", "died"], "patterns": True}),
        (["missing", "--by", "arm"], {"variables": ["age", "died"], "by": "arm"}),
        (["missing", "age", "died"], {"variables": ["age", "died"]}),
    ],
)
def test_what_is_not_given_is_as_the_method_has_it(
    arguments: list[str], params: dict[str, object]
) -> None:
    done = _run(*arguments, "--json")
    assert done.exit_code == 0, done.output
    assert params.items() <= json.loads(done.stdout)["run"]["params"].items()


def test_a_run_is_not_spent_where_its_output_cannot_be_written(tmp_path: Path) -> None:
    done = _run("t-test", "age", "--by", "arm", "--output", str(tmp_path / "none" / "t.xlsx"))
    assert (done.exit_code, "no folder" in done.output) == (2, True)


def test_words_are_said_in_either_language() -> None:
    assert "Not adjusted for" in _run("t-test", "age", "--by", "arm", "--words").stderr
    done = _run("t-test", "age", "--by", "arm", "--words", "--lang", "zh")
    assert "多重检验" in done.stderr
    assert _run("t-test", "age", "--by", "arm", "--words", "--lang", "fr").exit_code == 2


def test_a_table_for_a_paper_goes_to_a_file(tmp_path: Path) -> None:
    file = tmp_path / "table1.xlsx"
    options = ["--include", "age >= 45", "--no-p", "--output", str(file), "--lang", "zh"]
    done = _run("table-one", "age", "died", "--by", "arm", *options)
    assert done.exit_code == 0, done.output
    sheet = load_workbook(file).active
    assert sheet is not None
    texts = [str(cell.value) for row in sheet.iter_rows() for cell in row if cell.value]
    assert texts[0] == "按 arm 分组的基线特征"
    assert any(text.startswith("纳入标准：age >= 45") for text in texts)
    page = tmp_path / "t.html"
    assert _run("anova", "age", "--by", "arm", "--output", str(page)).exit_code == 0
    assert "<table>" in page.read_text()


def test_the_report_of_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cohortium.sdk.plots.picture", lambda *_: None)  # drawing takes seconds
    assert _run("crosstab", "died").exit_code == 0
    file = tmp_path / "report.html"
    arguments = ["study", "report", "local", "--output", str(file), "--lang", "zh", "--json"]
    done = runner.invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["results"]
    assert "披露控制" in file.read_text(encoding="utf-8")
    wrong = ["study", "report", "local", "--output", str(tmp_path / "report.doc")]
    assert runner.invoke(app, wrong, catch_exceptions=False).exit_code == co.InputError.exit_code
