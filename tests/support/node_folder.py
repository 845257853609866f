"""A node's real files, for the steward's commands."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
from tests.support.builders import CONSORTIUM, World

from cohortium.contract.model import Contract
from cohortium.crypto import tls_keys as tls
from cohortium.crypto.authority import Authority
from cohortium.node.config import NodeConfig, NodeDir
from cohortium.node.main import open_service
from cohortium.node.policy import TEMPLATE


class Site:
    """Alpha's folder, with a dataset and a contract waiting."""

    def __init__(self, path: Path) -> None:
        self.world = World(now=datetime.now(UTC))
        self.folder = NodeDir(path)
        path.mkdir(mode=0o700)
        self.world.keys["Alpha"].save(self.folder.contract_key)
        self.folder.policy.write_text(TEMPLATE)
        self.folder.save_config(
            NodeConfig(
                name="Alpha",
                consortium="Test",
                consortium_fingerprint=CONSORTIUM,
                hub_url="https://hub.example:1",
                link_address="hub.example:2",
            )
        )
        authority = Authority.create("Test", self.world.now)
        csr = tls.begin(self.folder.tls, "Alpha")
        pem = authority.issue_node(csr, "Alpha", "n1", self.world.now)
        tls.finish(self.folder.tls, pem, authority.certificate_pem, self.world.clock)
        self.service = open_service(self.folder, self.folder.load_config())
        frame = pd.DataFrame({"age": range(12), "weight": [1.5 * x for x in range(12)]})
        self.service.datasets.add("patients", frame)  # type: ignore[attr-defined]
        self.digest = self.service.datasets.confirm("patients").digest  # type: ignore[attr-defined]

    def propose(self, **changes: Any) -> Contract:
        draft = self.world.contract(
            created_at=self.world.now - timedelta(days=1),
            expires_at=self.world.now + timedelta(days=30),
        )
        own, *others = draft.participants
        own = own.model_copy(update={"dataset_digest": self.digest})
        contract = draft.model_copy(update={"participants": (own, *others), **changes})
        contract = Contract.from_bytes(contract.to_bytes())
        reply = self.service.answer(self.world.proposal(contract))
        assert reply.WhichOneof("body") == "ack", reply
        return contract
