"""The generated reference pages are complete."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import pytest
from tests.support.commands import all_commands
from tests.support.source import ROOT

from cohortium.errors import CATALOGUE, FAMILIES
from cohortium.node.policy import Policy


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """The MkDocs hook as a module."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_error_code_is_documented(reference: ModuleType) -> None:
    page = reference.errors_page()
    assert [code for code in CATALOGUE if f"| `{code}` |" not in page] == []
    assert [family for family in FAMILIES if f"## {family}" not in page] == []


def test_every_command_and_option_is_documented(reference: ModuleType) -> None:
    page = reference.cli_page()
    for path, command in all_commands().items():
        heading = f" cohortium {' '.join(path)}\n"
        assert heading in page
        section = page.split(heading, 1)[1].split("\n##", 1)[0]
        for param in command.params:
            if param.param_type_name == "option":
                assert f" `{param.opts[0]}" in section or f", {param.opts[0]}" in section, path


def test_every_setting_is_documented(reference: ModuleType) -> None:
    page = reference.configuration_page()
    undocumented = [line for line in page.splitlines() if line.endswith("|  |")]
    assert undocumented == []
    for setting in ("link_port", "database_url", "proxy"):
        assert f"| `{setting}` |" in page
    assert [name for name in Policy.model_fields if f"\n{name}:" not in page] == []


def test_every_rest_operation_is_documented(reference: ModuleType) -> None:
    page = reference.rest_page()
    for operation in ("GET /api/v1/consortium", "POST /api/v1/runs", "POST /api/v1/studies"):
        assert f"## {operation}\n" in page


def test_a_page_that_fetches_from_elsewhere_is_refused(reference: ModuleType) -> None:
    assert reference.FETCHED.search('<script src="https://cdn.example/x.js">')
    assert reference.FETCHED.search("<link rel=stylesheet href=//fonts.example/css>")
    assert not reference.FETCHED.search('<script src="../assets/x.js">')
