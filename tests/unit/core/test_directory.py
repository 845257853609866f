from __future__ import annotations

import pytest
from tests.support.contracts import AGE, entry

from cohortium.core.directory import DirectoryEntry
from cohortium.errors import ProtocolError


def test_a_dataset_is_found_by_name_and_names_are_distinct() -> None:
    member = entry("Aarhus", AGE)
    (dataset,) = member.datasets
    assert member.dataset("lung") is dataset
    assert member.dataset("heart") is None
    assert DirectoryEntry.from_bytes(member.to_bytes()) == member
    twice = member.to_json() | {"datasets": [dataset.to_json()] * 2}
    with pytest.raises(ProtocolError, match="the same name"):
        DirectoryEntry.from_json(twice)
