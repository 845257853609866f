"""Inside an enclave of Gramine: its quote, and the keys of its encrypted mounts.

Reference: Gramine 1.9, "Attestation and secret provisioning", low-level /dev/attestation.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

DEVICE: Final = Path("/dev/attestation")
KEY_BYTES: Final = 16
REPORT_DATA_BYTES: Final = 64
_REPORT_DATA: Final = slice(48 + 320, 48 + 384)
"""In a quote: a header of 48 bytes, and a report whose last 64 of 384 they are."""


def quote(report_data: bytes, device: Path = DEVICE) -> bytes:
    """A quote over 64 bytes.

    Raises:
        OSError: Attestation is off, or the quote is over other data.
    """
    if len(report_data) != REPORT_DATA_BYTES:
        raise ValueError("report data are 64 bytes")
    kind = (device / "attestation_type").read_text().strip()
    if kind != "dcap":
        raise OSError(f"attestation is {kind!r}, not dcap")
    (device / "user_report_data").write_bytes(report_data)
    found = (device / "quote").read_bytes()
    if found[_REPORT_DATA] != report_data:
        raise OSError("the quote is over other data")
    return found


def set_key(name: str, key: bytes, device: Path = DEVICE) -> None:
    """Give a key to the encrypted mounts that name it, before their first use.

    Raises:
        OSError: The manifest names no such key.
    """
    if len(key) != KEY_BYTES:
        raise ValueError("a key of an encrypted mount is 16 bytes")
    (device / "keys" / name).write_bytes(key)
