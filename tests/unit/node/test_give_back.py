"""A node gives the statements that it holds back to a hub that took over."""

from __future__ import annotations

from pathlib import Path

import pytest

from cohortium.core.canonical import digest_bytes
from cohortium.node import statements
from cohortium.node.store import NodeStore

DIGEST = "sha256:" + "0" * 64


@pytest.fixture
def store(tmp_path: Path) -> NodeStore:
    return NodeStore(tmp_path / "node.db")


def test_only_what_is_asked_for_and_held_is_given(store: NodeStore) -> None:
    envelopes = [b'{"one":1}', b'{"two":2}', b'{"three":3}']
    with store.transaction():
        for envelope in envelopes:
            statements.keep(
                store, envelope, contract=DIGEST, action="sign", author="Alpha", key="ed25519:key"
            )
    wanted = [digest_bytes(envelopes[2]), DIGEST, "nonsense", digest_bytes(envelopes[0])]
    assert statements.give_back(store, wanted) == [envelopes[2], envelopes[0]]
    assert statements.give_back(store, []) == []
