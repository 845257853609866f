"""The page about cohorts quotes real messages, and names every function."""

from __future__ import annotations

import re

import pytest
from tests.support.source import ROOT

from cohortium.cohort.check import FUNCTIONS, check_criterion
from cohortium.core.dictionary import Variable, VariableType
from cohortium.errors import InputError

PAGE = (ROOT / "docs/concepts/cohorts.md").read_text(encoding="utf-8")
TABLE = PAGE.split("| Written | Answer |\n|---|---|\n")[1].split("\n\n")[0]
REFUSED = re.findall(r"^\| `(.+?)` \| (.+) \|$", TABLE, re.MULTILINE)
VARIABLES = {
    variable.name: variable
    for variable in (
        Variable(name="age", type=VariableType.INTEGER),
        Variable(name="died", type=VariableType.BOOLEAN),
        Variable(name="stage", type=VariableType.CATEGORY, levels=("I", "II", "IIIA", "IIIB")),
    )
}


@pytest.mark.parametrize(("criterion", "answer"), REFUSED)
def test_the_answers_on_the_page_are_those_given(criterion: str, answer: str) -> None:
    with pytest.raises(InputError) as caught:
        check_criterion(criterion, VARIABLES)
    assert caught.value.message.splitlines()[0] == answer


def test_the_message_with_its_place_is_the_one_given() -> None:
    with pytest.raises(InputError) as caught:
        check_criterion("age >= 18 AND stage = 'IV'", VARIABLES)
    assert f"```text\n{caught.value.message}\n```" in PAGE


def test_every_function_is_on_the_page() -> None:
    assert len(REFUSED) == TABLE.count("\n") + 1
    assert [
        name for name in FUNCTIONS if f"{name}(" not in PAGE.upper() and f"`{name}`" not in PAGE
    ] == []
