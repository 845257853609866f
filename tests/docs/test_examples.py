"""What README and docs show works: Python is run, every command line is parsed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from tests.support.commands import all_commands, parse
from tests.support.source import ROOT

from cohortium.errors import CATALOGUE

PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")],
    key=lambda path: path.as_posix(),
)
NOT_RUN = "<!-- example: not run"
BLOCK = re.compile(
    r"^(?P<before>[^\n]*)\n```(?P<language>\w+)[^\n]*\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks(page: Path, language: str) -> list[tuple[int, str]]:
    """Line number and text of each fenced block that is not marked as not run."""
    text = page.read_text(encoding="utf-8")
    return [
        (text[: match.start("code")].count("\n") + 1, match["code"])
        for match in BLOCK.finditer(text)
        if match["language"] == language and not match["before"].startswith(NOT_RUN)
    ]


def command_lines() -> list[tuple[str, str]]:
    """Place and text of every line in the pages that begins with ``cohortium``."""
    return [
        (f"{page.relative_to(ROOT).as_posix()}:{first + offset}", line)
        for page in PAGES
        for first, code in blocks(page, "bash")
        for offset, line in enumerate(code.splitlines())
        if line.startswith("cohortium ")
    ]


def with_python() -> list[Path]:
    """The pages that hold Python to run."""
    return [page for page in PAGES if blocks(page, "python")]


@pytest.mark.parametrize("page", with_python(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_python_examples_run(page: Path) -> None:
    """The blocks of a page are run in order, in one namespace."""
    namespace: dict[str, object] = {"__name__": "__example__"}
    for line, code in blocks(page, "python"):
        padded = "\n" * (line - 1) + code
        exec(compile(padded, str(page), "exec"), namespace)


@pytest.mark.parametrize(("place", "line"), command_lines())
def test_commands_are_as_written(
    place: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("study.yaml", "stroke.csv", "lung.csv", "requirements.lock"):
        (tmp_path / name).touch()
    for name in ("hub", "node", "north", "collateral"):
        (tmp_path / name).mkdir()
    parse(shlex.split(line, comments=True)[1:])


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    named = {
        line.split()[1]
        for page in PAGES
        for _, code in blocks(page, "bash")
        for line in code.splitlines()
        if line.startswith("make ")
    }
    assert {"demo", "test"} <= named <= targets


def test_every_command_is_shown_or_explained() -> None:
    """The reference page holds every command, each with a help text and no option without one."""
    without = []
    for path, command in all_commands().items():
        if not (command.help or "").strip():
            without.append(" ".join(path))
        without += [
            f"{' '.join(path)} {param.opts[0]}"
            for param in command.params
            if param.param_type_name == "option" and not (getattr(param, "help", "") or "").strip()
        ]
    assert not without


def test_codes_that_the_pages_name_exist() -> None:
    """In tables of codes the first column names codes of the catalogue."""
    text = (ROOT / "docs" / "guide" / "researcher.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE)
    assert named
    assert set(named) <= set(CATALOGUE)


def test_links_between_files_of_the_repository_lead_somewhere() -> None:
    broken = []
    for page in (ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")):
        targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
        broken += [
            f"{page.name}: {target}"
            for target in targets
            if "://" not in target and not (ROOT / target).exists()
        ]
    assert not broken
