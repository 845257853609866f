"""Durable runs: each run is a DBOS workflow whose steps are the journal.

DBOS is a singleton of the process; only the hub's ``main`` makes a `DbosRunner`. A workflow's id
is the run id and the attempt. After a crash DBOS calls the workflow again, and steps that were
recorded return what they returned before. An attempt after a failure is a fork that takes over
the steps before the failed one. What DBOS stores is JSON: its default is pickle, which would run
code from the database.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Engine, create_engine, event

from cohortium.errors import CohortiumError, IntegrityFailure
from cohortium.hub.database import BUSY_TIMEOUT_MS
from cohortium.hub.objects import ObjectFolder
from cohortium.hub.runner import Execute

for _name in ("DBOS__CONDUCTOR_KEY", "DBOS_CONDUCTOR_KEY"):
    os.environ.pop(_name, None)

from dbos import DBOS, DBOSConfig, SetWorkflowID  # noqa: E402
from dbos._serialization import Serializer  # noqa: E402

INLINE_BYTES = 256 * 1024
APPLICATION_VERSION = "cohortium-run-2"
"""Raised when the order or form of a run's steps changes: old workflows are not replayed."""


class JsonSerializer(Serializer):
    """JSON values only; an exception becomes its text."""

    def name(self) -> str:
        """How DBOS marks rows written by it."""
        return "cohortium-json"

    def serialize(self, data: Any) -> str:
        """To text."""
        if isinstance(data, BaseException):
            data = {"exception": f"{type(data).__name__}: {data}"}
        return json.dumps(data, separators=(",", ":"))

    def deserialize(self, serialized_data: str) -> Any:
        """From text."""
        data = json.loads(serialized_data)
        if isinstance(data, dict) and set(data) == {"exception"}:
            return RuntimeError(str(data["exception"]))
        return data


class DbosJournal:
    """A `Journal` on the steps of the workflow that runs in this thread."""

    def __init__(self, run_id: str, objects: ObjectFolder) -> None:
        self._run_id = run_id
        self._objects = objects

    def step(self, name: str, compute: Callable[[], bytes]) -> bytes:
        """See `Journal.step`. A refusal is recorded too, so that a replay ends as the run did."""
        computed: list[bytes] = []

        def recorded() -> dict[str, Any]:
            try:
                data = compute()
            except CohortiumError as error:
                return {"error": error.to_wire()}
            computed.append(data)
            if len(data) > INLINE_BYTES:
                return {"object": self._objects.put(self._run_id, data)}
            return {"bytes": base64.b64encode(data).decode()}

        entry = DBOS.run_step({"name": name}, recorded)
        if "error" in entry:
            raise CohortiumError.from_wire(entry["error"])
        if computed:
            return computed[-1]
        if "object" in entry:
            return self._objects.get(self._run_id, entry["object"])
        return base64.b64decode(entry["bytes"])


class DbosRunner:
    """See `Runner`.

    Args:
        url: Where DBOS keeps its own tables: ``sqlite:///FILE`` or a PostgreSQL URL.
    """

    def __init__(self, url: str, objects: ObjectFolder) -> None:
        self._objects = objects
        self._execute: Execute | None = None
        logging.getLogger("dbos").setLevel(logging.ERROR)
        config: DBOSConfig = {
            "name": "cohortium",
            "system_database_url": url,
            "application_version": APPLICATION_VERSION,
            "executor_id": "hub",
            "serializer": JsonSerializer(),
            "log_level": "ERROR",
            "enable_otlp": False,
            "notification_listener_polling_interval_sec": 5.0,
        }
        if url.startswith("sqlite"):
            config["system_database_engine"] = _sqlite_engine(url)
        DBOS(config=config)

        def run(run_id: str) -> None:
            if self._execute is None:
                raise RuntimeError("the runner has not been launched")
            self._execute(run_id, DbosJournal(run_id, self._objects))

        self._workflow = DBOS.workflow(name="run")(run)

    def launch(self, execute: Execute) -> None:
        """See `Runner`; recovers what was under way."""
        self._execute = execute
        DBOS.launch()

    def start(self, run_id: str, attempt: int) -> None:
        """See `Runner`."""
        with SetWorkflowID(_workflow_id(run_id, attempt)):
            if attempt == 1:
                DBOS.start_workflow(self._workflow, run_id)
                return
        before = _workflow_id(run_id, attempt - 1)
        with SetWorkflowID(_workflow_id(run_id, attempt)):
            DBOS.fork_workflow(before, _first_failed_step(before))

    def recover(self, open_runs: Sequence[tuple[str, int]]) -> None:
        """See `Runner`: a run whose workflow was never stored is started."""
        for run_id, attempt in open_runs:
            status = DBOS.get_workflow_status(_workflow_id(run_id, attempt))
            if status is None:
                self.start(run_id, attempt)
            elif status.status not in {"PENDING", "ENQUEUED", "SUCCESS"}:
                raise IntegrityFailure(
                    "broken-store", f"Run {run_id} is open but its workflow is {status.status}."
                )

    def forget(self, run_id: str) -> None:
        """See `Runner`."""
        self._objects.drop(run_id)

    def close(self) -> None:
        """See `Runner`."""
        DBOS.destroy()


def _sqlite_engine(url: str) -> Engine:
    """DBOS's own settings, and a write-ahead log.

    A power cut may lose the last steps, which then run again; a killed process loses none.
    """
    engine = create_engine(url)

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, _record: object) -> None:
        connection.isolation_level = "IMMEDIATE"
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "foreign_keys=ON",
            "journal_mode=WAL",
            "synchronous=NORMAL",
        ):
            connection.execute(f"PRAGMA {pragma}")

    return engine


def _workflow_id(run_id: str, attempt: int) -> str:
    return f"{run_id}-{attempt}"


def _first_failed_step(workflow_id: str) -> int:
    """The number of the first step that is not a recorded success; DBOS counts from 1."""
    steps = DBOS.list_workflow_steps(workflow_id)
    for step in steps:
        output = step["output"]
        if not isinstance(output, dict) or "error" in output:
            return int(step["function_id"])
    return len(steps) + 1
