"""Where the public data sets that some tests need lie, if they are here."""

from __future__ import annotations

from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]


def shared_data(name: str) -> Path:
    """The folder of data set `name` (``cnsim``); skips the test where it is absent."""
    for place in (_ROOT.parent / "shared" / "data", _ROOT / "shared" / "data"):
        if (place / name).is_dir():
            return place / name
    pytest.skip(f"the data set {name!r} is not in ../shared/data or shared/data")
