"""Evidence of a confidential virtual machine, from the kernel's configfs-tsm.

Reference: Linux, Documentation/ABI/testing/configfs-tsm-report (6.7).
"""

from __future__ import annotations

import errno
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cohortium.errors import PolicyRefusal

FOLDER: Final = "sys/kernel/config/tsm/report"
REPORT_DATA_BYTES: Final = 64
_MOST_BYTES: Final = 1 << 20
_TRIES: Final = 3


@dataclass(frozen=True)
class Report:
    """What the platform gave.

    Attributes:
        outblob: A TDX quote, or an SEV-SNP report.
        auxblob: SEV-SNP: the host's table of certificates; empty where there is none.
        generation: How often the entry had been written to.
    """

    provider: str
    outblob: bytes
    auxblob: bytes
    generation: int


def missing(root: Path = Path("/")) -> tuple[str, ...]:
    """Why there are no reports on this machine."""
    if (root / FOLDER).is_dir():
        return ()
    return (f"/{FOLDER} is not there: it needs Linux 6.7 in the guest, and configfs mounted",)


def report(report_data: bytes, *, provider: str, root: Path = Path("/")) -> Report:
    """A report over 64 bytes, of an entry that is made for it and removed.

    Raises:
        PolicyRefusal: ``executor-unavailable``: there is none, it is another platform's, or
            somebody else wrote to the entry meanwhile.
    """
    if len(report_data) != REPORT_DATA_BYTES:
        raise ValueError("report data are 64 bytes")
    entry = root / FOLDER / f"cohortium-{secrets.token_hex(8)}"
    try:
        entry.mkdir()
        try:
            return _asked(entry, report_data, provider)
        finally:
            entry.rmdir()
    except OSError as error:
        raise _unavailable(f"the machine gives no report: {error}") from error


def _asked(entry: Path, report_data: bytes, provider: str) -> Report:
    found = (entry / "provider").read_text().strip()
    if found != provider:
        raise _unavailable(f"the machine's reports are of {found[:40]!r}, not of {provider}")
    for _ in range(_TRIES):
        try:
            return _once(entry, report_data, found)
        except OSError as error:
            if error.errno not in {errno.EBUSY, errno.EWOULDBLOCK}:
                raise
    raise _unavailable("the machine's report did not come; try again")


def _once(entry: Path, report_data: bytes, provider: str) -> Report:
    before = _generation(entry)
    (entry / "inblob").write_bytes(report_data)
    outblob = _blob(entry / "outblob")
    auxblob = _blob(entry / "auxblob") if (entry / "auxblob").exists() else b""
    after = _generation(entry)
    if after != before + 1:
        # The ABI: every write counts; more than ours means that options changed under us.
        raise _unavailable("something else asked by the same entry")
    if not outblob:
        raise _unavailable("the machine's report is empty")
    return Report(provider, outblob, auxblob, after)


def _generation(entry: Path) -> int:
    text = (entry / "generation").read_text().strip()
    if not text.isdecimal():
        raise _unavailable("the machine's report has no generation")
    return int(text)


def _blob(file: Path) -> bytes:
    with file.open("rb") as opened:
        found = opened.read(_MOST_BYTES + 1)
    if len(found) > _MOST_BYTES:
        raise _unavailable("the machine's report is too long")
    return found


def _unavailable(why: str) -> PolicyRefusal:
    return PolicyRefusal("executor-unavailable", f"No evidence: {why}.")
