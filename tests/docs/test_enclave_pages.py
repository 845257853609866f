"""The pages of the enclave name tests that exist, all executors, and commands that run."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from tests.docs.test_examples import blocks
from tests.support.source import ROOT
from typer.testing import CliRunner

from cohortium.cli.enclave import app as enclave
from cohortium.cli.vault import app as vault
from cohortium.contract.task import SecurityLevel
from cohortium.enclave.executor import executors

PAGES = ROOT / "docs" / "enclave"
THREATS = (PAGES / "threat-model.md").read_text(encoding="utf-8")
LISTED = dict(re.findall(r"^\| ([A-Z]\d+) \| (`.+`) \|$", THREATS, re.MULTILINE))
CLAIMS = THREATS.partition("## The tests")[0]
LEVELS: tuple[str, ...] = SecurityLevel.__args__  # type: ignore[attr-defined]


@cache
def _tests(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def _named(cell: str) -> list[tuple[str, str]]:
    """Path and test of each name in a line; ``::name`` has the path before it."""
    found: list[tuple[str, str]] = []
    for path, name in re.findall(r"`([^`:]*)::(\w+)`", cell):
        found.append((path or found[-1][0], name))
    return found


@pytest.mark.parametrize("code", sorted(LISTED))
def test_the_tests_that_the_threat_model_names_exist(code: str) -> None:
    named = _named(LISTED[code])
    assert named
    for path, name in named:
        assert name in _tests(path), f"{code}: {path}::{name}"


def test_every_test_is_named_by_a_claim_and_every_claim_s_is_listed() -> None:
    used = set(re.findall(r"\b([EAVBG]\d{1,2})\b(?!-)", CLAIMS)) - {"B"}
    assert used == set(LISTED)


def test_each_executor_has_a_line_and_a_section() -> None:
    text = (PAGES / "executors.md").read_text(encoding="utf-8")
    for name, one in executors().items():
        if not type(one).__module__.startswith("cohortium."):
            continue
        assert f"\n## {name}\n" in text, name
        assert f"[`{name}`](#{name})" in text, name


def test_the_table_and_clauses_have_every_level_in_both_languages() -> None:
    text = (PAGES / "levels.md").read_text(encoding="utf-8")
    for level in LEVELS:
        assert len(re.findall(rf"^\| {level} \|", text, re.MULTILINE)) >= 2
        assert f"**{level}.** " in text
        assert f"**{level}。** " in text


def test_the_three_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COHORTIUM_VAULT_KEYS", str(tmp_path / "keys"))
    Path("my-program").mkdir()
    Path("my-program/task.yaml").write_text(
        'command: ["{python}", "-S", "{code}/p.py", "{inputs.table}", "{outputs.copy}"]\n'
        "inputs: {table: dataset}\noutputs: [copy]\n"
    )
    Path("my-program/p.py").write_text(
        "import shutil, sys; shutil.copy(sys.argv[1], sys.argv[2] + '/table.csv')"
    )
    Path("table.csv").write_text("age\n61\n")
    lines = [line for _, code in blocks(PAGES / "index.md", "bash") for line in code.splitlines()]
    assert len(lines) == 3
    if executors()["landlock"].missing():
        lines[2] += " --executor process"
    for line in lines:
        _, group, *rest = shlex.split(line)
        result = CliRunner().invoke({"enclave": enclave, "vault": vault}[group], rest)
        assert result.exit_code == 0, result.output
    assert Path("out/copy/table.csv").read_text() == "age\n61\n"
