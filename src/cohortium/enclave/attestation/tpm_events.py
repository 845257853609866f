"""The event log of a measured boot, replayed (TCG PC Client Platform Firmware Profile, 10.2).

The log is untrusted: its replay gives the PCR values that a TPM signed, or it is not the log of
what happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.tpm_structures import SHA256
from cohortium.errors import VerificationError

MAX_BYTES: Final = 8 * 1024 * 1024
TASK_PCR: Final = 14
"""For tasks. Not 16 and above, which can be reset."""

_NO_ACTION: Final = 3
_SPEC_ID: Final = b"Spec ID Event03\0"
_LOCALITY: Final = b"StartupLocality\0"
_MOST_EVENTS: Final = 100_000


@dataclass(frozen=True)
class Event:
    """Something that was measured into a PCR of the SHA-256 bank."""

    pcr: int
    kind: int
    digest: bytes
    data: bytes


def _broken(why: str) -> VerificationError:
    return refuse(Reason.EVENT_LOG, f"The event log cannot be read: {why}.")


class _Reader:
    """Little-endian fields."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    @property
    def left(self) -> bool:
        return self._at < len(self._data)

    def take(self, n_bytes: int) -> bytes:
        end = self._at + n_bytes
        if end > len(self._data):
            raise _broken("it is cut off")
        out, self._at = self._data[self._at : end], end
        return out

    def number(self, n_bytes: int) -> int:
        return int.from_bytes(self.take(n_bytes), "little")


def parse(log: bytes) -> tuple[Event, ...]:
    """The events of a crypto-agile log; an empty log has none.

    Raises:
        VerificationError: ``bad-evidence`` (``event-log``); never anything else.
    """
    if not log:
        return ()
    if len(log) > MAX_BYTES:
        raise _broken("more bytes than are accepted")
    reader = _Reader(log)
    sizes = _algorithms(reader)
    events: list[Event] = []
    while reader.left:
        pcr, kind, count = reader.number(4), reader.number(4), reader.number(4)
        if pcr > 23 or count > len(sizes) or len(events) >= _MOST_EVENTS:
            raise _broken("an event is none")
        digests: dict[int, bytes] = {}
        for _ in range(count):
            algorithm = reader.number(2)
            if algorithm not in sizes or algorithm in digests:
                raise _broken("an event has an unknown digest, or one twice")
            digests[algorithm] = reader.take(sizes[algorithm])
        data = reader.take(reader.number(4))
        if SHA256 not in digests:
            raise _broken("an event has no SHA-256 digest")
        events.append(Event(pcr, kind, digests[SHA256], data))
    return tuple(events)


def _algorithms(reader: _Reader) -> dict[int, int]:
    """Algorithms and digest sizes of the first event, which is in the old format."""
    reader.take(4)
    if reader.number(4) != _NO_ACTION:
        raise _broken("it is not crypto-agile")
    reader.take(20)
    header = _Reader(reader.take(reader.number(4)))
    if header.take(16) != _SPEC_ID:
        raise _broken("it is not crypto-agile")
    header.take(8)
    count = header.number(4)
    if count > 16:
        raise _broken("too many algorithms")
    sizes = {header.number(2): header.number(2) for _ in range(count)}
    if sizes.get(SHA256) != 32 or max(sizes.values()) > 64:
        raise _broken("it has no SHA-256 digests")
    return sizes


def replay(events: Sequence[Event], tasks: Sequence[bytes] = ()) -> dict[int, bytes]:
    """The values of the PCRs that the events, and then the digests of tasks, were measured into."""
    values: dict[int, bytes] = {}
    for event in events:
        if event.kind == _NO_ACTION:
            if event.pcr == 0 and event.data.startswith(_LOCALITY) and 0 not in values:
                values[0] = event.data[len(_LOCALITY) :][:1].rjust(32, b"\0")
            continue
        values[event.pcr] = extend(values.get(event.pcr, bytes(32)), event.digest)
    for digest in tasks:
        values[TASK_PCR] = extend(values.get(TASK_PCR, bytes(32)), digest)
    return values


def extend(value: bytes, digest: bytes) -> bytes:
    """TPM2_PCR_Extend in the SHA-256 bank."""
    return sha256(value + digest).digest()


def task_digests(
    program: str, arguments: Sequence[str], inputs: Mapping[str, str]
) -> tuple[bytes, ...]:
    """What is measured into `TASK_PCR` before a task starts: program, arguments, inputs.

    Args:
        program: Digest of the code, ``sha256:...``.
        inputs: Slot to digest.
    """
    parts = [("program", [program]), ("arguments", list(arguments))]
    parts += [("input", [name, inputs[name]]) for name in sorted(inputs)]
    return tuple(_measured(what, values) for what, values in parts)


def _measured(what: str, values: Sequence[str]) -> bytes:
    digest = sha256(b"cohortium task measurement 1\0")
    for text in (what, *values):
        raw = text.encode()
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.digest()
