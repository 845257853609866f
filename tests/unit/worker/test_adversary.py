"""A hub, a lender or a program that does not do as it should."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.enclave_hub import MARKER, SMALL, Lender, World

from cohortium.crypto.keys import SigningKey
from cohortium.enclave.exchange import Handed, Keys
from cohortium.enclave.executors.landlock import Landlock
from cohortium.errors import ConflictError, PolicyRefusal
from cohortium.vault.keys import PrivateKey
from cohortium.worker import hub_calls

pytestmark = pytest.mark.skipif(bool(Landlock().missing()), reason="no sandbox on this machine")


async def fails(world: World) -> str:
    """The code of the error that ends a run; no output has left."""
    await world.run()
    assert not world.outputs
    assert MARKER not in world.on_disk()
    return world.error().code


async def test_ciphertext_that_was_altered_on_the_way_ends_the_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    data = bytearray(world.beta.ciphertext[""])
    bound = world.beta.lent
    data[-3] ^= 1
    world.beta.handed = _with_files(bound)
    world.beta.ciphertext[""] = bytes(data)
    assert await fails(world) == "bad-digest"


async def test_two_files_exchanged_on_the_way_end_the_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.alpha.handed = _with_files(world.alpha.lent)
    files = world.alpha.ciphertext
    files["a.txt"], files["deep/b.txt"] = files["deep/b.txt"], files["a.txt"]
    assert await fails(world) in {"bad-digest", "malformed-message"}


def _with_files(files: Any) -> Callable[[Keys], Keys]:
    """The keys, with the list of files that the contract binds."""

    def changed(keys: Keys) -> Keys:
        inputs = {
            slot: Handed(files=files, grants=one.grants, writer=one.writer)
            for slot, one in keys.inputs.items()
        }
        return Keys(release=keys.release, inputs=inputs)

    return changed


async def test_other_files_than_the_contract_binds_end_the_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    other = Lender("Beta", "right", {"": b"another"}, vault=world.beta.vault)
    world.beta.files, world.beta.ciphertext = other.files, other.ciphertext
    assert await fails(world) == "bad-digest"


async def test_other_files_behind_a_right_release_end_the_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    bound = world.beta.lent.digest
    world.beta.ciphertext[""] = world.alpha.ciphertext["a.txt"]
    world.beta.vault = world.alpha.vault
    world.beta.names = {"right": bound}
    asked = world.prepare(cards=[world.card("Ada", world.ada, world.ada_vault), world.beta_card])
    await world.run(asked)
    assert world.error().code == "bad-digest"
    assert "not what the contract names" in world.error().message
    assert world.beta.fetched == []


async def test_a_release_of_other_data_ends_the_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.beta.names = {"right": world.alpha.lent.digest}
    assert await fails(world) == "bad-digest"
    assert "releases other data" in world.error().message


async def test_a_release_that_the_lender_did_not_sign_ends_the_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.beta.signs_with = SigningKey.generate()
    assert await fails(world) == "unknown-signer"
    assert world.beta.fetched == []


async def test_a_release_of_an_earlier_run_ends_the_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    kept: list[Keys] = []

    def replay(keys: Keys) -> Keys:
        kept.append(keys)
        return Keys(release=kept[0].release, inputs=keys.inputs)

    world.beta.handed = replay
    async with world.serving():
        await world.send(task_prepare=world.prepare())
        await world.ended()
        assert world.outcome().end == "succeeded"
        world.reports.clear()
        world.outputs.clear()
        await world.send(task_prepare=world.prepare())
        await world.ended()
    assert world.error().code == "bad-digest"
    assert "run_id" in world.error().message
    assert not world.outputs


async def test_files_of_another_writer_than_the_lender_says_end_the_run(tmp_path: Path) -> None:
    world = World(tmp_path)
    stranger = PrivateKey.generate().public.signer

    def changed(keys: Keys) -> Keys:
        inputs = {
            slot: Handed(files=one.files, grants=one.grants, writer=stranger)
            for slot, one in keys.inputs.items()
        }
        return Keys(release=keys.release, inputs=inputs)

    world.beta.handed = changed
    assert await fails(world) == "unknown-signer"


async def test_keys_of_other_files_end_the_run(tmp_path: Path) -> None:
    world = World(tmp_path)

    def swapped(keys: Keys) -> Keys:
        one = keys.inputs["left"]
        first, second = one.grants
        grants = {first: one.grants[second], second: one.grants[first]}
        return Keys(
            release=keys.release,
            inputs={"left": Handed(files=one.files, grants=grants, writer=one.writer)},
        )

    world.alpha.handed = swapped
    assert await fails(world) == "bad-vault-file"


async def test_a_lender_that_refuses_ends_the_run_with_its_reason(tmp_path: Path) -> None:
    world = World(tmp_path)

    def refuse(_shown: object) -> None:
        raise PolicyRefusal("site-policy", "Not on Sundays.")

    world.alpha.evidence = refuse
    assert await fails(world) == "site-policy"
    assert world.error().message == "Not on Sundays."
    assert world.beta.shown == []


GREEDY = """
    import pathlib, sys
    out = pathlib.Path(sys.argv[3])
    (out / "kept.bin").write_bytes(b"x" * 4096)
    with (out / "huge.bin").open("wb") as file:
        for _ in range(64):
            file.write(b"x" * 1048576)
