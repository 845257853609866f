"""Control groups for tasks: in version 2 only below a group that was delegated to us."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cohortium.enclave import cgroup
from cohortium.enclave.cgroup import ControlGroup

SCOPE = "user.slice/tasks.scope"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """What a kernel shows of two groups, as plain files."""
    root = tmp_path / "cgroup"
    for folder in (root, root / "other.scope", root / "user.slice", root / SCOPE):
        folder.mkdir()
        (folder / "cgroup.controllers").write_text("cpu memory pids")
        (folder / "cgroup.subtree_control").write_text("")
        (folder / "cgroup.procs").write_text("1\n")
    return root


@pytest.fixture
def own(tmp_path: Path) -> Callable[[str], Path]:
    def of(group: str) -> Path:
        (tmp_path / "own").write_text(f"4:memory:/elsewhere\n0::/{group}\n")
        return tmp_path / "own"

    return of


@pytest.fixture
def delegated(monkeypatch: pytest.MonkeyPatch, tree: Path) -> None:
    """systemd has marked the scope, and nothing else."""

    def getxattr(path: Path, mark: str) -> bytes:
        if path == tree / SCOPE and mark == "user.delegate":
            return b"1"
        raise OSError

    monkeypatch.setattr(os, "getxattr", getxattr)


def _folders(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_dir()}


@pytest.mark.usefixtures("delegated")
@pytest.mark.parametrize("group", [SCOPE, f"{SCOPE}/cohortium-own", f"{SCOPE}/control"])
def test_a_task_has_a_group_beside_that_of_its_executor(
    tree: Path, own: Callable[[str], Path], group: str
) -> None:
    (tree / group).mkdir(exist_ok=True)
    made = ControlGroup.make("task", 1000, 7, root=tree, own=own(group))
    assert made == ControlGroup((tree / SCOPE / "task",))
    limits = {file.name: file.read_text() for file in (tree / SCOPE / "task").iterdir()}
    assert limits == {"memory.max": "1000", "pids.max": "7"}
    assert (tree / SCOPE / "cgroup.subtree_control").read_text() == "+cpu"  # written last
    assert (tree / "user.slice/cgroup.subtree_control").read_text() == ""
    assert cgroup.missing(tree, own(group)) == ""


@pytest.mark.parametrize("group", [SCOPE, "user.slice", "../other.scope", "not/shown"])
def test_a_group_of_the_service_manager_is_left_alone(
    tree: Path, own: Callable[[str], Path], group: str
) -> None:
    before = _folders(tree)
    assert ControlGroup.make("task", 1000, 7, root=tree, own=own(group)) is None
    assert _folders(tree) == before
    assert (tree / SCOPE / "cgroup.subtree_control").read_text() == ""
    said = cgroup.missing(tree, own(group))
    assert (
        ("Delegate=yes" in said)
        == (tree / group).is_dir()
        == (".." not in group and "not" not in group)
    )
    assert said


@pytest.mark.usefixtures("delegated")
def test_without_its_controllers_there_is_none(tree: Path, own: Callable[[str], Path]) -> None:
    (tree / SCOPE / "cgroup.controllers").write_text("cpu pids")
    before = _folders(tree)
    assert ControlGroup.make("task", 1000, 7, root=tree, own=own(SCOPE)) is None
    assert "no controller memory" in cgroup.missing(tree, own(SCOPE))
    assert _folders(tree) == before


def test_what_was_given_to_a_user_begins_where_another_s_ends(
    tree: Path, own: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    user = tree.stat().st_uid or 1000
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert ControlGroup.make("task", 1000, 7, root=tree, own=own(SCOPE)) is None
    if tree.stat().st_uid:
        pytest.skip("only root can give a folder away")
    for folder in (tree / SCOPE, *(tree / SCOPE).iterdir()):
        os.chown(folder, user, user)
    made = ControlGroup.make("task", 1000, 7, root=tree, own=own(SCOPE))
    assert made == ControlGroup((tree / SCOPE / "task",))


def test_version_1_is_for_who_may_write_there(tmp_path: Path) -> None:
    assert "cannot be written to" in cgroup.missing(tmp_path, tmp_path)
    assert ControlGroup.make("task", 1000, 7, root=tmp_path) is None
    for controller in ("memory", "pids"):
        (tmp_path / controller).mkdir()
    assert cgroup.missing(tmp_path, tmp_path) == ""
    made = ControlGroup.make("task", 1000, 7, root=tmp_path)
    assert made is not None
    assert (tmp_path / "memory/task/memory.limit_in_bytes").read_text() == "1000"
    assert (tmp_path / "pids/task/pids.max").read_text() == "7"


# With a kernel's own

INSIDE = """
import os, subprocess, sys
from pathlib import Path
from cohortium.enclave import cgroup

root, top = map(Path, sys.argv[1:])
(top / "cgroup.procs").write_text(str(os.getpid()))
beside = subprocess.Popen(["sleep", "60"])
known = tuple((top / "cgroup.controllers").read_text().split())
made = lambda: cgroup.ControlGroup.make("task", 1 << 30, 64, root=root, controllers=known[:1])
assert made() is None and [one.name for one in top.iterdir() if one.is_dir()] == []
os.setxattr(top, "user.delegate", b"1")
if not known:  # else the kernel refuses until there are no processes
    cgroup._empty(top)
group = made()
assert group is not None
assert (top / "cgroup.procs").read_text() == ""
own = (top / "cohortium-own/cgroup.procs").read_text().split()
assert sorted(map(int, own)) == sorted([os.getpid(), beside.pid]), own
task = subprocess.Popen(["sleep", "60"])
group.add(task.pid)
assert (top / "task/cgroup.procs").read_text().split() == [str(task.pid)]
assert cgroup.ControlGroup.make("other", 1, 1, root=root, controllers=known[:1]) is not None
for one in (beside, task):
    one.kill()
    one.wait()
group.remove()
assert not (top / "task").exists()
print("done")
"""


@pytest.fixture
def kernel_group() -> Iterator[tuple[Path, Path]]:
    """A group of this machine's own tree of version 2, where root may make one."""
    lines = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    root = next((Path(one[1]) for one in lines if one[2] == "cgroup2"), None)
    if root is None or os.geteuid():
        pytest.skip("there is no control group of version 2 that this user could make")
    top = root / f"cohortium-test-{secrets.token_hex(4)}"
    try:
        top.mkdir()
    except OSError:
        pytest.skip("control groups are not writable here")
    yield root, top
    for folder in (*(one for one in top.iterdir() if one.is_dir()), top):
        folder.rmdir()


def test_processes_move_into_a_leaf_and_tasks_beside_it(kernel_group: tuple[Path, Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, *map(str, kernel_group)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "done\n", done.stderr


def test_processes_that_cannot_be_seen_are_not_moved(tree: Path) -> None:
    (tree / SCOPE / "cgroup.procs").write_text("0\n")
    with pytest.raises(cgroup._None, match="not seen"):
        cgroup._empty(tree / SCOPE)
