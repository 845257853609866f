"""Collateral of Intel platforms: what a quote is judged by, imported once, used without internet.

A file is the JSON that Intel's and others' tools write (QuoteCollateralV3): certificate chains,
revocation lists, TCB info and QE identity, each signed by Intel. Where it lies need not be trusted:
every verification checks the signatures anew.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from cryptography import x509

from cohortium.core.canonical import digest, parse_json
from cohortium.crypto.files import write_atomically
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.errors import InputError, ProtocolError, VerificationError

MAX_BYTES: Final = 4 * 1024 * 1024
_MAX_CRL_BYTES: Final = 1024 * 1024
_CHAINS: Final = ("pck_crl_issuer_chain", "tcb_info_issuer_chain", "qe_identity_issuer_chain")
_HEX: Final = ("root_ca_crl", "pck_crl", "tcb_info_signature", "qe_identity_signature")
_SIGNED: Final = ("tcb_info", "qe_identity")
_FIELDS: Final = frozenset({*_CHAINS, *_HEX, *_SIGNED})
_FMSPC: Final = re.compile(r"^[0-9a-f]{12}$")


def _malformed(why: str) -> VerificationError:
    return refuse(Reason.COLLATERAL_MALFORMED, f"Not collateral of an Intel platform: {why}.")


@dataclass(frozen=True)
class Collateral:
    """Collateral of one kind of platform; its form is checked, its signatures are not yet.

    Attributes:
        tee: ``sgx`` or ``tdx``.
        fmspc: The kind of platform, 12 hex digits.
        issued_at: When the older of TCB info and QE identity was issued.
        expires_at: When the first of all its parts is over.
        tcb_evaluation: Intel's tcbEvaluationDataNumber, the lower one.
    """

    fields: Mapping[str, str]
    tee: str
    fmspc: str
    issued_at: datetime
    expires_at: datetime
    tcb_evaluation: int

    @classmethod
    def parse(cls, data: bytes) -> Collateral:
        """Check the form of untrusted bytes.

        Raises:
            VerificationError: ``bad-evidence`` (``collateral-malformed``); never anything else.
        """
        if len(data) > MAX_BYTES:
            raise _malformed("more bytes than are accepted")
        fields = _object(data)
        chain = fields.pop("pck_certificate_chain", None)
        if set(fields) != _FIELDS or not all(isinstance(v, str) for v in fields.values()):
            raise _malformed("its fields are not those of version 3")
        if chain is not None:
            if not isinstance(chain, str):
                raise _malformed("its certificate chain is no text")
            fields["pck_certificate_chain"] = chain
        tcb, identity = (_object(fields[name].encode()) for name in _SIGNED)
        tee = {"SGX": "sgx", "TDX": "tdx"}.get(str(tcb.get("id", "SGX")))
        fmspc = str(tcb.get("fmspc")).lower()
        if tee is None or not _FMSPC.match(fmspc):
            raise _malformed("it names no kind of platform")
        ends = [_moment(part, "nextUpdate") for part in (tcb, identity)]
        ends += [_crl_end(fields[name]) for name in ("root_ca_crl", "pck_crl")]
        return cls(
            fields=fields,
            tee=tee,
            fmspc=fmspc,
            issued_at=min(_moment(part, "issueDate") for part in (tcb, identity)),
            expires_at=min(ends),
            tcb_evaluation=min(_number(part) for part in (tcb, identity)),
        )

    @cached_property
    def digest(self) -> str:
        """``sha256:...`` of its canonical form."""
        return digest(dict(self.fields))

    @property
    def chains(self) -> list[bytes]:
        """Its certificate chains, PEM."""
        names = (*_CHAINS, "pck_certificate_chain")
        return [self.fields[name].encode() for name in names if name in self.fields]

    @property
    def revocation_lists(self) -> list[bytes]:
        """Its revocation lists, DER."""
        return [bytes.fromhex(self.fields[name]) for name in ("root_ca_crl", "pck_crl")]

    def to_bytes(self) -> bytes:
        """As it stands in a file."""
        return json.dumps(dict(self.fields), indent=1, sort_keys=True).encode()

    def judge_time(self, now: datetime, max_age_s: int) -> None:
        """Whether it is valid now, and recent enough.

        Raises:
            VerificationError: ``collateral-future``, ``collateral-expired``, ``collateral-stale``.
        """
        if now < self.issued_at:
            raise refuse(
                Reason.COLLATERAL_FUTURE, "The collateral is of the future; check the clock."
            )
        if now > self.expires_at:
            raise refuse(
                Reason.COLLATERAL_EXPIRED,
                f"The collateral was valid until {self.expires_at:%Y-%m-%d}; import a newer one.",
                expired=self.expires_at.isoformat(),
            )
        if now - self.issued_at > timedelta(seconds=max_age_s):
            raise refuse(
                Reason.COLLATERAL_STALE,
                f"The collateral is of {self.issued_at:%Y-%m-%d}, older than the policy accepts; "
                "import a newer one.",
                issued=self.issued_at.isoformat(),
            )


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = parse_json(data)
    except ProtocolError as error:
        raise _malformed("no JSON") from error
    if not isinstance(value, dict):
        raise _malformed("no JSON object")
    return value


def _moment(part: Mapping[str, Any], name: str) -> datetime:
    try:
        moment = datetime.fromisoformat(str(part.get(name)))
        if moment.tzinfo is None:
            raise _malformed(f"{name} has no zone")
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _malformed(f"{name} is no time") from error


def _number(part: Mapping[str, Any]) -> int:
    number = part.get("tcbEvaluationDataNumber", 0)
    if type(number) is not int or number < 0:
        raise _malformed("tcbEvaluationDataNumber is no number")
    return number


def _crl_end(text: str) -> datetime:
    try:
        if len(text) > 2 * _MAX_CRL_BYTES:
            raise _malformed("a revocation list is too long")
        end = x509.load_der_x509_crl(bytes.fromhex(text)).next_update_utc
    except ValueError as error:
        raise _malformed("a revocation list cannot be read") from error
    if end is None:
        raise _malformed("a revocation list has no end")
    return end


class CollateralStore:
    """A folder of collateral, one file for each kind of platform: ``tdx-b0c06f000000.json``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, data: bytes) -> tuple[Collateral, bool]:
        """Keep it unless a newer one of the same platforms is here; returns whether it is kept.

        Raises:
            VerificationError: ``bad-evidence``: not collateral.
        """
        new = Collateral.parse(data)
        old = self._read(self._path(new.tee, new.fmspc))
        if old is not None and (old.tcb_evaluation, old.issued_at) > (
            new.tcb_evaluation,
            new.issued_at,
        ):
            return new, False
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self._path(new.tee, new.fmspc), new.to_bytes())
        return new, True

    def find(self, tee: str, fmspc: str) -> Collateral:
        """The collateral of a kind of platform.

        Raises:
            VerificationError: ``evidence-refused`` (``collateral-missing``), or ``bad-evidence``.
        """
        found = self._read(self._path(tee, fmspc)) if _FMSPC.match(fmspc) else None
        if found is None:
            raise refuse(
                Reason.COLLATERAL_MISSING,
                f"No collateral for {tee} platforms {fmspc} is here; import it with "
                "`cohortium enclave collateral import`.",
                fmspc=fmspc,
            )
        return found

    def __iter__(self) -> Iterator[Collateral]:
        for path in sorted(self._folder.glob("*.json")):
            found = self._read(path)
            if found is not None:
                yield found

    def _path(self, tee: str, fmspc: str) -> Path:
        return self._folder / f"{tee}-{fmspc}.json"

    @staticmethod
    def _read(path: Path) -> Collateral | None:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise _malformed("more bytes than are accepted")
            return Collateral.parse(path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InputError("bad-input", f"{path} cannot be read.") from error
