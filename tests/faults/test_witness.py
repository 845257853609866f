"""Each durable write of a witness fails before and after it, or the process is killed there."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from tests.support.source import ROOT
from tests.support.witness_life import Life, live

from cohortium.errors import CohortiumError
from cohortium.node.store import Stage

STAGES: tuple[Stage, ...] = ("before-commit", "after-commit")
COMMITS = 14
"""Revocations, key, four updates, policy, three alarms, three acceptances, and an admission."""


class Crash(BaseException):
    """The process is gone."""


@cache
def undisturbed() -> tuple[list[object], list[object], int]:
    """All answers, the state in the end, and how many commits there are."""
    commits: list[Stage] = []
    with TemporaryDirectory() as folder:
        life = Life(Path(folder) / "node.db", commits.append)
        life.faults = True
        answers = [step() for step in life.steps()]
        state = life.state()
        life.store.close()
    return answers, state, commits.count("before-commit")


def test_the_reference_is_a_life_with_every_kind_of_write() -> None:
    answers, state, commits = undisturbed()
    assert commits == COMMITS
    assert [a for a in answers if isinstance(a, str)] == [
        "ledger-fork",
        "go-on",
        "ledger-false-entry",
        "go-on",
        "start-over",
    ]
    assert [alarm[0] for alarm in state[2]] == ["fork", "false-entry", "omission"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("commit", range(COMMITS))
def test_a_crash_at_any_write_changes_no_answer(tmp_path: Path, commit: int, stage: Stage) -> None:
    expected, state, _ = undisturbed()
    left, crashed = commit, 0

    def fault(reached: Stage) -> None:
        nonlocal left
        left -= reached == stage
        if left < 0 and not crashed:
            raise Crash

    life = Life(tmp_path / "node.db", fault)
    life.faults = True
    for step, answer in zip(life.steps(), expected, strict=True):
        try:
            given = step()
        except Crash:
            crashed += 1
            life.store.close()
            life.start()
            given = step()
        assert given == answer
    assert crashed == 1
    assert life.state() == state


@pytest.mark.parametrize("commit", range(COMMITS))
def test_a_full_disk_gives_no_answer_and_leaves_nothing_half_written(
    tmp_path: Path, commit: int
) -> None:
    expected, state, _ = undisturbed()
    left, failed, full = commit, 0, False

    def fault(reached: Stage) -> None:
        nonlocal left, full
        left -= reached == "before-commit"
        full = full or (left < 0 and not failed)
        if full:
            raise sqlite3.OperationalError("disk full")

    life = Life(tmp_path / "node.db", fault)
    life.faults = True
    for step, answer in zip(life.steps(), expected, strict=True):
        before = life.state()
        try:
            given = step()
        except (CohortiumError, sqlite3.OperationalError):
            failed, full = failed + 1, False
            assert life.state() == before
            given = step()
        assert given == answer
    assert failed == 1
    assert life.state() == state


@pytest.mark.slow
def test_a_witness_that_is_killed_at_any_write_goes_on_as_if_it_had_not(tmp_path: Path) -> None:
    _, state, _ = undisturbed()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.witness_life", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("no pipes")
        for stage in STAGES:
            for commit in range(COMMITS):
                print(commit, stage, file=process.stdin, flush=True)
                assert int(process.stdout.readline()) == -signal.SIGKILL
                path = tmp_path / f"{stage}-{commit}.db"
                begin = int(path.with_suffix(".step").read_text())
                life = live(path, lambda _stage: None, begin=begin)
                assert life.state() == state
                life.store.close()
        process.stdin.close()
