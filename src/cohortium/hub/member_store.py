"""Stored membership: invitations, institutions, enclaves, certificates, datasets, researchers."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from cohortium.core.clock import to_rfc3339
from cohortium.core.directory import PublishedDataset
from cohortium.core.invitation import Invitation
from cohortium.core.rest import MemberStatus
from cohortium.errors import ConflictError, InputError, VerificationError
from cohortium.hub.database import Database
from cohortium.hub.ledger_notes import note, note_change
from cohortium.hub.tables import certificates, counters, datasets, invitations, members, users
from cohortium.ledger.entry import (
    DatasetChanged,
    EnclaveChanged,
    MemberChanged,
    PolicyChanged,
    ResearcherChanged,
)

MEMBERSHIP = "membership"
LEDGER = "ledger"
MemberKind = Literal["site", "enclave"]
InvitedKind = Literal["site", "enclave", "researcher"]
SITE: Final[MemberKind] = "site"
ENCLAVE: Final[MemberKind] = "enclave"


@dataclass(frozen=True)
class Member:
    """An institution, or an enclave: that has a link and a key, and is in no quorum.

    Attributes:
        node_id: 32 hex digits; the common name of its certificates.
        csr_pem: The certificate request that waits for approval.
    """

    name: str
    key: str
    node_id: str
    status: MemberStatus
    csr_pem: str | None
    created_at: str
    kind: MemberKind = SITE

    @property
    def what(self) -> str:
        """For people."""
        return "an enclave" if self.kind == ENCLAVE else "an institution"


@dataclass(frozen=True)
class User:
    """A researcher; ``status`` is active or removed."""

    name: str
    key: str
    status: str
    created_at: str


class MemberStore:
    """Every change of who may connect raises `version`, which the serving process watches."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def version(self) -> int:
        """Grows with every change of membership."""
        with self._db.read() as c:
            row = c.execute(select(counters.c.value).where(counters.c.name == MEMBERSHIP)).scalar()
        return int(row or 0)

    def note_all(self) -> None:
        """Begin the ledger with who is there, where the database is older than it; once."""
        begun = select(counters.c.value).where(counters.c.name == LEDGER)
        with self._db.read() as c:
            if c.execute(begun).first() is not None:
                return
        with suppress(IntegrityError), self._db.write() as c:  # another process was first
            if c.execute(begun).first() is not None:
                return
            c.execute(insert(counters).values(name=LEDGER, value=1))
            standing = {"approved", "suspended", "removed"}
            for row in c.execute(select(members).order_by(members.c.name)).mappings().all():
                if row["status"] in standing:
                    self._note_member(c, Member(**row), row["status"])
            for user in c.execute(select(users).order_by(users.c.name)).all():
                note(c, ResearcherChanged(name=user.name, key=user.key, status=user.status))
            published = select(datasets).order_by(datasets.c.member, datasets.c.name)
            for held in c.execute(published).all():
                note(c, dataset_fact(held.member, PublishedDataset.from_bytes(held.document)))

    def adopt(
        self,
        institutions: Iterable[MemberChanged],
        researchers: Iterable[ResearcherChanged],
        now: datetime,
        enclaves: Iterable[EnclaveChanged] = (),
    ) -> None:
        """Who is there as a ledger that was taken over has it; it stands on it already.

        The certificate that the last fact about an approved member names is let in, and no other.
        """
        moment = to_rfc3339(now)
        with self._db.write() as c:
            changed: list[MemberChanged | EnclaveChanged] = [*institutions, *enclaves]
            for member in changed:
                self._insert_member(
                    c,
                    name=member.name,
                    key=member.key,
                    node_id=secrets.token_hex(16),
                    status=member.status,
                    created_at=moment,
                    kind=ENCLAVE if isinstance(member, EnclaveChanged) else SITE,
                )
                if member.status == "approved" and member.certificate is not None:
                    c.execute(
                        insert(certificates).values(
                            fingerprint=member.certificate,
                            member=member.name,
                            pem="",
                            issued_at=moment,
                        )
                    )
            for person in researchers:
                c.execute(
                    insert(users).values(
                        key=person.key, name=person.name, status=person.status, created_at=moment
                    )
                )
            self._touch(c)

    def _touch(self, c: Connection) -> None:
        bumped = c.execute(
            update(counters).where(counters.c.name == MEMBERSHIP).values(value=counters.c.value + 1)
        )
        if bumped.rowcount == 0:
            c.execute(insert(counters).values(name=MEMBERSHIP, value=1))

    # Invitations

    def add_invitation(self, invitation: Invitation) -> None:
        """Remember the digest of an invitation's secret."""
        with self._db.write() as c:
            c.execute(
                insert(invitations).values(
                    secret_digest=invitation.secret_digest,
                    kind=invitation.kind,
                    name=invitation.name,
                    expires_at=to_rfc3339(invitation.expires_at),
                )
            )

    def require_free(self, name: str, kind: InvitedKind) -> None:
        """A name in contracts and in the evidence means one: institution, enclave or researcher.

        Raises:
            ConflictError: ``already-exists`` where one of another kind has it, or had it.
        """
        with self._db.read() as c:
            self._require_free(c, name, kind)

    def _require_free(self, c: Connection, name: str, kind: InvitedKind) -> None:
        held = {}
        member = self._member(c, name)
        if member is not None:
            held[str(member.kind)] = member.what
        if c.execute(select(users.c.name).where(users.c.name == name)).first() is not None:
            held["researcher"] = "a researcher"
        if held and kind not in held:
            what = " and ".join(held.values())
            raise ConflictError("already-exists", f"{name} is {what}: choose another name.")

    def _redeem(
        self, c: Connection, digest: str, kinds: Iterable[str], name: str, now: datetime
    ) -> str:
        """Use up an invitation of one of these kinds; which."""
        # RFC 3339 in UTC with seconds sorts as text.
        used = c.execute(
            update(invitations)
            .where(
                invitations.c.secret_digest == digest,
                invitations.c.kind.in_(list(kinds)),
                invitations.c.name == name,
                invitations.c.used_at.is_(None),
                invitations.c.expires_at > to_rfc3339(now),
            )
            .values(used_at=to_rfc3339(now))
        )
        if used.rowcount != 1:
            raise VerificationError(
                "bad-invitation",
                "The invitation is unknown, used, expired or for another name: ask the operator "
                "for a new one.",
            )
        found = select(invitations.c.kind).where(invitations.c.secret_digest == digest)
        return str(c.execute(found).scalar_one())

    # Institutions and enclaves

    def enrol(
        self, *, secret_digest: str, name: str, key: str, node_id: str, csr_pem: str, now: datetime
    ) -> Member:
        """Use up an invitation and add a pending member; or a new request of a known one.

        Raises:
            VerificationError: ``bad-invitation``; ``key-mismatch`` where the name has another key.
            ConflictError: ``already-exists`` where the key belongs to another name, or the name to
                one of another kind; see `require_free`.
        """
        with self._db.write() as c:
            invited = self._redeem(c, secret_digest, (SITE, ENCLAVE), name, now)
            kind = ENCLAVE if invited == ENCLAVE else SITE
            self._require_free(c, name, kind)
            known = self._member(c, name)
            if known is not None:
                if known.key != key:
                    raise VerificationError(
                        "key-mismatch",
                        f"{name} is {known.what}, enrolled with another key: join with the old "
                        "key file, or enrol under another name.",
                    )
                c.execute(
                    update(members)
                    .where(members.c.name == name)
                    .values(status="pending", csr_pem=csr_pem)
                )
                if known.status == "approved":  # until the operator approves it anew
                    note(c, _standing(known, "suspended"))
            else:
                self._insert_member(
                    c,
                    name=name,
                    key=key,
                    node_id=node_id,
                    status="pending",
                    csr_pem=csr_pem,
                    created_at=to_rfc3339(now),
                    kind=kind,
                )
            self._touch(c)
        return self.member(name)

    def add_member(
        self, *, name: str, key: str, node_id: str, now: datetime, kind: MemberKind = SITE
    ) -> None:
        """Add an approved member or enclave without certificate, for links that need none."""
        with self._db.write() as c:
            self._insert_member(
                c,
                name=name,
                key=key,
                node_id=node_id,
                status="approved",
                created_at=to_rfc3339(now),
                kind=kind,
            )
            fact = EnclaveChanged if kind == ENCLAVE else MemberChanged
            note(c, fact(name=name, key=key, status="approved"))
            self._touch(c)

    def _insert_member(self, c: Connection, **values: str | None) -> None:
        try:
            c.execute(insert(members).values(**values))
        except IntegrityError as error:
            raise ConflictError(
                "already-exists", "A member or an enclave with this name or key exists already."
            ) from error

    def _member(self, c: Connection, name: str) -> Member | None:
        row = c.execute(select(members).where(members.c.name == name)).mappings().one_or_none()
        return None if row is None else Member(**row)

    def find_member(self, name: str) -> Member | None:
        """The member, or the enclave, of that name."""
        with self._db.read() as c:
            return self._member(c, name)

    def member(self, name: str) -> Member:
        """The member, or InputError ``not-found``."""
        found = self.find_member(name)
        if found is None:
            raise InputError("not-found", f"There is no member {name!r}.")
        return found

    def members(self) -> list[Member]:
        """All institutions, by name."""
        return self._all(SITE)

    def enclaves(self) -> list[Member]:
        """All enclaves, by name."""
        return self._all(ENCLAVE)

    def _all(self, kind: MemberKind) -> list[Member]:
        query = select(members).where(members.c.kind == kind).order_by(members.c.name)
        with self._db.read() as c:
            return [Member(**row) for row in c.execute(query).mappings().all()]

    def change_status(
        self, name: str, *, allowed: frozenset[MemberStatus], to: MemberStatus
    ) -> Member:
        """Move a member to another state.

        Raises:
            ConflictError: ``wrong-state``.
        """
        with self._db.write() as c:
            member = self._member(c, name)
            if member is None:
                raise InputError("not-found", f"There is no member {name!r}.")
            if member.status not in allowed:
                raise ConflictError(
                    "wrong-state",
                    f"{name} is {member.status}; this needs: {' or '.join(sorted(allowed))}.",
                )
            c.execute(update(members).where(members.c.name == name).values(status=to))
            self._note_member(c, member, to)
            self._touch(c)
        return self.member(name)

    def _note_member(self, c: Connection, member: Member, status: MemberStatus) -> None:
        if status == "pending" or (status == "removed" and member.status == "pending"):
            return  # it never was a member
        certificate = None
        if status == "approved":
            certificate = c.execute(
                select(certificates.c.fingerprint)
                .where(certificates.c.member == member.name, certificates.c.revoked_at.is_(None))
                .order_by(certificates.c.issued_at.desc(), certificates.c.used_at.is_not(None))
                .limit(1)
            ).scalar()
        note(c, _standing(member, status, certificate))

    # Certificates

    def add_certificate(self, name: str, *, fingerprint: str, pem: str, now: datetime) -> None:
        """Record an issued certificate; the member's earlier ones stay until it is used."""
        with self._db.write() as c:
            c.execute(
                insert(certificates).values(
                    fingerprint=fingerprint, member=name, pem=pem, issued_at=to_rfc3339(now)
                )
            )
            c.execute(update(members).where(members.c.name == name).values(csr_pem=None))
            member = self._member(c, name)
            if member is not None and member.status == "approved":  # it changes its certificate
                note(c, _standing(member, "approved", fingerprint))
            self._touch(c)

    def latest_certificate(self, name: str) -> str | None:
        """PEM of the newest certificate that is not revoked, where this hub issued it."""
        with self._db.read() as c:
            return c.execute(
                select(certificates.c.pem)
                .where(certificates.c.member == name, certificates.c.revoked_at.is_(None))
                .where(certificates.c.pem != "")
                .order_by(certificates.c.issued_at.desc(), certificates.c.used_at.is_not(None))
                .limit(1)
            ).scalar()

    def use_certificate(self, fingerprint: str, now: datetime) -> str | None:
        """The approved member that a certificate belongs to; its first use ends older ones."""
        with self._db.read() as c:
            row = c.execute(
                select(certificates.c.member, certificates.c.used_at)
                .join(members, members.c.name == certificates.c.member)
                .where(
                    certificates.c.fingerprint == fingerprint,
                    certificates.c.revoked_at.is_(None),
                    members.c.status == "approved",
                )
            ).one_or_none()
        if row is None:
            return None
        if row.used_at is None:
            self._first_use(fingerprint, row.member, now)
        return str(row.member)

    def _first_use(self, fingerprint: str, member: str, now: datetime) -> None:
        moment = to_rfc3339(now)
        with self._db.write() as c:
            c.execute(
                update(certificates)
                .where(certificates.c.fingerprint == fingerprint)
                .values(used_at=moment)
            )
            issued = select(certificates.c.issued_at).where(
                certificates.c.fingerprint == fingerprint
            )
            c.execute(
                update(certificates)
                .where(
                    certificates.c.member == member,
                    certificates.c.fingerprint != fingerprint,
                    certificates.c.issued_at <= issued.scalar_subquery(),
                    certificates.c.revoked_at.is_(None),
                )
                .values(revoked_at=moment)
            )

    def revoke_certificates(self, name: str, now: datetime) -> int:
        """Revoke all certificates of a member; how many."""
        with self._db.write() as c:
            done = c.execute(
                update(certificates)
                .where(certificates.c.member == name, certificates.c.revoked_at.is_(None))
                .values(revoked_at=to_rfc3339(now))
            )
            member = self._member(c, name)
            if done.rowcount and member is not None and member.status == "approved":
                self._note_member(c, member, "approved")  # without a certificate
            self._touch(c)
        return int(done.rowcount)

    def admissible(self) -> frozenset[str]:
        """Members and enclaves that are approved and hold a certificate."""
        with self._db.read() as c:
            rows = c.execute(
                select(members.c.name)
                .join(certificates, members.c.name == certificates.c.member)
                .where(members.c.status == "approved", certificates.c.revoked_at.is_(None))
            ).scalars()
            return frozenset(rows)

    # Datasets

    def publish(self, member: str, dataset: PublishedDataset) -> None:
        """Put a dataset into the directory, in place of an older one of that name."""
        with self._db.write() as c:
            self._withdraw(c, member, dataset.name)
            c.execute(
                insert(datasets).values(
                    member=member, name=dataset.name, document=dataset.to_bytes()
                )
            )
            note_change(c, dataset_fact(member, dataset))

    def withdraw(self, member: str, dataset: str) -> None:
        """Take a dataset out of the directory."""
        with self._db.write() as c:
            if self._withdraw(c, member, dataset):
                note(c, DatasetChanged(member=member, name=dataset))

    def _withdraw(self, c: Connection, member: str, dataset: str) -> bool:
        gone = c.execute(
            delete(datasets).where(datasets.c.member == member, datasets.c.name == dataset)
        )
        return gone.rowcount > 0

    def datasets(self) -> dict[str, list[PublishedDataset]]:
        """Published datasets by member, by name."""
        out: dict[str, list[PublishedDataset]] = {}
        with self._db.read() as c:
            rows = c.execute(select(datasets).order_by(datasets.c.member, datasets.c.name)).all()
        for row in rows:
            out.setdefault(row.member, []).append(PublishedDataset.from_bytes(row.document))
        return out

    def policy(self, fact: PolicyChanged) -> None:
        """A member says what its own policy is; only a change is news."""
        with self._db.write() as c:
            note_change(c, fact)

    # Researchers

    def enrol_user(self, *, secret_digest: str, name: str, key: str, now: datetime) -> User:
        """Use up an invitation and add a researcher."""
        with self._db.write() as c:
            self._redeem(c, secret_digest, ("researcher",), name, now)
            self._require_free(c, name, "researcher")
            self._insert_user(c, name, key, now)
        return User(name, key, "active", to_rfc3339(now))

    def add_user(self, *, name: str, key: str, now: datetime) -> None:
        """Add a researcher without an invitation."""
        with self._db.write() as c:
            self._insert_user(c, name, key, now)

    def _insert_user(self, c: Connection, name: str, key: str, now: datetime) -> None:
        try:
            c.execute(
                insert(users).values(
                    key=key, name=name, status="active", created_at=to_rfc3339(now)
                )
            )
        except IntegrityError as error:
            raise ConflictError(
                "already-exists", "A researcher with this name or key exists, or once existed."
            ) from error
        note(c, ResearcherChanged(name=name, key=key, status="active"))

    def users(self) -> list[User]:
        """All, removed ones too, by name."""
        with self._db.read() as c:
            rows = c.execute(select(users).order_by(users.c.name)).mappings().all()
        return [User(**row) for row in rows]

    def user_by_key(self, key: str) -> User | None:
        """The researcher with that key, also a removed one."""
        with self._db.read() as c:
            row = c.execute(select(users).where(users.c.key == key)).mappings().one_or_none()
        return None if row is None else User(**row)

    def remove_user(self, name: str) -> User:
        """Remove a researcher for good; the key counts as revoked everywhere."""
        with self._db.write() as c:
            done = c.execute(
                update(users)
                .where(users.c.name == name, users.c.status == "active")
                .values(status="removed")
            )
            if done.rowcount != 1:
                raise InputError("not-found", f"There is no active researcher {name!r}.")
            self._touch(c)
            row = c.execute(select(users).where(users.c.name == name)).mappings().one()
            note(c, ResearcherChanged(name=name, key=row["key"], status="removed"))
        return User(**row)

    def revoked_keys(self) -> frozenset[str]:
        """Keys of removed researchers."""
        with self._db.read() as c:
            rows = c.execute(select(users.c.key).where(users.c.status == "removed")).scalars()
            return frozenset(rows)


def _standing(
    member: Member,
    status: Literal["approved", "suspended", "removed"],
    certificate: str | None = None,
) -> MemberChanged | EnclaveChanged:
    """What the ledger holds of a member or an enclave."""
    kind = EnclaveChanged if member.kind == ENCLAVE else MemberChanged
    return kind(name=member.name, key=member.key, status=status, certificate=certificate)


def dataset_fact(member: str, dataset: PublishedDataset) -> DatasetChanged:
    """What the ledger holds of a published dataset."""
    return DatasetChanged(
        member=member,
        name=dataset.name,
        content=dataset.content_digest,
        dictionary=dataset.dictionary.digest,
    )
