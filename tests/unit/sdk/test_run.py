"""A run's handle: waiting, interruptions, failure, cancellation, the bar."""

from __future__ import annotations

import io
import time
from typing import Any

import httpx
import pytest
from tests.support.fake_hub import FINGERPRINT, FakeHub, events
from tests.support.fake_sites import SITES, key, make_contract
from tests.support.receipts import SmallLedger

from cohortium.errors import (
    CohortiumError,
    ConflictError,
    PeerError,
    PolicyRefusal,
    ProtocolError,
    VerificationError,
)
from cohortium.sdk import run as run_module
from cohortium.sdk.run import Run
from cohortium.sdk.run_info import RunInfo

RUN_ID = "ab" * 16
CONTRACT = make_contract(FINGERPRINT)
LEDGER = SmallLedger(FINGERPRINT, {name: key(name) for name in SITES})
CONSORTIUM = {
    "name": "Test",
    "fingerprint": FINGERPRINT,
    "ca_pem": "",
    "link_address": "hub:1",
    "ledger_key": LEDGER.verifier,
}


def _info(**more: Any) -> dict[str, Any]:
    return {
        "id": RUN_ID,
        "study": "s",
        "contract_digest": CONTRACT.digest,
        "computation": "bench.vector",
        "params": {},
        "status": "running",
        "researcher": "ed25519:x",
        "submitted_at": "2026-11-22T00:00:00Z",
    } | more


DONE = _info(status="succeeded", participants=["A", "B"], rounds=2, seconds=1.5, progress=1.0)


def _handle(answers: dict[str, Any], **more: Any) -> Run:
    return Run(FakeHub(answers).client(), RunInfo.from_json(_info(**more)), CONTRACT)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "RECONNECT_PAUSE_S", 0.01)


def test_a_run_of_a_task_is_told_with_its_enclave_and_without_rounds() -> None:
    task = {"computation": "task.train", "participants": ["A", "B"]}
    info = RunInfo.from_json(_info(**task, enclave="Kiel"))
    assert ", 2 sites, in the enclave Kiel, contract " in info.line()
    lost = RunInfo.from_json(_info(**task, status="failed"))
    assert ", 2 sites, in no enclave, contract " in lost.line()
    for text in (info.line(), info._repr_html_()):
        assert "Kiel" in text
        assert "rounds" not in text
        assert "bytes" not in text
    sums = RunInfo.from_json(DONE)
    assert "2 sites, 2 rounds, 0 bytes left the sites, contract " in sums.line()
    assert "bytes that left the sites" in sums._repr_html_()


def test_waiting_follows_the_events_to_the_result() -> None:
    path = f"GET /runs/{RUN_ID}"
    run = _handle(
        {
            f"{path}/events": events(
                ("progress", _info(progress=0.5, message="sums")),
                ("heartbeat", {}),
                ("done", DONE),
            ),
            f"{path}/result": {"run": DONE, **LEDGER.result(RUN_ID, {"sum": 3})},
            "GET /consortium": CONSORTIUM,
        }
    )
    assert run.receipt is None
    assert run.wait().status == "succeeded"
    assert run.wait().info.rounds == 2
    assert run.result().to_json()["result"] == {"sum": 3}
    assert run.receipt is not None


def test_a_result_that_came_with_the_end_is_not_asked_for() -> None:
    result = {"run": DONE, **LEDGER.result(RUN_ID, {"sum": 3})}
    stream = events(("result", result), ("done", DONE))
    path = f"GET /runs/{RUN_ID}"
    run = _handle({f"{path}/events": stream, "GET /consortium": CONSORTIUM})
    assert run.result().to_json()["result"] == {"sum": 3}
    assert run.receipt is not None


def test_a_result_that_came_with_the_end_is_verified_too() -> None:
    result = {"run": DONE, **LEDGER.result(RUN_ID, {"sum": 3}), "result": {"sum": 4}}
    stream = events(("result", result), ("done", DONE))
    path = f"GET /runs/{RUN_ID}"
    run = _handle({f"{path}/events": stream, "GET /consortium": CONSORTIUM})
    with pytest.raises(VerificationError) as caught:
        run.result()
    assert caught.value.code == "bad-digest"


def test_a_result_that_was_not_witnessed_is_not_given() -> None:
    path = f"GET /runs/{RUN_ID}"
    run = _handle(
        {
            f"{path}/result": {"run": DONE, **LEDGER.result(RUN_ID, {"sum": 3}), "nonce": "00"},
            "GET /consortium": CONSORTIUM,
        },
        status="succeeded",
    )
    with pytest.raises(VerificationError) as caught:
        run.result()
    assert caught.value.code == "bad-digest"
    assert run.receipt is None


