"""From an invitation to a certificate: the newcomer's keys are made here and never leave.

Institutions' nodes and enclaves join in the same way; what else their folders hold is theirs.
"""

from __future__ import annotations

import shutil
import ssl
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from cohortium.core.canonical import canonical, parse_json
from cohortium.core.clock import Clock
from cohortium.core.invitation import Invitation
from cohortium.core.rest import API, ConsortiumInfo, EnrolmentInfo
from cohortium.core.settings import Settings
from cohortium.crypto import tls_keys as tls
from cohortium.crypto.authority import pinned_certificate
from cohortium.crypto.enrolment import SiteEnrolment, SiteStatusRequest
from cohortium.crypto.files import write_atomically, write_private
from cohortium.crypto.keys import SigningKey, fingerprint
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PeerError,
    PolicyRefusal,
    ProtocolError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

FIRST_POLL_S = 0.1
POLL_S = 2.0
TIMEOUT_S = 20.0

Http = Callable[[str, str | None], "httpx.Client"]
"""Opens a client for a hub's address; without a CA (PEM) it believes nobody's certificate."""

C = TypeVar("C", bound=Settings)


@dataclass(frozen=True)
class Joined:
    """How far a newcomer is.

    Attributes:
        status: ``pending`` or ``approved``.
        ca_fingerprint: Digest of the consortium's CA, to compare with the operator.
        key_fingerprint: Of its signing key, for the operator to compare.
    """

    name: str
    consortium: str
    status: str
    ca_fingerprint: str
    key: str
    key_fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return dict(vars(self))


def open_http(url: str, ca_pem: str | None) -> httpx.Client:
    """The real client: TLS 1.3, only the consortium's CA."""
    import httpx

    if ca_pem is None:
        # First contact: what arrives counts only when its digest is the invitation's.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context = ssl.create_default_context(cadata=ca_pem)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return httpx.Client(base_url=url.rstrip("/") + API, verify=context, timeout=TIMEOUT_S)


class Place(Protocol):
    """The newcomer's files; see `cohortium.node.config.NodeDir`."""

    @property
    def path(self) -> Path:
        """The folder of all of them."""
        ...

    @property
    def config(self) -> Path:
        """Settings."""
        ...

    @property
    def contract_key(self) -> Path:
        """The Ed25519 key that signs."""
        ...

    @property
    def ca(self) -> Path:
        """The consortium's CA certificate."""
        ...

    @property
    def tls(self) -> Path:
        """One folder for each TLS key; see `cohortium.crypto.tls_keys`."""
        ...

    @property
    def pending(self) -> Path:
        """How far the joining is."""
        ...

    def load_config(self) -> Belonging:
        """Read the settings."""
        ...


class Belonging(Protocol):
    """What a newcomer's settings say of where it belongs."""

    @property
    def name(self) -> str:
        """Its name in the consortium."""
        ...

    @property
    def consortium_fingerprint(self) -> str:
        """Of the consortium's CA certificate."""
        ...


@dataclass(frozen=True)
class _Joining:
    """How far the joining is.

    Attributes:
        invitation: Its digest.
        enrolled: Whether the hub knows of it.
        past: Number of the last TLS key of an earlier membership, which counts for nothing.
    """

    invitation: str
    enrolled: bool = False
    past: int = 0

    def save(self, folder: Place) -> None:
        write_private(folder.pending, canonical(dict(vars(self))))


def enrol(
    invitation: Invitation,
    folder: Place,
    prepare: Callable[[ConsortiumInfo], None],
    *,
    wait: bool,
    on_progress: Callable[[Joined], None],
    clock: Clock,
    http: Http,
    sleep: Callable[[float], None],
) -> Joined:
    """Enrol with an invitation; asked again with the same one, go on where it stopped.

    With a new invitation of the same name and consortium the folder joins again: it keeps its key
    and all else, and gets a new certificate for a new TLS key.

    Args:
        prepare: Writes what else belongs into the folder; what is there it leaves, but for where
            the hub is.
        wait: Whether to wait for the operator's approval.
        on_progress: Told once the hub knows the newcomer.

    Raises:
        VerificationError: ``bad-invitation``, or ``bad-certificate`` where the hub is not the one
            of the invitation.
        ConflictError: ``already-exists`` where the folder is another's.
    """
    # 1. The folder is free, or the newcomer's own. 2. The hub's CA is the one that the invitation
    # names. 3. Keys, on disk before the hub hears of them. 4. Enrol once. 5. The certificate, when
    # the operator has approved.
    state = _require_own_folder(folder, invitation, clock)  # 1
    info = _fetch_consortium(invitation, http)  # 2
    key = _prepare_folder(folder, state, info, prepare)  # 3
    with http(invitation.hub, info.ca_pem) as client:
        if not state.enrolled:  # 4
            _enrol(client, folder, invitation, key)
            replace(state, enrolled=True).save(folder)
        joined = Joined(
            name=invitation.name,
            consortium=invitation.consortium,
            status="approved" if tls.latest(folder.tls) > state.past else "pending",
            ca_fingerprint=invitation.ca,
            key=key.public,
            key_fingerprint=fingerprint(key.public),
        )
        on_progress(joined)
        pause_s = FIRST_POLL_S
        while joined.status != "approved":  # 5
            if _fetch_certificate(client, folder, invitation, key, clock):
                joined = replace(joined, status="approved")
            elif not wait:
                break
            else:
                sleep(pause_s)
                pause_s = min(2 * pause_s, POLL_S)
    return joined


