"""A host with a software TPM that booted what a recorded machine booted."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.swtpm import running

from cohortium.enclave import tpm
from cohortium.enclave.attestation.tpm_events import parse
from cohortium.enclave.executor import Executor, executors
from cohortium.enclave.executors.tpm import MeasuredHost
from cohortium.enclave.tpm import Tpm
from cohortium.enclave.tpm_host import EVENT_LOG, TpmHost

LOG = Path(__file__).parents[1] / "vectors/attestation/tpm_eventlog_rhel8.bin"
_FOLDER = "COHORTIUM_TEST_TPM"


def without() -> str:
    """Why there is none here; empty where there can be one."""
    if shutil.which("swtpm") is None:
        return "swtpm is not installed"
    return "; ".join(tpm.missing())


def host_in(folder: Path) -> TpmHost:
    """The host whose software TPM runs in the folder."""
    return TpmHost(folder / "cohortium", f"swtpm:path={folder / 'tpm'}", folder / "root")


def boot(host: TpmHost) -> None:
    """Measure the recorded events."""
    log = host.root / EVENT_LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(LOG.read_bytes())
    with Tpm(host.tcti) as connection:
        for event in parse(LOG.read_bytes()):
            if event.kind != 3:  # EV_NO_ACTION
                connection.extend(event.pcr, event.digest)


@contextmanager
def measured_host() -> Iterator[TpmHost]:
    """One that has booted, and has a key."""
    # A socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)):
        host = host_in(Path(folder))
        boot(host)
        host.make_key()
        yield host


@contextmanager
def as_executor() -> Iterator[MeasuredHost]:
    """Its executor, which `executor_of` finds in child processes too."""
    with measured_host() as host:
        os.environ[_FOLDER] = str(host.folder.parent)
        try:
            yield MeasuredHost(host)
        finally:
            del os.environ[_FOLDER]


def executor_of(name: str) -> Executor:
    """One of those that are installed; for ``tpm`` that of `as_executor`."""
    if name == "tpm" and _FOLDER in os.environ:
        return MeasuredHost(host_in(Path(os.environ[_FOLDER])))
    return executors()[name]
