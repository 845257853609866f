"""What a steward reads before a decision."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.builders import Node, World
from tests.support.lending import PROGRAM, LendingWorld
from tests.support.life import amended

from cohortium.contract.code import packed
from cohortium.contract.model import Computation, Contract
from cohortium.contract.task import code_digest
from cohortium.errors import InputError
from cohortium.node import consent


@pytest.fixture
def world() -> World:
    return World()


def _review(node: Node, contract: Contract, language: str = "en") -> consent.Review:
    stored = consent.find_contract(node.store, contract.digest)
    return consent.review(node.service, stored, language)


def test_an_amendment_is_shown_with_what_differs_first(world: World) -> None:
    first = world.ready()
    computation = Computation(name="test.*", variables=("age",), max_runs=20)
    terms = world.contract(computations=(computation,))
    second = amended(first, title="Second", computations=terms.computations)
    node = world.nodes["Alpha"]
    world.propose(node, second)
    reviewed = _review(node, second)
    assert [(c.path, c.effect) for c in reviewed.changes] == [
        (("title",), "other"),
        (("computations", "test.*", "max_runs"), "looser"),
        (("version",), "other"),
        (("amends",), "other"),
    ]
    lines = reviewed.text.splitlines()
    assert lines[0] == "What differs: version 1"
    assert "1 of 4 changes loosen protection." in lines
    marked = (
        "  - [LOOSENS PROTECTION] The number of runs of computation test.* was 3 and becomes 20"
    )
    assert lines.index(marked) < lines.index("Contract: Second (lung)")
    chinese = _review(node, second, "zh").text
    assert "  - 【放宽保护】 计算 test.* 的运行次数上限：原为 3，变更为 20\n" in chinese
    assert "\n合同：Second（lung）\n" in chinese


def test_a_first_version_differs_from_nothing(world: World) -> None:
    node, contract = world.node("Alpha"), world.contract()
    world.propose(node, contract)
    reviewed = _review(node, contract)
    assert reviewed.changes == ()
    assert reviewed.text.startswith("Contract: Lung cancer (lung)\n")
    assert "  - state: proposed, waiting for signatures\n  - 0 of 3 signed\n" in reviewed.text
    consent.sign(node.service, reviewed)
    assert "  - Alpha (signed)\n" in _review(node, contract).text


def test_an_amendment_of_a_contract_that_is_not_here_is_shown_alone(world: World) -> None:
    node = world.node("Alpha")
    second = amended(world.contract(), title="Second")
    world.propose(node, second)
    reviewed = _review(node, second)
    assert reviewed.changes == ()
    assert "What differs" not in reviewed.text
    assert any("not in" in warning for warning in reviewed.warnings)


def test_a_language_that_there_is_not_is_an_error_of_the_caller(world: World) -> None:
    node, contract = world.node("Alpha"), world.contract()
    world.propose(node, contract)
    with pytest.raises(InputError):
        _review(node, contract, "tlh")


def test_of_a_study_of_tasks_alone_nothing_is_said_about_sums(tmp_path: Path) -> None:
    world = LendingWorld(root=tmp_path)
    node, contract = world.lender("Alpha"), world.task_contract(min_sites=2)
    world.propose(node, contract)
    reviewed = _review(node, contract)
    told = " ".join(reviewed.warnings)
    for of_sums in ("totals", "leave sites out", "Small cells"):
        assert of_sums not in told
    assert "masks" not in reviewed.text
    folder = tmp_path / "Alpha"
    read = f"cohortium node code vessels {contract.tasks[0].name} --dir {folder}"
    assert f"has not arrived here yet; then read: {read}" in told
    assert node.service.lending is not None
    node.service.lending.programs.put(code_digest(PROGRAM), packed(PROGRAM))
    assert any(line.endswith(f"Read it: {read}") for line in _review(node, contract).warnings)
