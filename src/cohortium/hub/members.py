"""Who belongs to the consortium: what operator, newcomers and members may change about it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TypeVar

from cohortium.core.clock import Clock
from cohortium.core.invitation import Invitation, secret_digest
from cohortium.core.publication import Publication
from cohortium.core.rest import EnrolmentInfo, UserInfo
from cohortium.crypto.authority import Authority, certificate_fingerprint
from cohortium.crypto.enrolment import (
    SiteEnrolment,
    SiteStatusRequest,
    UserEnrolment,
    rotation_bytes,
)
from cohortium.crypto.keys import b64url, verify
from cohortium.errors import ConflictError, InputError, PolicyRefusal, VerificationError
from cohortium.hub.member_store import InvitedKind, Member, MemberKind, MemberStore, User

INVITATION_DAYS = 14
STATUS_WINDOW = timedelta(minutes=5)

E = TypeVar("E", SiteEnrolment, UserEnrolment)


class Membership:
    """Operations on members and enclaves; the serving hub and the operator's commands use it.

    Args:
        authority: Issues the nodes' certificates; None where the link needs none (in memory).
        fingerprint: The consortium's.
        random: Returns so many random bytes.
    """

    def __init__(
        self,
        store: MemberStore,
        *,
        name: str,
        fingerprint: str,
        authority: Authority | None,
        clock: Clock,
        random: Callable[[int], bytes],
    ) -> None:
        self.store = store
        self._name = name
        self._fingerprint = fingerprint
        self._authority = authority
        self._clock = clock
        self._random = random

    # The operator

    def invite(
        self,
        name: str,
        *,
        kind: InvitedKind,
        hub: str,
        days: float = INVITATION_DAYS,
    ) -> Invitation:
        """A new one-time invitation for `name`; `hub` is the REST address.

        Raises:
            ConflictError: ``already-exists`` where the name is of one of another kind.
        """
        self.store.require_free(name, kind)
        invitation = Invitation(
            kind=kind,
            consortium=self._name,
            ca=self._fingerprint,
            hub=hub,
            name=name,
            secret=b64url(self._random(32)),
            expires_at=self._clock() + timedelta(days=days),
        )
        self.store.add_invitation(invitation)
        return invitation

    def approve(self, name: str) -> Member:
        """Issue a pending member's certificate and let it in.

        Raises:
            ConflictError: ``wrong-state``.
        """
        member = self.store.member(name)
        if member.status != "pending" or member.csr_pem is None:
            raise ConflictError("wrong-state", f"{name} is {member.status}, not pending.")
        self._issue(member, member.csr_pem.encode())
        return self.store.change_status(name, allowed=frozenset({"pending"}), to="approved")

    def suspend(self, name: str) -> Member:
        """Keep a member out until it is reinstated; its open link is cut."""
        return self.store.change_status(name, allowed=frozenset({"approved"}), to="suspended")

    def reinstate(self, name: str) -> Member:
        """Let a suspended member in again."""
        return self.store.change_status(name, allowed=frozenset({"suspended"}), to="approved")

    def remove(self, name: str) -> Member:
        """Remove a member for good and revoke its certificates; its name stays taken."""
        member = self.store.change_status(
            name, allowed=frozenset({"pending", "approved", "suspended"}), to="removed"
        )
        self.store.revoke_certificates(name, self._clock())
        return member

    def revoke_certificates(self, name: str) -> int:
        """Revoke a member's certificates (a stolen key); it joins again with a new invitation."""
        return self.store.revoke_certificates(self.store.member(name).name, self._clock())

    def remove_user(self, name: str) -> User:
        """Remove a researcher: the hub, and every node that hears of it, refuse the key."""
        return self.store.remove_user(name)

    def add(self, name: str, key: str, kind: MemberKind = "site") -> None:
        """Admit a member or an enclave without invitation and certificate, on an in-memory link."""
        self.store.add_member(
            name=name, key=key, node_id=self._random(16).hex(), now=self._clock(), kind=kind
        )

    def add_user(self, name: str, key: str) -> None:
        """Admit a researcher without an invitation."""
        self.store.add_user(name=name, key=key, now=self._clock())

    # Newcomers

    def enrol(self, envelope: bytes) -> EnrolmentInfo:
        """A node or an enclave enrols with its invitation; the operator's approval is to come.

        Which of the two it is stands in what the hub remembers of the invitation.
        """
        request = self._open(SiteEnrolment, envelope)
        member = self.store.enrol(
            secret_digest=secret_digest(request.secret),
            name=request.name,
            key=request.key,
            node_id=self._random(16).hex(),
            csr_pem=request.csr_pem,
            now=self._clock(),
        )
        return EnrolmentInfo(member=member.name, status=member.status)

    def enrolment_status(self, envelope: bytes) -> EnrolmentInfo:
        """How far an enrolment is; with the certificate once it is approved."""
        request, signer = SiteStatusRequest.open(envelope)
        member = self.store.find_member(request.name)
        if member is None or member.key != signer or request.ca != self._fingerprint:
            raise VerificationError("unknown-signer", "No member has this name and key here.")
        if abs(self._clock() - request.at) > STATUS_WINDOW:
            raise VerificationError(
                "stale-request", "The request's time is off; compare the machines' clocks."
            )
        certificate = None
        if member.status == "approved":
            certificate = self.store.latest_certificate(member.name)
        return EnrolmentInfo(member=member.name, status=member.status, certificate_pem=certificate)

    def enrol_user(self, envelope: bytes) -> UserInfo:
        """A researcher registers a key with an invitation."""
        request = self._open(UserEnrolment, envelope)
        user = self.store.enrol_user(
            secret_digest=secret_digest(request.secret),
            name=request.name,
            key=request.key,
            now=self._clock(),
        )
        return UserInfo(name=user.name, key=user.key)

    def _open(self, kind: type[E], envelope: bytes) -> E:
        request, signer = kind.open(envelope)
        if request.key != signer:
            raise VerificationError("unknown-signer", "The enrolment is signed by another key.")
        if request.ca != self._fingerprint:
            raise VerificationError("bad-invitation", "The invitation is of another consortium.")
        return request

    # Members

    def authorise(self, certificate_pem: bytes) -> str | None:
        """The approved member that a presented certificate belongs to."""
        try:
            fingerprint = certificate_fingerprint(certificate_pem)
        except VerificationError:
            return None
        return self.store.use_certificate(fingerprint, self._clock())

    def rotate(self, name: str, csr_pem: bytes, signature: bytes) -> bytes:
        """A new certificate for a connected member; the old one ends with the first use of it.

        Raises:
            PolicyRefusal: ``not-authorised`` where its link is about to be cut.
            VerificationError: ``bad-signature`` or ``bad-certificate``.
        """
        member = self.store.member(name)
        if member.status != "approved":
            raise PolicyRefusal("not-authorised", f"{name} is {member.status}.")
        verify(member.key, signature, rotation_bytes(csr_pem))
        return self._issue(member, csr_pem)

    def _issue(self, member: Member, csr_pem: bytes) -> bytes:
        if self._authority is None:
            raise InputError("bad-config", "This hub issues no certificates.")
        now = self._clock()
        pem = self._authority.issue_node(csr_pem, member.name, member.node_id, now)
        self.store.add_certificate(
            member.name, fingerprint=certificate_fingerprint(pem), pem=pem.decode(), now=now
        )
        return pem

    def publish(self, name: str, publication: Publication) -> None:
        """A member's dataset appears in the directory, changes or goes."""
        if publication.dataset is not None:
            self.store.publish(name, publication.dataset)
        elif publication.removed is not None:
            self.store.withdraw(name, publication.removed)
