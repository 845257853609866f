"""Memory of a task that crashes goes to nobody."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from cohortium.enclave import sandbox
from cohortium.enclave.executors.landlock import guards_missing


@pytest.mark.parametrize(
    ("pattern", "hard", "leaves"),
    [("|/usr/lib/dump %P", 0, True), ("|/usr/lib/dump", 1, False), ("core", 0, False)],
)
def test_where_a_dump_is_piped_a_limit_of_none_is_not_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, hard: int, leaves: bool
) -> None:
    file = tmp_path / "core_pattern"
    file.write_text(pattern)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (0, hard))
    assert (sandbox.core_dumps_leave(file) is not None) == leaves


def test_it_is_one_of_the_guards_of_a_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    from cohortium.enclave.executors import landlock

    monkeypatch.setattr(landlock, "core_dumps_leave", lambda: "memory would leave")
    assert "memory would leave" in guards_missing()