"""


async def test_a_program_that_gives_more_than_its_limit_gives_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, program=GREEDY, terms={"limits": SMALL})
    await world.run()
    assert world.outcome().end == "disk"
    assert {one.slot for one in world.outcome().outputs} == {"log"}
    assert set(world.outputs) == {"log"}


async def test_of_a_program_that_fails_the_log_alone_comes(tmp_path: Path) -> None:
    world = World(tmp_path, program="print('so far'); raise SystemExit(3)")
    await world.run()
    assert world.outcome().end == "failed"
    assert world.opened("log", world.ada_vault) == {"log.txt": b"so far\n"}
    assert set(world.outputs) == {"log"}


async def test_a_log_that_is_for_nobody_goes_nowhere(tmp_path: Path) -> None:
    world = World(tmp_path, terms={"log_recipients": ()})
    await world.run()
    assert world.outcome().end == "succeeded"
    assert set(world.outputs) == {"result"}


SLEEPS = "import time; print('here', flush=True); time.sleep(60)"


async def test_a_task_that_is_stopped_ends_at_once_and_gives_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, program=SLEEPS)
    async with world.serving() as service:
        asked = world.prepare()
        await world.send(task_prepare=asked)
        while "running" not in {one.stage for one in world.reports}:
            await asyncio.sleep(0.01)
        (run_id,) = service.progress
        await world.send(task_stop={"run_id": run_id, "reason": "cancelled"})
        await world.ended(timeout_s=5)
        assert world.outcome().end == "stopped"
        assert not world.outputs
        assert service.progress == {}
    assert MARKER not in world.on_disk()


async def test_an_error_in_answer_to_a_report_stops_the_task(tmp_path: Path) -> None:
    world = World(tmp_path, program=SLEEPS)

    def over(report: Any) -> None:
        if report.stage == "running":
            raise ConflictError("run-cancelled", "The run was cancelled.")

    world.on["task_report"] = over
    async with world.serving():
        await world.send(task_prepare=world.prepare())
        await world.ended(timeout_s=10)
    assert world.outcome().end == "stopped"


async def test_a_stop_while_keys_are_waited_for_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_calls, "PAUSE_S", 0.05)
    world = World(tmp_path)
    waiting = asyncio.Event()

    def away(_message: Any) -> None:
        from cohortium.errors import PeerError

        waiting.set()
        raise PeerError("peer-unreachable", "Alpha is not connected.")

    world.on["task_channel"] = away
    async with world.serving() as service:
        await world.send(task_prepare=world.prepare())
        await waiting.wait()
        (run_id,) = service.progress
        await world.send(task_stop={"run_id": run_id, "reason": "cancelled"})
        await world.ended(timeout_s=5)
    assert world.outcome().end == "stopped"
    assert world.outcome().releases == {}


async def test_what_was_released_before_a_stop_is_said(tmp_path: Path) -> None:
    world = World(tmp_path)

    def beta(message: Any) -> None:
        if message.site == "Beta":
            world.service._runs[message.run_id].stop("cancelled")

    world.on["task_channel"] = beta
    async with world.serving():
        await world.send(task_prepare=world.prepare())
        await world.ended(timeout_s=5)
    assert set(world.outcome().releases) == {"Alpha"}


async def test_a_removed_researcher_s_run_is_stopped(tmp_path: Path) -> None:
    world = World(tmp_path, program=SLEEPS)
    async with world.serving():
        await world.send(task_prepare=world.prepare())
        while "running" not in {one.stage for one in world.reports}:
            await asyncio.sleep(0.01)
        await world.send(revocation={"revoked_keys": [world.ada.public]})
        await world.ended(timeout_s=5)
    assert world.outcome().end == "stopped"
