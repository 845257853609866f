"""``import cohortium`` is the whole public interface."""

from __future__ import annotations

import subprocess
import sys

import pytest

import cohortium as co
from cohortium import errors


def test_all_equals_the_public_names() -> None:
    assert sorted(co.__all__) == dir(co)
    assert set(co._HOMES) | {"__version__"} == set(co.__all__)
    assert all(getattr(co, name) is not None for name in co.__all__)


def test_every_public_name_is_documented() -> None:
    names = [name for name in co.__all__ if name != "__version__"]
    assert [name for name in names if not getattr(co, name).__doc__] == []


def test_every_family_of_errors_is_public_and_drawn() -> None:
    assert set(errors.FAMILIES) <= set(co.__all__)
    assert co.__doc__ is not None
    assert all(family in co.__doc__ for family in errors.FAMILIES)
    assert co.PolicyRefusal is errors.PolicyRefusal


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lokal'"):
        co.lokal  # noqa: B018 - the access is the test


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import cohortium", ("numpy", "pandas", "httpx", "pydantic", "typer")),
        ("import cohortium.cli.main", ("numpy", "pandas", "httpx", "pydantic", "grpc")),
        ("import cohortium; cohortium.connect", ("pandas", "altair", "grpc", "fastapi")),
    ],
)
def test_imports_are_lazy(statement: str, absent: tuple[str, ...]) -> None:
    code = f"import sys; {statement}; print([m for m in {absent!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
