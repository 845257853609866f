"""A task on what two institutions lend, from the hub's order to what its recipients open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.enclave_hub import MARKER, World, judge

from cohortium.contract.task import MIB, Argument, Code, Limits, OutputSlot
from cohortium.enclave.builtin import find
from cohortium.enclave.executors.landlock import Landlock
from cohortium.enclave.unprivileged import mounts_refused
from cohortium.worker.cache import CiphertextCache
from cohortium.worker.inputs import LentInput

pytestmark = pytest.mark.skipif(bool(Landlock().missing()), reason="no sandbox on this machine")


async def test_a_task_reads_what_two_lend_and_its_recipients_alone_open_what_it_gives(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    report = await world.run()
    assert report.outcome, report.error
    outcome = world.outcome()
    assert (outcome.end, outcome.executor, outcome.level) == ("succeeded", "landlock", "L2")
    expected = MARKER + b" left" + b"b" * 9000 + MARKER + b" right"
    for key in (world.ada_vault, world.beta.vault):
        assert world.opened("result", key) == {"joined.bin": expected}
    assert world.opened("log", world.ada_vault) == {
        "log.txt": f"read {len(expected)} hello\n".encode()
    }
    assert {one.slot for one in outcome.outputs} == {"result", "log"}
    assert set(outcome.releases) == {"Alpha", "Beta"}
    assert MARKER not in world.on_disk()


LARGE = """
    import pathlib, sys
    left = pathlib.Path(sys.argv[1])
    kinds = [line.split()[:3] for line in open("/proc/self/mounts")]
    print(any("fuse" in kind and str(left) == place for _, place, kind in kinds))
    sizes = [file.stat().st_size for file in sorted(left.rglob("*")) if file.is_file()]
    with (left / "big.bin").open("rb") as file:
        file.seek(20_000_000)
        print(sizes, file.read(4))
"""


@pytest.mark.skipif(mounts_refused() is not None, reason="no mounts on this machine")
async def test_large_inputs_are_decrypted_as_they_are_read(tmp_path: Path) -> None:
    big = bytes(20_000_000) + b"here" + bytes(1_000_000)
    limits = Limits(memory_bytes=64 * MIB, cpu_s=20, time_s=20, disk_bytes=MIB, processes=8)
    world = World(tmp_path, program=LARGE, left={"big.bin": big}, terms={"limits": limits})
    await world.run()
    assert world.opened("log", world.ada_vault) == {"log.txt": b"True\n[21000004] b'here'\n"}


async def test_keys_are_asked_for_with_evidence_of_a_simulated_tee_where_a_contract_allows_it(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    named = {"kind": "simulated", "value": world.code_digest.removeprefix("sha256:")}
    world = World(
        tmp_path / "named",
        level="L4",
        environment={"allow_simulated": True, "measurements": (named,)},
    )
    for lender in world.lenders.values():
        lender.evidence = judge(world.contract)
    await world.run()
    assert world.outcome().end == "succeeded"
    assert world.outcome().executor == "simulated"
    assert [one.offer.level for one in world.alpha.shown] == ["L4"]


async def test_a_built_in_task_joins_what_two_lend_and_gives_what_the_contract_names(
    tmp_path: Path,
) -> None:
    code = Code(name="builtin:join", content_digest=find("join").digest, owner="Ada", public=True)
    rows = [f"{number},{number * number}" for number in range(40)]
    world = World(
        tmp_path,
        left={"bank.csv": "\n".join(["id,paid", *rows]).encode()},
        right="\n".join(["id,bought", *rows]).encode(),
        right_kind="dataset",
        terms={
            "code": code,
            "arguments": (Argument(name="id", value="id"), Argument(name="columns")),
            "outputs": (OutputSlot(name="table", owners=("Ada",), recipients=("Ada",)),),
        },
    )
    request = world.request(params={"columns": "left.paid,right.bought"})
    await world.run(world.prepare(request, code=b""))
    assert world.outcome().end == "succeeded", world.opened("log", world.ada_vault)
    (table,) = world.opened("table", world.ada_vault).values()
    assert len(table.splitlines()) == 41
    assert {one.slot for one in world.outcome().outputs} == {"table", "log"}


async def test_a_fault_of_our_own_is_told_without_what_it_was_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_given: object) -> None:
        raise ValueError("Mr Smith has it")

    monkeypatch.setattr(CiphertextCache, "reserve", fails)
    world = World(tmp_path)
    await world.run()
    assert world.error().code == "peer-failed"
    assert "Smith" not in world.error().message + caplog.text
    assert "ValueError at" in caplog.text


async def test_without_evidence_no_key_is_asked_for_at_a_level_that_needs_it(
    tmp_path: Path,
) -> None:
    class Silent(Landlock):
        name = "silent"
        levels = ("L4",)

    measured = ({"kind": "mrenclave", "value": "0" * 64},)
    world = World(
        tmp_path, level="L4", environment={"measurements": measured}, executors=("silent",)
    )
    async with world.serving(known={"silent": Silent()}):
        await world.send(task_prepare=world.prepare())
        await world.ended()
    assert world.error().code == "executor-unavailable"
    assert "gives no evidence" in world.error().message
    assert world.alpha.sessions == {}


async def test_a_file_that_is_spoilt_while_the_task_reads_it_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    whole = LentInput.lend

    def lend(self: LentInput, handed: Any, files: Any, keyring: Any) -> None:
        whole(self, handed, files, keyring)
        for one in files.values():
            content = bytearray(one.path.read_bytes())
            content[-20] ^= 1
            one.path.write_bytes(content)

    monkeypatch.setattr(LentInput, "lend", lend)
    await world.run()
    assert world.error().code == "bad-vault-file"
    assert not world.outputs
