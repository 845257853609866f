"""A software TPM (swtpm) as a process, spoken to in plain TPM 2.0 commands (Part 3)."""

from __future__ import annotations

import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.tpm import sized

_SHA256 = 0x0B
_RETRY = 0x922
_OWNER, _ENDORSEMENT = 0x40000001, 0x4000000B
_PASSWORD = struct.pack(">IHBH", 0x40000009, 0, 0, 0)
# fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted; sign or decrypt.
_COMMON = 0x00010072
_ATTESTATION_KEY = (
    struct.pack(">HHIH", 1, _SHA256, _COMMON | 1 << 18, 0)
    + struct.pack(">HHHHI", 0x10, 0x14, _SHA256, 2048, 0)
    + sized(b"")
)
_ENDORSEMENT_KEY = (
    struct.pack(">HHIH", 1, _SHA256, _COMMON | 1 << 17, 0)
    + struct.pack(">HHHHHI", 6, 128, 0x43, 0x10, 2048, 0)
    + sized(b"")
)


def selection(pcrs: Sequence[int]) -> bytes:
    """TPML_PCR_SELECTION of the SHA-256 bank."""
    bits = sum(1 << index for index in pcrs).to_bytes(3, "little")
    return struct.pack(">IHB", 1, _SHA256, 3) + bits


class SoftwareTpm:
    """Two keys, and what a host does with them."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.attestation, self.public = self._primary(_OWNER, _ATTESTATION_KEY)
        self._endorsement, self.endorsement_public = self._primary(_ENDORSEMENT, _ENDORSEMENT_KEY)

    def _command(self, code: int, body: bytes, *, sessions: bool = True) -> bytes:
        tag = 0x8002 if sessions else 0x8001
        for _ in range(100):
            self._connection.sendall(struct.pack(">HII", tag, 10 + len(body), code) + body)
            answer = self._connection.recv(8192)
            result = struct.unpack(">I", answer[6:10])[0]
            if result != _RETRY:
                break
        if result:
            raise RuntimeError(f"the TPM says {result:#x} to {code:#x}")
        return answer[10:]

    @staticmethod
    def _authorised(times: int = 1) -> bytes:
        area = _PASSWORD * times
        return struct.pack(">I", len(area)) + area

    def _primary(self, hierarchy: int, template: bytes) -> tuple[int, bytes]:
        body = struct.pack(">I", hierarchy) + self._authorised()
        body += sized(bytes(4)) + sized(template) + sized(b"") + struct.pack(">I", 0)
        answer = self._command(0x131, body)
        n_bytes = struct.unpack(">H", answer[8:10])[0]
        return struct.unpack(">I", answer[:4])[0], answer[10 : 10 + n_bytes]

    def extend(self, pcr: int, digest: bytes) -> None:
        body = struct.pack(">I", pcr) + self._authorised() + struct.pack(">IH", 1, _SHA256) + digest
        self._command(0x182, body)

    def read(self, pcrs: Sequence[int]) -> Mapping[int, bytes]:
        """At most eight PCRs."""
        answer = self._command(0x17E, selection(pcrs), sessions=False)
        values = answer[4 + len(selection(pcrs)) + 4 :]
        return {pcr: values[34 * i + 2 : 34 * i + 34] for i, pcr in enumerate(sorted(pcrs))}

    def quote(self, pcrs: Sequence[int], nonce: bytes) -> tuple[bytes, bytes]:
        """TPMS_ATTEST and TPMT_SIGNATURE."""
        body = struct.pack(">I", self.attestation) + self._authorised()
        body += sized(nonce) + struct.pack(">H", 0x10) + selection(pcrs)
        answer = self._command(0x158, body)
        n_parameters, n_quote = struct.unpack(">IH", answer[:6])
        return answer[6 : 6 + n_quote], answer[6 + n_quote : 4 + n_parameters]

    def activate(self, blob: bytes, encrypted: bytes) -> bytes:
        """TPM2_ActivateCredential."""
        body = struct.pack(">II", self.attestation, self._endorsement)
        answer = self._command(0x147, body + self._authorised(2) + blob + encrypted)
        n_bytes = struct.unpack(">H", answer[4:6])[0]
        return answer[6 : 6 + n_bytes]


@contextmanager
def running(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A new TPM in an empty folder, or one with the seeds of an earlier one, after a restart."""
    server, control = folder / "tpm", folder / "tpm.ctrl"
    for left in (server, control):
        left.unlink(missing_ok=True)
    command = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}"]
    command += ["--server", f"type=unixio,path={server}", "--ctrl", f"type=unixio,path={control}"]
    process = subprocess.Popen(
        [*command, "--flags", "not-need-init,startup-clear"], stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(200):
            if server.exists():
                break
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(20)


@contextmanager
def software_tpm(folder: Path) -> Iterator[SoftwareTpm]:
    """A new TPM, started and connected."""
    with (
        running(folder),
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
    ):
        connection.settimeout(20)
        connection.connect(str(folder / "tpm"))
        yield SoftwareTpm(connection)
