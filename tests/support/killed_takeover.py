"""A take-over that kills itself before or after a step.

``python -m tests.support.killed_takeover ROOT STEP MOMENT``; see `tests.support.lost_hub`.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.lost_hub import take_over_in

from cohortium.hub import takeover
from cohortium.hub.folder import HubFolder
from cohortium.hub.ledger_store import LedgerStore
from cohortium.hub.member_store import MemberStore

STEPS: dict[str, tuple[Any, str]] = {
    "make the folder": (takeover, "make"),
    "adopt the members": (MemberStore, "adopt"),
    "say that it took over": (LedgerStore, "append"),
    "keep the keys": (HubFolder, "write_ledger_keys"),
    "keep the checkpoint": (takeover, "write_atomically"),
    "give the folder its name": (takeover, "_appear"),
}
"""Each durable write; the ledger itself is adopted between the first two."""


def die() -> None:
    """As the machine's end would be."""
    os.kill(os.getpid(), signal.SIGKILL)


def around(call: Callable[..., Any], moment: str, fail: Callable[[], None]) -> Callable[..., Any]:
    """`call`, failing before or after it took effect."""

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if moment == "before":
            fail()
        outcome = call(*args, **kwargs)
        if moment == "after":
            fail()
        return outcome

    return wrapped


if __name__ == "__main__":
    root, step, moment = sys.argv[1:]
    owner, name = STEPS[step]
    setattr(owner, name, around(getattr(owner, name), moment, die))
    take_over_in(Path(root))
