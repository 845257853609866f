"""How long the hub was there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cohortium.node.attendance import Attendance

NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def minutes_before(attendance: Attendance, now: float, span: float) -> float | None:
    found = attendance.before(at(now), timedelta(minutes=span))
    return None if found is None else (found - NOON) / timedelta(minutes=1)


def test_before_the_first_connection_there_was_no_time() -> None:
    attendance = Attendance()
    attendance.hears(at(0))
    assert minutes_before(attendance, 1000, 1) is None


def test_within_one_connection_it_is_the_time_itself() -> None:
    attendance = Attendance()
    attendance.begins(at(0))
    assert minutes_before(attendance, 14, 15) is None
    assert minutes_before(attendance, 15, 15) == 0
    assert minutes_before(attendance, 40, 15) == 25


def test_connections_add_up_and_the_time_between_them_does_not_count() -> None:
    attendance = Attendance()
    for begin in (0, 100, 200):
        attendance.begins(at(begin))
        attendance.hears(at(begin + 6))
    assert minutes_before(attendance, 202, 15) is None
    assert minutes_before(attendance, 203, 15) == 0
    assert minutes_before(attendance, 206, 15) == 3
    assert minutes_before(attendance, 206, 7) == 105


def test_a_clock_that_goes_back_adds_nothing() -> None:
    attendance = Attendance()
    attendance.begins(at(100))
    attendance.hears(at(50))
    attendance.begins(at(0))
    assert minutes_before(attendance, 14, 15) is None
    assert minutes_before(attendance, -5, 1) is None
    assert minutes_before(attendance, 15, 15) == 0
