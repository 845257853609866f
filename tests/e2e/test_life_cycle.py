"""The whole life of a study over real processes, by the commands that people give."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.sites import SITES, proposal

import cohortium as co
from cohortium.demo.consortium import Consortium
from cohortium.errors import ConflictError, PolicyRefusal
from cohortium.node.config import NodeDir
from cohortium.node.store import NodeStore

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("e2e")]

STUDY = "trial-life"
WAIT_S = 30.0


def until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not ready():
        if time.monotonic() > deadline:
            raise AssertionError("it did not come about in time")
        time.sleep(0.1)


def states(consortium: Consortium, digest: str) -> set[str]:
    """The contract's state at every site, from the file that the serving node writes."""
    found: set[str] = set()
    for site in SITES:
        store = NodeStore(NodeDir(consortium.node_dir(site)).store)
        stored = store.contract(digest)
        found.add("unknown" if stored is None else stored.state)
        store.close()
    return found


def test_a_study_is_signed_amended_suspended_and_closed(
    consortium: Consortium, federation: co.Federation, tmp_path: Path
) -> None:
    file = tmp_path / "study.yaml"

    # Propose, sign, run.
    file.write_text(proposal(STUDY))
    first = consortium.cli("study", "propose", str(file))
    for site in SITES:
        consortium.sign(site, STUDY)
    until(lambda: states(consortium, first["contract_digest"]) == {"active"})
    opened = federation.study(STUDY)
    assert opened.describe("age").run.contract_digest == first["contract_digest"]

    # Amend, sign, run under the new version; the old one holds until then.
    file.write_text(proposal(STUDY, glm_runs=5))
    second = consortium.cli("study", "amend", STUDY, str(file))
    assert second["contract"]["amends"] == first["contract_digest"]
    for site in SITES[:2]:
        consortium.sign(site, STUDY)
    assert consortium.cli("study", "show", STUDY)["contract_digest"] == first["contract_digest"]
    assert opened.describe("age").run.status == "succeeded"
    consortium.sign(SITES[2], STUDY)
    until(lambda: states(consortium, second["contract_digest"]) == {"active"})
    assert states(consortium, first["contract_digest"]) == {"superseded"}
    with pytest.raises(ConflictError) as stale:
        opened.describe("age")
    assert stale.value.code == "stale-version"
    opened = federation.study(STUDY)
    assert opened.describe("age").run.contract_digest == second["contract_digest"]

    # One site suspends: at once there, then everywhere.
    beta = str(consortium.node_dir(SITES[1]))
    consortium.cli("study", "suspend", STUDY, "--reason", "A question.", "--dir", beta)
    with pytest.raises(PolicyRefusal) as held:
        opened.describe("age")
    assert held.value.code == "contract-suspended"
    until(lambda: states(consortium, second["contract_digest"]) == {"suspended"})
    (listed,) = [s for s in consortium.cli("study", "list") if s["id"] == STUDY]
    assert listed["status"] == "suspended"
    assert [one["by"] for one in listed["suspensions"]] == [SITES[1]]

    # And resumes.
    consortium.cli("study", "resume", STUDY, "--reason", "Answered.", "--dir", beta)
    until(lambda: states(consortium, second["contract_digest"]) == {"active"})
    assert opened.describe("age").run.status == "succeeded"

    # The researcher closes.
    keeps = "The results, for ten years."
    closed = consortium.cli("study", "close", STUDY, "--reason", "Done.", "--keeps", keeps)
    assert (closed["state"], closed["keeps"]) == ("closed", [keeps])
    until(lambda: states(consortium, second["contract_digest"]) == {"closed"})
    with pytest.raises(PolicyRefusal) as ended:
        opened.describe("age")
    assert ended.value.code == "contract-ended"
    history = consortium.cli("study", "history", STUDY)
    assert [(row["version"], row["action"], row["state"]) for row in history] == [
        (1, "propose", "proposed"),
        (1, "sign", "proposed"),
        (1, "sign", "proposed"),
        (1, "sign", "active"),
        (2, "propose", "proposed"),
        (2, "sign", "proposed"),
        (2, "sign", "proposed"),
        (2, "sign", "active"),
        (2, "suspend", "suspended"),
        (2, "resume", "active"),
        (2, "close", "closed"),
    ]
    here = consortium.cli("study", "history", STUDY, "--dir", beta)
    assert {row["action"] for row in here} == {row["action"] for row in history}
