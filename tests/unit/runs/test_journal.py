"""What is recorded of a run, and in which form."""

from __future__ import annotations

import numpy as np
import pytest

from cohortium.core.rounds import FieldSpec
from cohortium.errors import IntegrityFailure, PeerError
from cohortium.runs.journal import MemoryJournal, total_from_bytes, total_to_bytes

LAYOUT = {"b": FieldSpec((2, 2), "real"), "a": FieldSpec((3,), "count")}
TOTAL = {
    "a": np.array([1, -(2**62), 3], dtype=np.int64),
    "b": np.array([[0.1, -0.0], [1e300, 5e-324]]),
}


def test_a_sum_survives_the_journal_bit_for_bit() -> None:
    back = total_from_bytes(total_to_bytes(TOTAL, LAYOUT), LAYOUT)
    assert back["a"].dtype == np.int64
    assert back["a"].tolist() == TOTAL["a"].tolist()
    assert back["b"].tobytes() == TOTAL["b"].tobytes()
    assert back["b"].shape == (2, 2)


def test_a_sum_of_another_layout_is_an_integrity_failure() -> None:
    data = total_to_bytes(TOTAL, LAYOUT)
    with pytest.raises(IntegrityFailure) as caught:
        total_from_bytes(data[:-1], LAYOUT)
    assert caught.value.code == "broken-store"
    with pytest.raises(IntegrityFailure):
        total_to_bytes({"a": TOTAL["a"]}, LAYOUT)
    with pytest.raises(IntegrityFailure):
        total_to_bytes({"a": TOTAL["a"][:2], "b": TOTAL["b"]}, LAYOUT)


def test_a_step_runs_until_it_is_recorded_and_then_no_more() -> None:
    journal, calls = MemoryJournal(), []

    def fail() -> bytes:
        calls.append("fail")
        raise PeerError("peer-timeout", "gone")

    def work() -> bytes:
        calls.append("work")
        return b"sum"

    with pytest.raises(PeerError):
        journal.step("round-1", fail)
    assert [journal.step("round-1", work) for _ in range(3)] == [b"sum"] * 3
    assert calls == ["fail", "work"]
