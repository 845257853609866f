"""Executors whose files are generated here, and whose enclaves are started by their own tools."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar, Final, NoReturn

from cohortium.contract.task import SecurityLevel
from cohortium.enclave.executor import Prepared
from cohortium.enclave.job import Job
from cohortium.errors import PolicyRefusal

_DEVICES: Final = ("dev/sgx_enclave", "dev/sgx_provision")


class Generated(ABC):
    """An SGX runtime: `prepare` gives what its tools sign and start.

    Args:
        root: Where the machine's files begin.
    """

    name: ClassVar[str]
    levels: ClassVar[tuple[SecurityLevel, ...]] = ("L4", "L5")
    tools: ClassVar[tuple[str, ...]]
    source: ClassVar[str]

    def __init__(self, root: Path = Path("/")) -> None:
        self._root = root

    def missing(self) -> tuple[str, ...]:
        """See `Executor`."""
        out = []
        devices = [f"/{name}" for name in _DEVICES if not (self._root / name).exists()]
        if devices:
            out.append(f"{', '.join(devices)} not there: no SGX, or its driver is off")
        absent = [tool for tool in self.tools if shutil.which(tool) is None]
        if absent:
            out.append(f"{', '.join(absent)} not installed ({self.source})")
        out.append(
            "this release generates its files and starts no enclave: it was not run on hardware"
        )
        return tuple(out)

    @abstractmethod
    def prepare(self, job: Job) -> Prepared:
        """See `Executor`."""

    def start(self, prepared: Prepared) -> NoReturn:
        """See `Executor`; refuses."""
        del prepared
        raise PolicyRefusal("executor-unavailable", f"{self.name}: {'; '.join(self.missing())}.")
