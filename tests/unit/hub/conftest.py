"""A hub over made-up sites, with a second researcher."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.support.fake_sites import World, key, make_hub, start_world

from cohortium.hub.config import HubConfig
from cohortium.hub.store import HubStore
from cohortium.hub.thread_runner import ThreadRunner


@pytest.fixture
async def world() -> AsyncIterator[World]:
    store = HubStore("sqlite://")
    runner = ThreadRunner()
    config = HubConfig(gather_timeout_s=0.5, round_timeout_s=20.0)
    made = await start_world(make_hub(store, runner, config=config))
    made.hub.members.add_user("Bob", key("Bob").public)
    yield made
    await made.hub.stop()
    await asyncio.to_thread(runner.close)
    store.close()
