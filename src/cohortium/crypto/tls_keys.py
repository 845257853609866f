"""TLS keys of who dials the hub: a folder for each, complete or not there, the highest counts.

A key and its certificate change together by the renaming of one folder, so a crash in the middle
of a rotation leaves the old pair.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from cohortium.core.clock import Clock
from cohortium.crypto.authority import check_issued, make_tls_key_and_csr
from cohortium.crypto.files import read_private, write_atomically, write_private
from cohortium.errors import InputError

KEY, CERTIFICATE, REQUEST, NEXT = "key.pem", "certificate.pem", "request.csr", "next"


def current(tls: Path) -> Path:
    """The folder with the key and certificate in use.

    Raises:
        InputError: ``not-found`` before the first certificate.
    """
    number = latest(tls)
    if not number:
        raise InputError(
            "not-found", "There is no certificate here yet: run the same join command again."
        )
    return tls / str(number)


def latest(tls: Path) -> int:
    """The number of the key in use, counted from 1; 0 before the first certificate."""
    names = [folder.name for folder in tls.glob("*") if folder.name.isdecimal()]
    return max(map(int, names), default=0)


def has_certificate(tls: Path) -> bool:
    """Whether the operator has approved it."""
    return latest(tls) > 0


def begin(tls: Path, name: str) -> bytes:
    """Make the next key, or find the one under way; returns its certificate request as PEM."""
    folder = tls / NEXT
    if not (folder / REQUEST).exists():
        tls.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        key_pem, csr_pem = make_tls_key_and_csr(name)
        write_private(folder / KEY, key_pem)
        write_atomically(folder / REQUEST, csr_pem)
    return (folder / REQUEST).read_bytes()


def finish(tls: Path, certificate_pem: bytes, ca_pem: bytes, clock: Clock) -> Path:
    """Put the next key into use with its certificate; returns its folder.

    Raises:
        VerificationError: ``bad-certificate``: not of this consortium, or for another key.
    """
    folder = tls / NEXT
    check_issued(certificate_pem, read_private(folder / KEY), ca_pem, clock())
    write_atomically(folder / CERTIFICATE, certificate_pem)
    (folder / REQUEST).unlink(missing_ok=True)
    number = latest(tls) + 1
    folder.rename(tls / str(number))
    for old in tls.glob("*"):
        if old.name.isdecimal() and int(old.name) < number:
            shutil.rmtree(old)
    return tls / str(number)