def test_who_waits_is_told_which_witnesses_are_missing() -> None:
    waits = _info(status="witnessing", message="Witnessed by Alpha; missing: Beta.")
    path = f"GET /runs/{RUN_ID}"
    run = _handle({f"{path}/events": lambda _: events(("progress", waits)), path: waits})
    with pytest.raises(PeerError, match="missing: Beta"):
        run.wait(timeout_s=0.05)
    assert not run.info.finished


def test_a_hub_that_restarts_is_waited_for() -> None:
    answers: list[Any] = [
        events(("progress", _info(rounds=1, progress=0.1))),
        httpx.ReadError("killed"),
        httpx.ConnectError("not yet"),
        events(("done", DONE)),
    ]
    asked: list[str] = []

    def stream(request: httpx.Request) -> Any:
        asked.append(request.url.query.decode())
        return answers.pop(0)

    path = f"GET /runs/{RUN_ID}"
    run = _handle({f"{path}/events": stream, path: _info(rounds=1)})
    assert run.wait(timeout_s=30).status == "succeeded"
    assert asked == ["after=0", "after=1", "after=1", "after=1"]


def test_a_hub_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "RECONNECT_FOR_S", 0.05)
    run = _handle({f"GET /runs/{RUN_ID}/events": httpx.ConnectError("gone")})
    with pytest.raises(PeerError) as caught:
        run.wait()
    assert caught.value.code == "peer-unreachable"


def test_waiting_may_be_limited() -> None:
    path = f"GET /runs/{RUN_ID}"
    run = _handle({f"{path}/events": lambda _: events(("heartbeat", {})), path: _info()})
    with pytest.raises(PeerError, match="goes on at the hub") as caught:
        run.wait(timeout_s=0.05)
    assert caught.value.code == "peer-timeout"


@pytest.mark.parametrize(
    ("status", "error", "family"),
    [
        ("failed", PolicyRefusal("too-few-persons", "A: 3 persons."), PolicyRefusal),
        ("failed", None, ConflictError),
        ("cancelled", None, ConflictError),
    ],
)
def test_a_run_without_a_result_raises_why(
    status: str, error: CohortiumError | None, family: type[CohortiumError]
) -> None:
    wire = None if error is None else error.to_wire()
    run = _handle({}, status=status, error=wire)
    assert run.wait().status == status
    with pytest.raises(family):
        run.result()


def test_cancel_and_resume_ask_the_hub() -> None:
    path = f"/runs/{RUN_ID}"
    run = _handle(
        {
            f"POST {path}/cancel": {},
            f"POST {path}/resume": {},
            f"GET {path}": _info(status="cancelled"),
        }
    )
    assert run.cancel().status == "cancelled"
    assert run.resume().status == "cancelled"
    assert run.status == "cancelled"


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {"run": DONE},
        {**LEDGER.result(RUN_ID, {}), "run": {}},
        {**LEDGER.result(RUN_ID, {}), "run": {**DONE, "id": "cd" * 16}},
    ],
)
def test_an_answer_that_is_no_result_is_a_protocol_error(answer: Any) -> None:
    answers = {f"GET /runs/{RUN_ID}/result": answer, "GET /consortium": CONSORTIUM}
    run = _handle(answers, status="succeeded")
    with pytest.raises(ProtocolError):
        run.result()


def test_the_bar_appears_after_a_while_and_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "BAR_AFTER_S", 0.01)
    drawn = io.StringIO()
    monkeypatch.setattr("sys.stderr", drawn)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")

    def stream(request: httpx.Request) -> httpx.Response:
        time.sleep(0.3)
        return events(("progress", _info(progress=0.5, message="sums")), ("done", DONE))

    run = _handle({f"GET /runs/{RUN_ID}/events": stream})
    run.wait(progress=True)
    assert "bench.vector" in drawn.getvalue()


def test_no_bar_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    _handle({f"GET /runs/{RUN_ID}/events": events(("done", DONE))}).wait()
    assert capsys.readouterr().err == ""


def test_a_run_in_one_line_and_as_html() -> None:
    info = RunInfo.from_json(DONE | {"bytes": {"A": 1000, "B": 24}})
    assert info.line().startswith(
        "run abababab succeeded in 1.50 s, 2 sites, 2 rounds, 1,024 bytes"
    )
    without = info.model_copy(update={"absent": ("South", "West")})
    assert "2 sites (without South, West), 2 rounds" in without.line()
    assert "South, West" in without._repr_html_()
    assert "1,024" in info._repr_html_()
    failed = RunInfo.from_json(_info(status="failed", error={"message": "<script>"}))
    assert "<script>" not in failed._repr_html_()
