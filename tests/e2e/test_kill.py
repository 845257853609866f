"""SIGKILL of the hub and of a node while a run is under way: same result, nothing twice.

The same up to the random rounding of vectors, which differs from run to run.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.sites import SITES, STUDY

import cohortium as co
from cohortium.core.rounds import FieldSpec
from cohortium.demo.consortium import Consortium
from cohortium.secagg.ring import ring_for

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]

ROUNDS = 12
PARAMS = {"components": 50, "rounds": ROUNDS, "pause_ms": 120}

RING = ring_for(FieldSpec((50,), "vector", bound=1024.0 * ROUNDS), len(SITES))
"""Of the benchmark's vector. A round's mean is off by less than a unit of it and float32's."""


def _reach(run: Any, rounds: int) -> None:
    deadline = time.monotonic() + 60
    while run.refresh().rounds < rounds:
        assert time.monotonic() < deadline, f"the run stayed at round {run.refresh().rounds}"
        time.sleep(0.02)


def _kill_hub(consortium: Consortium) -> None:
    consortium.kill("hub")
    consortium.restart("hub")


def _kill_node(consortium: Consortium) -> None:
    consortium.kill(f"node/{SITES[1]}")
    consortium.restart(f"node/{SITES[1]}")


def _kill_both(consortium: Consortium) -> None:
    consortium.kill(f"node/{SITES[2]}")
    consortium.kill("hub")
    consortium.restart("hub")
    consortium.restart(f"node/{SITES[2]}")


def _decisions(consortium: Consortium, run_id: str, site: str) -> list[dict[str, Any]]:
    entries = consortium.cli("node", "journal", "--dir", str(consortium.node_dir(site)))
    return [entry for entry in entries if entry.get("run_id") == run_id]


@pytest.mark.parametrize("at_round", [0, 1, 6, 11])
@pytest.mark.parametrize("kill", [_kill_hub, _kill_node, _kill_both])
def test_a_killed_process_changes_nothing(
    consortium: Consortium, study: co.Study, kill: Callable[[Consortium], None], at_round: int
) -> None:
    expected = (
        study.submit("bench.vector", {**PARAMS, "pause_ms": 0}).wait().result().to_json()["result"]
    )
    run = study.submit("bench.vector", PARAMS)
    _reach(run, at_round)
    kill(consortium)
    result = run.wait(timeout_s=120).result().to_json()["result"]
    tolerance = 2 * ROUNDS * 2.0**-RING.fraction_bits
    assert result == pytest.approx(expected, rel=ROUNDS * 2.0**-22, abs=tolerance)
    assert run.refresh().rounds == PARAMS["rounds"]
    for site in SITES:
        decisions = _decisions(consortium, run.id, site)
        rounds = Counter(e["round"] for e in decisions if e.get("round") is not None)
        assert all(e["allowed"] for e in decisions), decisions
        assert rounds == dict.fromkeys(range(1, PARAMS["rounds"] + 1), 1)
        admitted = [e for e in decisions if e.get("what") == "run"]
        assert len(admitted) == 1
    runs = [info for info in consortium.cli("run", "list", STUDY) if info["id"] == run.id]
    assert len(runs) == 1
    assert runs[0]["status"] == "succeeded"
