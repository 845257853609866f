"""A hub's enrolment, played by the test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from cohortium.core.invitation import Invitation
from cohortium.core.rest import ConsortiumInfo, EnrolmentInfo
from cohortium.crypto.authority import Authority
from cohortium.crypto.enrolment import SiteEnrolment, SiteStatusRequest
from cohortium.errors import VerificationError

NAME = "Alpha Hospital"


class JoiningHub:
    """Answers as the hub's REST interface does; `approved` is the operator's decision."""

    def __init__(self, kind: Any = "site") -> None:
        now = datetime.now(UTC)
        self.authority = Authority.create("Test consortium", now)
        self.approved = False
        self.status = "pending"
        self.enrolments: list[SiteEnrolment] = []
        self.broken: Callable[[httpx.Request], httpx.Response] | None = None
        self.ca_pem = self.authority.certificate_pem.decode()
        self.invitation = Invitation(
            kind=kind,
            consortium="Test consortium",
            ca=self.authority.fingerprint,
            hub="https://hub.example:8443",
            name=NAME,
            secret="s" * 43,
            expires_at=now + timedelta(days=1),
        )

    def client(self, url: str, ca_pem: str | None) -> httpx.Client:
        assert ca_pem in {None, self.ca_pem}
        return httpx.Client(
            base_url=f"{url}/api/v1", transport=httpx.MockTransport(self.broken or self.answer)
        )

    def answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        if path == "/consortium":
            info = ConsortiumInfo(
                name="Test consortium",
                fingerprint=self.authority.fingerprint,
                ca_pem=self.ca_pem,
                link_address="hub.example:9443",
            )
            return httpx.Response(200, json=info.to_json())
        if path == "/enrol":
            enrolment, signer = SiteEnrolment.open(request.content)
            assert signer == enrolment.key
            if self.enrolments:
                error = VerificationError("bad-invitation", "The invitation was used.")
                return httpx.Response(401, json={"error": error.to_wire()})
            self.enrolments.append(enrolment)
            return httpx.Response(200, json=self._info())
        question, signer = SiteStatusRequest.open(request.content)
        assert (question.name, signer) == (NAME, self.enrolments[0].key)
        return httpx.Response(200, json=self._info())

    def _info(self) -> dict[str, Any]:
        pem = None
        if self.approved:
            csr = self.enrolments[0].csr_pem.encode()
            pem = self.authority.issue_node(csr, NAME, "n1", datetime.now(UTC)).decode()
        status: Any = "approved" if self.approved else self.status
        return EnrolmentInfo(member=NAME, status=status, certificate_pem=pem).to_json()
