"""A take-over that fails or is killed at a durable write leaves no hub, and can be done again."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.killed_takeover import STEPS, around
from tests.support.lost_hub import LostHub, take_over_in

from cohortium.hub.folder import HubFolder
from cohortium.ledger.checkpoint import open_checkpoint
from cohortium.ledger.note import parse_verifier_key

ROOT = Path(__file__).parents[2]
POINTS = [(step, moment) for step in STEPS for moment in ("before", "after")]
LAST = ("give the folder its name", "after")


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lost")
    LostHub(root).lose()
    return root


@pytest.fixture
def root(lost: Path, tmp_path: Path) -> Path:
    shutil.copytree(lost, tmp_path, dirs_exist_ok=True)
    return tmp_path


def check_complete(root: Path) -> None:
    """Whoever finds the folder finds a hub with all that was taken over."""
    folder = HubFolder(root / "new")
    store = folder.store()
    assert {member.name: member.status for member in store.members.members()} == {
        "Alpha": "approved", "Beta": "approved", "Gamma": "approved",
        "Delta": "suspended", "Epsilon": "removed",
    }  # fmt: skip
    before, own = folder.ledger_keys()
    assert before != own
    newest = store.ledger.newest()
    assert newest is not None
    checkpoint, _ = open_checkpoint(newest.note, parse_verifier_key(own))
    assert checkpoint.size == store.ledger.size()
    assert folder.ledger_key(store).public
    assert folder.ledger_keys() == [before, own]
    store.close()


class Failed(OSError):
    """The disk is full, say."""


def fail() -> None:
    raise Failed


@pytest.mark.parametrize(("step", "moment"), POINTS)
def test_a_take_over_that_fails_leaves_nothing(
    root: Path, step: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, name = STEPS[step]
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, around(getattr(owner, name), moment, fail))
        with pytest.raises(Failed):
            take_over_in(root)
    if (step, moment) == LAST:
        assert sorted(path.name for path in root.iterdir()) == ["backup", "copy", "new"]
    else:
        assert sorted(path.name for path in root.iterdir()) == ["backup", "copy"]
        take_over_in(root)
    check_complete(root)


@pytest.mark.slow
@pytest.mark.parametrize(("step", "moment"), POINTS)
def test_a_take_over_that_is_killed_can_be_done_again(root: Path, step: str, moment: str) -> None:
    command = [sys.executable, "-m", "tests.support.killed_takeover", str(root), step, moment]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (root / "new").exists() == ((step, moment) == LAST)
    if not (root / "new").exists():
        take_over_in(root)
    assert sorted(path.name for path in root.iterdir()) == ["backup", "copy", "new"]
    check_complete(root)
