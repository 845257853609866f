"""A task on what two institutions lend, from the hub's order to what its recipients open."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.enclave_hub import MARKER, World, judge

from cohortium.contract.task import MIB, Limits
from cohortium.enclave.executors.landlock import Landlock
from cohortium.enclave.unprivileged import mounts_refused

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
