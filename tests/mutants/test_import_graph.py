"""What is loaded once for all mutants of a file does not load the file."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools.import_graph import apart_from, module_of

FILES = {
    "src/cohortium/__init__.py": "",
    "src/cohortium/errors.py": "import os\n",
    "src/cohortium/pack/__init__.py": "",
    "src/cohortium/pack/low.py": "from cohortium import errors\n",
    "src/cohortium/pack/side.py": "from cohortium.pack.low import name\n",
    "src/cohortium/pack/late.py": "def later() -> None:\n    from cohortium.pack import low\n",
    "src/cohortium/pack/named.py": "if TYPE_CHECKING:\n    import cohortium.pack.low\n",
    "src/cohortium/pack/tried.py": "try:\n    from .low import x\nexcept ImportError:\n    pass\n",
    "src/cohortium/high/__init__.py": "import cohortium.pack.side\n",
    "src/cohortium/high/leaf.py": "",
    "tests/support/given.py": "import cohortium.pack.side\nimport cohortium.pack.named\n",
    "tests/test_it.py": (
        "import cohortium.high.leaf\nfrom cohortium.pack import late, tried\n"
        "from tests.support import given\n"
    ),
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_users_of_the_file_and_what_is_in_their_packages_stay_out(root: Path) -> None:
    apart = apart_from("src/cohortium/pack/low.py", ["tests/test_it.py"], root)
    assert apart == [
        "cohortium",
        "cohortium.errors",
        "cohortium.pack",
        "cohortium.pack.late",
        "cohortium.pack.named",
    ]


def test_of_a_file_that_nothing_loads_all_is_loaded(root: Path) -> None:
    apart = apart_from("src/cohortium/pack/late.py", ["tests/test_it.py"], root)
    assert {"cohortium.high.leaf", "cohortium.pack.tried", "tests.support.given"} <= set(apart)
    assert "cohortium.pack.late" not in apart


def test_nothing_is_apart_from_the_package_itself(root: Path) -> None:
    assert apart_from("src/cohortium/__init__.py", ["tests/test_it.py"], root) == []


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("src/cohortium/__init__.py", "cohortium"),
        ("src/cohortium/pack/low.py", "cohortium.pack.low"),
        ("tests/support/given.py", "tests.support.given"),
    ],
)
def test_a_file_has_the_name_of_its_module(file: str, module: str) -> None:
    assert module_of(file) == module
