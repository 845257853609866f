"""The command line as a whole: help, exit codes, ``--json``."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated

import pytest
import typer
from tests.support.commands import Command, all_commands
from typer.testing import CliRunner

from cohortium.cli import main, output
from cohortium.errors import CATALOGUE, FAMILIES, InputError
from cohortium.version import __version__

runner = CliRunner()

INTERACTIVE = {("hub", "serve"), ("node", "serve"), ("enclave", "serve")}
"""Commands that serve until they are stopped."""


def test_help_lists_every_group_without_importing_one() -> None:
    began = time.perf_counter()
    shown = runner.invoke(main.app, ["--help"])
    assert shown.exit_code == 0
    assert all(name in shown.output for name in main.GROUPS)
    assert "Exit codes" in shown.output
    assert set(main.MEANINGS) == set(FAMILIES)
    assert time.perf_counter() - began < 2


def test_version() -> None:
    assert runner.invoke(main.app, ["--version"]).output == f"cohortium {__version__}\n"


def test_an_unknown_group_is_a_usage_error() -> None:
    assert runner.invoke(main.app, ["nonsense"]).exit_code == 2


@pytest.mark.parametrize("command", all_commands().values(), ids=lambda c: " ".join(c.path))
def test_every_command_has_help_and_json(command: Command) -> None:
    shown = runner.invoke(main.app, [*command.path, "--help"])
    assert shown.exit_code == 0
    assert command.help.strip()
    if command.path not in INTERACTIVE:
        assert "--json" in command.options


def test_serving_takes_a_folder() -> None:
    commands = all_commands()
    assert all(commands[path].max_arguments == 1 for path in INTERACTIVE)


@pytest.mark.parametrize("code", sorted(CATALOGUE))
def test_exit_codes_are_the_catalogue_s(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = FAMILIES[CATALOGUE[code].family]
    app = typer.Typer()

    @app.command()
    @output.handle_errors
    def command(json: output.JsonOption = False) -> None:
        raise family(code, "What to do next.", sites=["A", "B"], said=["to", "do"], hidden={"x": 1})

    monkeypatch.setattr("sys.argv", ["cohortium"])
    plain = runner.invoke(app, [])
    assert plain.exit_code == family.exit_code
    assert plain.stdout == ""
    assert plain.stderr.splitlines() == [f"Error ({code}): What to do next.", "  sites: A, B"]
    monkeypatch.setattr("sys.argv", ["cohortium", "--json"])
    machine = runner.invoke(app, ["--json"])
    assert machine.exit_code == family.exit_code
    wire = json.loads(machine.stderr)["error"]
    assert (wire["family"], wire["code"]) == (family.__name__, code)


def test_handle_errors_keeps_the_parameters_that_typer_reads() -> None:
    app = typer.Typer()

    @app.command()
    @output.handle_errors
    def command(name: Annotated[str, typer.Argument()], times: int = 1) -> None:
        typer.echo(name * times)

    assert runner.invoke(app, ["ab", "--times", "2"]).output == "abab\n"


def test_other_exceptions_are_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError), output.errors_to_exit():
        raise ZeroDivisionError


def test_emit_writes_text_json_and_tables(
    capsys: pytest.CaptureFixture[str],
) -> None:
    output.emit({"name": "北京"}, "Beijing")
    output.emit({"name": "北京"}, "Beijing", json=True)
    output.emit([], output.table("Sites", ("name", "n"), [("[bold]A", 1), ("B", None)]))
    out = capsys.readouterr().out
    assert out.startswith("Beijing\n{")
    assert "北京" in out
    assert "[bold]A" in out


def test_what_others_wrote_does_not_steer_the_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "Alpha \x1b[2K\x9b1A\u202eahpla\u2028 北京\u3000医院"
    output.emit({}, f"One\n\t{name}")
    output.emit([], output.table(None, ("name",), [(name,)]))
    output.note(name)
    monkeypatch.setattr("sys.argv", ["cohortium"])
    with pytest.raises(typer.Exit), output.errors_to_exit():
        raise InputError("bad-input", name, site=name + "!", sites=[name + "!"])
    shown = "".join(capsys.readouterr())
    assert not set("\x1b\x9b\u202e\u2028") & set(shown)
    assert shown.startswith("One\n\tAlpha ")
    assert shown.count("北京\u3000医院") == 6


def test_emit_writes_files(tmp_path: Path) -> None:
    folder = tmp_path
    output.emit({"a": 1}, "text", output=folder / "t.txt")
    output.emit({"a": 1}, "text", json=True, output=folder / "t.json")
    output.emit({}, output.table(None, ("x",), [("y",)]), output=folder / "table.txt")
    assert (folder / "t.txt").read_text() == "text\n"
    assert json.loads((folder / "t.json").read_text()) == {"a": 1}
    assert "y" in (folder / "table.txt").read_text()


def test_a_wrong_code_is_a_programming_error() -> None:
    with pytest.raises(RuntimeError, match="catalogue"):
        InputError("run-failed", "of another family")
