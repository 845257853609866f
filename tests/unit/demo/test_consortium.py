"""How the demonstration drives its processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cohortium.demo import steps
from cohortium.demo.consortium import _outcome, _until_waiting, together
from cohortium.errors import InputError, PeerError


def test_together_does_all_and_raises_the_first_error() -> None:
    done: list[str] = []
    together(done.append, ["a", "b", "c", "d", "e", "f"])
    assert sorted(done) == ["a", "b", "c", "d", "e", "f"]

    def fail(name: str) -> None:
        raise InputError("bad-input", name)

    with pytest.raises(InputError, match="north"):
        together(fail, ["north", "south"])


def test_a_command_s_outcome_is_its_json_or_its_error() -> None:
    assert _outcome(["a"], 0, b'{"x": 1}', b"") == {"x": 1}
    assert _outcome(["a"], 0, b"", b"") is None
    wire = b'noise\n{"error": {"family": "InputError", "code": "bad-input", "message": "No."}}'
    with pytest.raises(InputError, match=r"No\."):
        _outcome(["a"], 2, b"", wire)
    with pytest.raises(PeerError, match="node join: Traceback"):
        _outcome(["node", "join"], 1, b"", b"Traceback")


def _say(script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )


def test_joining_is_read_until_it_waits_and_nothing_is_lost() -> None:
    script = (
        "import sys; e = sys.stderr; e.write('one\\nWaiting for approval\\n'); e.flush(); "
        "print('out'); e.write('more')"
    )
    with _say(script) as joining:
        assert _until_waiting(joining) == b"one\nWaiting for approval\n"
        assert joining.communicate(timeout=30) == (b"out\n", b"more")
    with _say("raise SystemExit('no hub')") as joining:
        assert _until_waiting(joining) == b"no hub\n"


def test_tables_are_whole_where_no_terminal_limits_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    assert steps.new_console(quiet=False).width == steps.WIDTH
    monkeypatch.setenv("COLUMNS", "70")
    assert steps.new_console(quiet=False).width == 70
