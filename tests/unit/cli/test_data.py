"""``cohortium data`` as a steward uses it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cohortium.cli.data import app

CSV = "age,sex\n61,f\n47,m\n70,m\n52,f\n"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("heart.csv").write_text(CSV)
    (tmp_path / "node").mkdir()
    monkeypatch.setenv("COHORTIUM_NODE_DIR", str(tmp_path / "node"))
    return tmp_path / "node"


def call(*arguments: str, status: int = 0, answer: str | None = None) -> str:
    result = CliRunner().invoke(app, list(arguments), input=answer)
    assert result.exit_code == status, result.output
    return result.stdout if status == 0 else result.stderr


def test_add_edit_confirm_show_remove(node: Path) -> None:
    added = json.loads(call("add", "heart", "heart.csv", "--json"))
    assert (added["status"], added["digest"], added["n_rows"]) == ("draft", None, 4)
    file = Path(added["dictionary_file"])
    assert file == node / "datasets" / "heart" / "dictionary.yaml"
    file.write_text(file.read_text().replace("unit:", "unit: years", 1))
    confirmed = json.loads(call("confirm", "heart", "--json"))
    assert confirmed["status"] == "confirmed"
    assert confirmed["digest"].startswith("sha256:")
    assert confirmed["dictionary"]["variables"][0] == {
        "name": "age",
        "type": "integer",
        "unit": "years",
        "missing": 0,
    }
    (listed,) = json.loads(call("list", "--json"))
    assert listed["digest"] == confirmed["digest"]
    assert json.loads(call("show", "heart", "--json")) == confirmed
    text = call("show", "heart")
    assert "f, m" in text
    assert json.loads(call("remove", "heart", "--yes", "--json")) == {
        "name": "heart",
        "removed": True,
        "studies": [],
    }
    assert json.loads(call("list", "--json")) == []
    assert "No dataset" in call("list")


def test_texts_say_what_to_do_next(node: Path) -> None:
    added = call("add", "heart", "heart.csv")
    assert "cohortium data confirm heart" in added.replace("\n", " ")
    assert "draft" in call("list")
    assert "is confirmed" in call("confirm", "heart")
    assert "is confirmed" in call("add", "heart2", "heart.csv", "--yes")
    assert (node / "datasets" / "heart2" / "data.parquet").exists()


def test_removing_asks(node: Path) -> None:
    call("add", "heart", "heart.csv")
    call("remove", "heart", answer="n\n", status=1)
    assert "draft" in call("list")
    call("remove", "heart", answer="y\n")
    assert "No dataset" in call("list")


def test_errors_have_their_exit_codes(node: Path) -> None:
    assert "no file" in call("add", "heart", "absent.csv", status=2)
    call("add", "heart", "heart.csv")
    assert "already" in call("add", "heart", "heart.csv", status=7)
    assert "no dataset" in call("show", "other", status=2)
    Path("bad.csv").write_text("a,b\n1\n")
    assert "line 2" in call("add", "bad", "bad.csv", status=2)


def test_a_node_folder_is_needed(node: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COHORTIUM_NODE_DIR")
    assert "--dir" in call("list", status=2)
    assert json.loads(call("list", "--dir", str(node), "--json")) == []
