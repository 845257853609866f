"""A run: its progress while it works, and its result or its error."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

from cohortium.contract.model import Contract
from cohortium.contract.population import asked_population
from cohortium.contract.task import TASK_PREFIX
from cohortium.core import rest
from cohortium.errors import PeerError, ProtocolError, VerificationError
from cohortium.sdk.client import Client
from cohortium.sdk.receipt import verify_result
from cohortium.sdk.result_types import result_from_wire
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.tasks import TaskResult

__all__ = ["Run", "RunInfo"]

BAR_AFTER_S = 0.5
RECONNECT_FOR_S = 60.0
RECONNECT_PAUSE_S = 0.25


class Run:
    """A handle of a submitted run.

    Args:
        contract: What it was submitted under.
        request: Digest of the order, where it was signed here.
    """

    def __init__(
        self, client: Client, info: RunInfo, contract: Contract, request: str | None = None
    ) -> None:
        if info.contract_digest != contract.digest:
            raise VerificationError("bad-digest", "The run was submitted under another contract.")
        self._client = client
        self._info = info
        self._contract = contract
        self._request = request
        self._receipt: rest.Receipt | None = None
        self._sent: Any = None

    def __repr__(self) -> str:
        return f"<Run {self.id[:8]} {self._info.computation} {self._info.status}>"

    def _repr_html_(self) -> str:
        return self._info._repr_html_()

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self._info.id

    @property
    def info(self) -> RunInfo:
        """The record as last seen; `refresh` asks again."""
        return self._info

    @property
    def status(self) -> rest.RunStatus:
        """The status as last seen."""
        return self._info.status

    @property
    def receipt(self) -> rest.Receipt | None:
        """That the result was witnessed; None before `result` has verified it."""
        return self._receipt

    def refresh(self) -> RunInfo:
        """Ask the hub for the present record."""
        self._info = RunInfo.from_json(self._client.get(f"/runs/{self.id}"))
        return self._info

    def cancel(self) -> RunInfo:
        """Stop the run; sites forget its keys."""
        self._client.post(f"/runs/{self.id}/cancel")
        return self.refresh()

    def resume(self) -> RunInfo:
        """Let a run that failed on an unreachable site go on where it stopped."""
        self._client.post(f"/runs/{self.id}/resume")
        return self.refresh()

    def wait(self, timeout_s: float | None = None, *, progress: bool | None = None) -> Self:
        """Wait for the end, whatever it is, through interruptions of the hub of up to a minute.

        Args:
            timeout_s: Give up waiting (the run goes on) after this; None waits for ever.
            progress: Show a bar; None shows one in a terminal or notebook after half a second.

        Raises:
            PeerError: ``peer-timeout``, or the hub stayed away.
        """
        if self._info.finished:
            return self
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        shown = _interactive() if progress is None else progress
        with _Bar(self._info.computation, shown) as bar:
            for info in self._follow(deadline):
                self._info = info
                bar.update(info.progress, info.message)
        return self

    def result(self, timeout_s: float | None = None) -> Result:
        """Wait, then the result; a failed run raises the error that it failed with.

        Raises:
            VerificationError: The result is not one that enough members of the consortium, and
                participants of the contract, have witnessed.
        """
        self.wait(timeout_s)
        self._info.raise_for_status()
        data, self._sent = self._sent, None
        if data is None:
            data = self._client.get(f"/runs/{self.id}/result")
        if not isinstance(data, dict) or not isinstance(data.get("result"), dict):
            raise ProtocolError("malformed-message", "The hub's answer holds no result.")
        self._receipt = verify_result(
            data, run_id=self.id, contract=self._contract, ledger_key=self._client.ledger_key
        )
        info = RunInfo.from_json(data.get("run"))
        if info.id != self.id:
            raise ProtocolError("malformed-message", "The hub's answer is about another run.")
        self._info = info
        if info.computation.startswith(TASK_PREFIX):
            return TaskResult(info, data["result"], self._client, self._contract, self._request)
        population = asked_population(self._contract, info.cohort)
        return result_from_wire(info, data["result"], population.variables)

    def ended_task(self) -> TaskResult:
        """How a task's run ended, its log included; also where its program failed.

        Raises:
            InputError: ``not-found`` where it is no run of a task, or its program never began.
            VerificationError: The outcome is not what an enclave of the contract signed.
        """
        path = f"/runs/{self.id}/outcome"
        envelope = b"".join(self._client.download(path))
        return TaskResult.signed(self._info, envelope, self._client, self._contract, self._request)

    def _follow(self, deadline: float | None) -> Iterator[RunInfo]:
        """The run's record each time it changes, until it is finished."""
        last, lost_since = 0, None
        while not self._info.finished:
            try:
                for event in self._client.events(f"/runs/{self.id}/events", after=last):
                    lost_since = None
                    last = event.number if event.number is not None else last
                    if event.kind in {"progress", "done"} and isinstance(event.data, dict):
                        yield self._merged(event.data)
                    elif event.kind == "result":
                        self._sent = event.data
                    _check_deadline(deadline, self._info)
                if not self._info.finished:
                    yield self.refresh()
            except PeerError:
                now = time.monotonic()
                lost_since = now if lost_since is None else lost_since
                if now - lost_since > RECONNECT_FOR_S:
                    raise
            _check_deadline(deadline, self._info)
            if not self._info.finished:
                time.sleep(RECONNECT_PAUSE_S)

    def _merged(self, data: Mapping[str, Any]) -> RunInfo:
        """An event carries the whole record or only progress and message."""
        return RunInfo.from_json({**self._info.to_json(), **data})


def _check_deadline(deadline: float | None, info: RunInfo) -> None:
    if deadline is not None and time.monotonic() > deadline:
        waits = f" {info.message}" if info.status == "witnessing" else ""
        raise PeerError(
            "peer-timeout",
            f"Run {info.id[:8]} is not finished yet; it goes on at the hub.{waits} Wait again, or "
            "cancel it: cohortium run cancel",
            run=info.id,
        )


class _Bar:
    """Nothing is drawn until the run has taken half a second."""

    def __init__(self, title: str, enabled: bool) -> None:
        self._title = title
        self._enabled = enabled
        self._lock = threading.Lock()
        self._timer: threading.Timer | None = None
        self._progress: Any = None
        self._task: Any = None
        self._seen = (0.0, "")

    def __enter__(self) -> Self:
        if self._enabled:
            self._timer = threading.Timer(BAR_AFTER_S, self._start)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
        with self._lock:
            if self._progress is not None:
                self._progress.stop()

    def update(self, share: float, message: str) -> None:
        """Move the bar to `share` (0 to 1)."""
        with self._lock:
            self._seen = (share, message)
            if self._progress is not None:
                self._progress.update(self._task, completed=share, message=message)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        with self._lock:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[message]}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            share, message = self._seen
            self._task = self._progress.add_task(
                self._title, total=1.0, completed=share, message=message
            )
            self._progress.start()


def _interactive() -> bool:
    """A terminal on stderr, or a Jupyter kernel."""
    return sys.stderr.isatty() or "ipykernel" in sys.modules
