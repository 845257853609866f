"""Looking every minute for what the hub keeps off the ledger."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Final

from cohortium.core.clock import Clock, system_clock
from cohortium.node.witness import Witness

WATCH_S: Final = 60.0


async def keep_watch(
    witness: Witness,
    connected: Callable[[], bool],
    *,
    every_s: float = WATCH_S,
    clock: Clock = system_clock,
) -> None:
    """Look for omissions until cancelled; not right after the machine stood still.

    Args:
        connected: Whether the hub is there: else it can tell nothing.
    """
    looked = clock()
    while True:
        await asyncio.sleep(every_s)
        before, looked = looked, clock()
        if looked - before > timedelta(seconds=2 * every_s):
            witness.woke()
        elif connected():
            await asyncio.to_thread(witness.check_omissions)
