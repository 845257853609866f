"""From an invitation to a certificate: the enclave's keys are made here and never leave."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cohortium.core.clock import Clock, system_clock
from cohortium.core.invitation import Invitation
from cohortium.core.rest import ConsortiumInfo
from cohortium.errors import InputError
from cohortium.link.joining import Http, Joined, enrol, moved, open_http
from cohortium.worker.folder import EnclaveConfig, EnclaveDir


def join(
    text: str,
    directory: Path,
    *,
    wait: bool,
    on_progress: Callable[[Joined], None] = lambda _joined: None,
    proxy: str | None = None,
    clock: Clock = system_clock,
    http: Http = open_http,
    sleep: Callable[[float], None] = time.sleep,
) -> Joined:
    """Enrol with an invitation; asked again with the same one, go on where it stopped.

    With a new invitation of the same name and consortium it joins again, and keeps what it has: its
    own folder, or a new one with nothing but its ``enclave.key`` in it.

    Args:
        text: The invitation.
        directory: Becomes the enclave's folder (0700).
        wait: Whether to wait for the operator's approval.
        on_progress: Told once the hub knows this enclave.
        proxy: HTTP proxy that it will dial through.

    Raises:
        VerificationError: ``bad-invitation``, or ``bad-certificate`` where the hub is not the one
            of the invitation.
        ConflictError: ``already-exists`` where the folder is another's.
    """
    folder = EnclaveDir(directory)
    invitation = Invitation.from_text(text)
    if invitation.kind != "enclave":
        how = "node join" if invitation.kind == "site" else "user create"
        raise InputError(
            "bad-input", f"This invitation is for a {invitation.kind}: cohortium {how} INVITATION"
        )

    def prepare(info: ConsortiumInfo) -> None:
        if folder.config.exists():
            config = folder.load_config()
            now = moved(config, invitation, info, proxy)
            if now != config:
                folder.save_config(now)
            return
        folder.save_config(
            EnclaveConfig(
                name=invitation.name,
                consortium=invitation.consortium,
                consortium_fingerprint=invitation.ca,
                hub_url=invitation.hub,
                link_address=info.link_address,
                proxy=proxy,
            )
        )

    return enrol(
        invitation,
        folder,
        prepare,
        wait=wait,
        on_progress=on_progress,
        clock=clock,
        http=http,
        sleep=sleep,
    )
