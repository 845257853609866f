"""After tests of other things: no node has found fault with the ledger."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path

from cohortium.node.alarms import alarms
from cohortium.node.store import NodeStore


def require_no_alarms(stores: Iterable[NodeStore]) -> None:
    """Of open stores."""
    found = [alarm for store in stores for alarm in alarms(store)]
    assert found == []


def require_no_alarms_in(folders: Iterable[Path]) -> None:
    """Of nodes' folders; their processes may be serving."""
    for folder in folders:
        db = sqlite3.connect(f"file:{folder / 'node.db'}?mode=ro", uri=True)
        try:
            found = db.execute("SELECT kind, message FROM ledger_alarms").fetchall()
            kept = db.execute("SELECT count(*) FROM ledger_entries").fetchone()
        finally:
            db.close()
        assert found == [], folder
        assert kept[0] > 0, f"{folder} has witnessed nothing"
