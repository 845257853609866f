"""The hub's settings: what fits the patience of the nodes, and what does not."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from cohortium.errors import InputError
from cohortium.hub.config import CONFIG_FILE, HubConfig
from cohortium.node.witness import ENDED_AFTER, OMITTED_AFTER


def load(folder: Path, line: str) -> HubConfig:
    (folder / CONFIG_FILE).write_text(f'name = "Test"\n{line}\n')
    return HubConfig.load(folder)


def test_a_hub_that_waits_as_long_as_it_may_is_no_cause_for_alarm(tmp_path: Path) -> None:
    config = load(tmp_path, "gather_timeout_s = 600\nround_timeout_s = 10800\nstraggler_s = 10800")
    assert timedelta(seconds=config.gather_timeout_s) < OMITTED_AFTER - timedelta(minutes=4)
    assert 4 * timedelta(seconds=config.round_timeout_s + config.straggler_s) <= ENDED_AFTER


@pytest.mark.parametrize(
    "line",
    ["gather_timeout_s = 601", "gather_timeout_s = 0", "round_timeout_s = 86400",
     "straggler_s = 10801"],
)  # fmt: skip
def test_a_hub_that_would_wait_longer_than_the_nodes_does_not_start(
    tmp_path: Path, line: str
) -> None:
    with pytest.raises(InputError) as refusal:
        load(tmp_path, line)
    assert refusal.value.code == "bad-config"
    assert line.split(maxsplit=1)[0] in refusal.value.message
