"""One consortium of real processes for all end-to-end tests of a worker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support import sites
from tests.support.no_alarms import require_no_alarms_in

import cohortium as co
from cohortium.demo.consortium import Consortium


@pytest.fixture(scope="session")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """A hub and three nodes; tests that kill a process start it again."""
    running = sites.start(tmp_path_factory.mktemp("consortium"))
    yield running
    running.stop()
    require_no_alarms_in(running.node_dir(site) for site in sites.SITES)


@pytest.fixture
def federation(consortium: Consortium, monkeypatch: pytest.MonkeyPatch) -> Iterator[co.Federation]:
    """The researcher's connection."""
    monkeypatch.setenv("COHORTIUM_PROFILE", str(consortium.profile))
    with co.connect() as connected:
        yield connected


@pytest.fixture
def study(federation: co.Federation) -> co.Study:
    """The study that all three sites signed."""
    return federation.study(sites.STUDY)
