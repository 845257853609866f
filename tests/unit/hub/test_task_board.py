"""What is told of a task that is under way."""

from __future__ import annotations

from typing import Any, cast

from cohortium.hub.task_board import Watched
from cohortium.link._generated.link_pb2 import TaskReport


class Line:
    progress = 0.0
    message = ""


def test_a_run_says_for_whom_it_waits_until_that_lender_has_answered() -> None:
    live = Line()
    watched = Watched(cast("Any", live), "Enclave 1")
    watched.reported(TaskReport(stage="keys"))
    asking = live.message
    assert asking.endswith("in Enclave 1")
    watched.absent("Hospital East")
    assert live.message == "waiting for Hospital East, which is not connected"
    watched.reported(TaskReport(stage="keys"))
    assert live.message == "waiting for Hospital East, which is not connected"
    watched.absent(None)
    watched.reported(TaskReport(stage="keys"))
    assert live.message == asking