def moved(config: C, invitation: Invitation, info: ConsortiumInfo, proxy: str | None) -> C:
    """The settings of who joins again: where the hub is now; a proxy, where one is given."""
    places = {"hub_url": invitation.hub, "link_address": info.link_address}
    return config.model_copy(update={**places, **({"proxy": proxy} if proxy else {})})


def _require_own_folder(folder: Place, invitation: Invitation, clock: Clock) -> _Joining:
    """How far this invitation is here; one that is new here is for a free or an own folder."""
    with suppress(OSError):
        state = parse_json(folder.pending.read_bytes())
        if isinstance(state, dict) and state.get("invitation") == invitation.digest:
            past = state.get("past", 0)
            if not isinstance(past, int):
                raise InputError("bad-config", f"{folder.pending} is not readable.")
            return _Joining(invitation.digest, bool(state.get("enrolled")), past)
    there = {one.name for one in folder.path.iterdir()} if folder.path.exists() else set()
    if there - {folder.contract_key.name}:
        _require_same(folder, invitation)
    Invitation.from_text(invitation.to_text(), now=clock())
    return _Joining(invitation.digest, past=tls.latest(folder.tls))


def _require_same(folder: Place, invitation: Invitation) -> None:
    if not (folder.config.exists() and folder.contract_key.exists()):
        raise ConflictError("already-exists", f"{folder.path} is not empty; choose another folder.")
    config = folder.load_config()
    if (config.name, config.consortium_fingerprint) != (invitation.name, invitation.ca):
        raise ConflictError(
            "already-exists",
            f"{folder.path} is {config.name}'s, and joined with another invitation; choose "
            "another folder.",
        )


def _fetch_consortium(invitation: Invitation, http: Http) -> ConsortiumInfo:
    with http(invitation.hub, None) as client:
        info = ConsortiumInfo.from_json(_get(client, "/consortium"))
    return info.model_copy(update={"ca_pem": pinned_certificate(info.ca_pem, invitation.ca)})


def _prepare_folder(
    folder: Place,
    state: _Joining,
    info: ConsortiumInfo,
    prepare: Callable[[ConsortiumInfo], None],
) -> SigningKey:
    folder.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.path.chmod(0o700)
    if not state.enrolled:
        # A key that was under way may be known to whoever the certificate was revoked for.
        shutil.rmtree(folder.tls / tls.NEXT, ignore_errors=True)
        state.save(folder)
        write_atomically(folder.ca, info.ca_pem.encode())
        prepare(info)
    if folder.contract_key.exists():
        return SigningKey.load(folder.contract_key)
    key = SigningKey.generate()
    key.save(folder.contract_key)
    return key


def _enrol(client: httpx.Client, folder: Place, invitation: Invitation, key: SigningKey) -> None:
    enrolment = SiteEnrolment(
        ca=invitation.ca,
        secret=invitation.secret,
        name=invitation.name,
        key=key.public,
        csr_pem=tls.begin(folder.tls, invitation.name).decode(),
    )
    _post(client, "/enrol", enrolment.sign(key))


def _fetch_certificate(
    client: httpx.Client, folder: Place, invitation: Invitation, key: SigningKey, clock: Clock
) -> bool:
    question = SiteStatusRequest(ca=invitation.ca, name=invitation.name, at=clock())
    answer = EnrolmentInfo.from_json(_post(client, "/enrol/status", question.sign(key)))
    if answer.status in {"suspended", "removed"}:
        raise PolicyRefusal(
            "not-authorised", f"The operator has {answer.status} {invitation.name}."
        )
    if answer.certificate_pem is None:
        return False
    tls.finish(folder.tls, answer.certificate_pem.encode(), folder.ca.read_bytes(), clock)
    return True


def _get(client: httpx.Client, path: str) -> Any:
    with _reached(client):
        return _checked(client.get(path))


def _post(client: httpx.Client, path: str, envelope: bytes) -> Any:
    with _reached(client):
        headers = {"content-type": "application/json"}
        return _checked(client.post(path, content=envelope, headers=headers))


@contextmanager
def _reached(client: httpx.Client) -> Iterator[None]:
    import httpx

    try:
        yield
    except httpx.HTTPError as error:
        raise PeerError(
            "peer-unreachable",
            f"The hub at {client.base_url} cannot be reached ({type(error).__name__}).",
        ) from error


def _checked(response: httpx.Response) -> Any:
    body = parse_json(response.content)
    if response.status_code >= 400:
        wire = body.get("error") if isinstance(body, dict) else None
        if not isinstance(wire, dict):
            raise ProtocolError("malformed-message", "The hub answered with an unreadable error.")
        error: CohortiumError = CohortiumError.from_wire(wire)
        raise error
    return body
