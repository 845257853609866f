"""What a contract has to name so that evidence from this machine is accepted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cohortium.contract.model import Measurement
from cohortium.enclave import builtin, manifest
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.dcap import HEADER_BYTES
from cohortium.enclave.attestation.sev_snp import REPORT_BYTES, Report
from cohortium.enclave.executor import Executor
from cohortium.enclave.executors.confidential import ConfidentialMachine
from cohortium.enclave.executors.generated import Generated
from cohortium.enclave.executors.tpm import MeasuredHost
from cohortium.enclave.tpm_host import TpmHost
from cohortium.errors import CohortiumError, InputError, VerificationError

_NOBODY: Final = bytes(64)
_TDX: Final = {
    "mrtd": 136,
    **{f"rtmr{index}": 328 + 48 * index for index in range(3)},
}
"""Where the registers are in a TD report (Intel, "TDX DCAP Quoting Library API", A.3.2)."""
_REGISTER_BYTES: Final = 48
_V5_BYTES: Final = 6
"""Type and size of the body, before it, in version 5."""


@dataclass(frozen=True)
class Measured:
    """What an executor measures.

    Attributes:
        measurements: For the contract's environment; none where nothing proves what runs.
        note: What to do instead, or why there are none.
    """

    executor: str
    measurements: tuple[Measurement, ...] = ()
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        named = [one.model_dump(exclude_none=True) for one in self.measurements]
        return {"executor": self.executor, "measurements": named, "note": self.note}


def program_digest(named: str) -> str:
    """What a contract binds of a program: a folder with its ``task.yaml``, or ``builtin:NAME``.

    Raises:
        InputError: ``not-found``, ``bad-config``, ``bad-input``.
    """
    if named.startswith(builtin.PREFIX):
        return builtin.find(named).digest
    folder = Path(named)
    if not folder.is_dir():
        raise InputError(
            "not-found", f"There is no folder {named[:200]}; name a program's, or builtin:NAME."
        )
    manifest.read(folder)
    return manifest.digest(folder)


def of_executor(place: Executor, program: str, host: TpmHost | None = None) -> Measured:
    """What an executor would measure on this machine.

    Args:
        program: Digest of the program.
        host: The machine's TPM, for tests.
    """
    if place.name == "simulated":
        value = Measurement(kind="simulated", value=program.removeprefix("sha256:"))
        return Measured(
            place.name, (value,), "for development: with allow_simulated, and it proves nothing"
        )
    if isinstance(place, Generated):
        return Measured(place.name, note="MRENCLAVE is what its own tools print when they sign")
    read: Callable[[], tuple[Measurement, ...]]
    if isinstance(place, MeasuredHost):
        read = lambda: _of_tpm(host or TpmHost())  # noqa: E731
    elif isinstance(place, ConfidentialMachine):
        read = lambda: registers(place.report(_NOBODY))  # noqa: E731
    else:
        return Measured(place.name, note="measures nothing: name the enclave and its key")
    if why := place.missing():
        return Measured(place.name, note=f"not on this machine: {'; '.join(why)}")
    try:
        return Measured(place.name, read(), "of this machine as it is now")
    except CohortiumError as error:
        return Measured(place.name, note=error.message)


def registers(record: Record) -> tuple[Measurement, ...]:
    """What evidence of this machine itself says of it; nothing is verified.

    Raises:
        VerificationError: ``bad-evidence``.
    """
    if record.kind == "sev-snp":
        value = Report.parse(record.value[:REPORT_BYTES]).measurement.hex()
        return (Measurement(kind="snp-measurement", value=value),)
    quote = record.value
    start = HEADER_BYTES + (_V5_BYTES if int.from_bytes(quote[:2], "little") >= 5 else 0)
    found = {
        name: quote[start + at : start + at + _REGISTER_BYTES].hex() for name, at in _TDX.items()
    }
    if any(len(value) != 2 * _REGISTER_BYTES for value in found.values()):
        raise VerificationError("bad-evidence", "The machine's quote is cut off.")
    return tuple(Measurement(kind=name, value=value) for name, value in found.items())


def _of_tpm(host: TpmHost) -> tuple[Measurement, ...]:
    values = host.registers()
    return tuple(
        Measurement(kind=f"pcr{index}", value=values[index].hex()) for index in host.key().pcrs
    )
