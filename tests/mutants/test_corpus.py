"""The corpus of mutants fits the present source and tests; `make mutants` tries them."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from tools.mutants import ROOT, Mutant, check, load

CORPUS = load()
MODULES = {
    "secagg": (
        "aggregator",
        "binding",
        "frame",
        "graph",
        "keys",
        "masks",
        "parties",
        "party",
        "ring",
        "roster",
        "shamir",
        "survivors",
        "vector",
    ),
    "node": ("guard", "service", "store"),
    "hub": ("runs", "secure_sum"),
    "link": ("rounds",),
}
"""Where the checks of the secure sum are."""


@pytest.mark.parametrize("mutant", CORPUS, ids=lambda mutant: mutant.name)
def test_a_mutant_applies_once_and_changes_the_program(mutant: Mutant) -> None:
    mutant.source()
    assert mutant.check.endswith(".")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_mutant_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    # The run that this test is part of tries all of these tests without a mutant, and has the
    # other processors.
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    jobs = min(4, os.cpu_count() or 1) if alone else 1
    survivors = check(CORPUS, jobs=jobs, green=True)
    table = capsys.readouterr().out.splitlines()
    assert survivors == 0, "\n".join(row for row in table if "NOT CAUGHT" in row)


def test_no_two_mutants_have_one_name() -> None:
    assert [name for name, times in Counter(m.name for m in CORPUS).items() if times > 1] == []


def test_every_module_of_the_secure_sum_has_its_mutants() -> None:
    wanted = {f"src/cohortium/{p}/{name}.py" for p, names in MODULES.items() for name in names}
    assert {mutant.file for mutant in CORPUS} >= wanted
    present = {path.stem for path in (ROOT / "src/cohortium/secagg").glob("*.py")}
    assert present - {"__init__", "messages", "noise", "round_key"} == set(MODULES["secagg"])


@cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_the_tests_that_must_notice_exist() -> None:
    absent = []
    for mutant in CORPUS:
        assert mutant.tests, mutant.name
        for test in mutant.tests:
            file, _, name = test.partition("::")
            if not (ROOT / file).exists() or name.partition("[")[0] not in functions(ROOT / file):
                absent.append(f"{mutant.name}: {test}")
    assert absent == []


def test_no_mutant_uses_a_name_that_is_not_there(tmp_path: Path) -> None:
    for mutant in CORPUS:
        (tmp_path / f"{mutant.name}.py").write_text(mutant.source(), encoding="utf-8")
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F821,F823"]
    told = subprocess.run([*command, tmp_path], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout
