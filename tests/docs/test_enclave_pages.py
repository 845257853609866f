"""The pages of the enclave name tests that exist, all executors, and commands that run."""

from __future__ import annotations

import ast
import json
import re
import shlex
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from tests.docs.test_examples import blocks
from tests.support.source import ROOT
from typer.testing import CliRunner

from cohortium.cli.enclave import app as enclave
from cohortium.cli.vault import app as vault
from cohortium.contract.model import Environment
from cohortium.contract.proposal import read_study
from cohortium.contract.task import SecurityLevel
from cohortium.enclave import builtin
from cohortium.enclave.attestation.policy import REGISTERS, AppraisalPolicy
from cohortium.enclave.executor import executors
from cohortium.enclave.manifest import Manifest
from cohortium.errors import CATALOGUE
from cohortium.node.policy import parse_policy

PAGES = ROOT / "docs" / "enclave"
THREATS = (PAGES / "threat-model.md").read_text(encoding="utf-8")
LISTED = dict(re.findall(r"^\| ([A-Z]\d+) \| (`.+`) \|$", THREATS, re.MULTILINE))
CLAIMS = THREATS.partition("## The tests")[0]
LEVELS: tuple[str, ...] = SecurityLevel.__args__  # type: ignore[attr-defined]


@cache
def _tests(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text(encoding="utf-8"))
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in tree.body if isinstance(node, kinds))


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
    used = set(re.findall(r"\b([EAVBGK]\d{1,2})\b(?!-)", CLAIMS)) - {"B"}
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
    lines = blocks(PAGES / "index.md", "bash")[0][1].splitlines()
    assert len(lines) == 3
    if executors()["landlock"].missing():
        lines[2] += " --executor process"
    for line in lines:
        _, group, *rest = shlex.split(line)
        result = CliRunner().invoke({"enclave": enclave, "vault": vault}[group], rest)
        assert result.exit_code == 0, result.output
    assert Path("out/copy/table.csv").read_text() == "age\n61\n"


TASKS = PAGES / "tasks-under-contracts.md"


def _yaml() -> list[Any]:
    """The YAML of the page on tasks under contracts, with shortened values in full length."""

    def whole(found: re.Match[str]) -> str:
        return found[1] + "ab" * (REGISTERS[found[1].split(",")[0][6:]][1] // 2)

    loader, found = YAML(typ="safe", pure=True), []
    for _, text in blocks(TASKS, "yaml"):
        text = re.sub(r"(kind: [a-z0-9-]+, value: )[0-9a-f]+\.\.\.[0-9a-f]+", whole, text)
        found.append(loader.load(re.sub(r"\[[0-9a-f]+\.\.\.[0-9a-f]+\]", f"[{'ab' * 16}]", text)))
    return found


def test_the_study_and_its_program_are_as_the_page_says(tmp_path: Path) -> None:
    (program,) = (one for one in _yaml() if "command" in one)
    manifest = Manifest.model_validate(program)
    (tmp_path / "curve").mkdir()
    (tmp_path / "curve" / "task.yaml").write_text(json.dumps(program))
    (text,) = (text for _, text in blocks(TASKS, "yaml") if text.startswith("study:"))
    said = read_study(text, tmp_path, lambda name: builtin.find(name).digest, "Dr. Ada Biostat")
    train, curve = said.proposal.tasks
    assert {slot.name for slot in curve.outputs} == set(manifest.outputs)
    assert {slot.name for slot in curve.inputs} == set(manifest.inputs)
    known = builtin.find(train.code.name)
    assert {slot.name for slot in train.outputs} <= set(known.outputs)
    assert {one.name for one in train.arguments} <= set(known.arguments)


def test_each_environment_and_each_policy_is_one_that_counts() -> None:
    kinds = []
    for one in _yaml():
        if set(one) == {"tasks"}:
            parse_policy(json.dumps(one))
        elif set(one) == {"security_level", "environment"}:
            said = one["environment"]
            enclaves = [{"name": name} for name in said.get("enclaves", ())]
            environment = Environment.model_validate({**said, "enclaves": enclaves})
            policy = AppraisalPolicy.from_environment(environment, level=one["security_level"])
            for kind in {REGISTERS[m.kind][0] for m in environment.measurements}:
                kinds.append(kind)
                assert policy.references(kind)
    assert sorted(kinds) == ["sev-snp", "simulated", "tdx", "tpm"]


def test_the_codes_that_the_page_on_tasks_names_exist() -> None:
    errors = TASKS.read_text(encoding="utf-8").partition("\n## Errors\n")[2]
    named = {
        code
        for cell in re.findall(r"^\| (`.+?`) \|", errors, re.MULTILINE)
        for code in re.findall(r"`([a-z-]+)`", cell)
    }
    assert {"no-enclave", "enclave-lost", "task-failed", "packages-missing"} < named
    assert named <= set(CATALOGUE)
