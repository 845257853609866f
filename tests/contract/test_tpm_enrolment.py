"""``cohortium enclave tpm``: a software TPM is enrolled, step by step, in files."""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.dcap import NOW, certificate
from tests.support.measured_host import measured_host, without
from typer.testing import CliRunner

from cohortium.cli import tpm as commands
from cohortium.cli.enclave import app
from cohortium.enclave.attestation.tpm_structures import PublicArea
from cohortium.enclave.tpm import Tpm
from cohortium.enclave.tpm_exchange import Answer
from cohortium.enclave.tpm_host import TpmHost
from cohortium.errors import (
    CohortiumError,
    ConflictError,
    InputError,
    PolicyRefusal,
    VerificationError,
)

pytestmark = pytest.mark.skipif(bool(without()), reason=without())
MAKER = ec.generate_private_key(ec.SECP256R1())


@dataclass
class _Public:
    """A key that a certificate is for, and whose private part nobody has."""

    key: rsa.RSAPublicKey

    def public_key(self) -> rsa.RSAPublicKey:
        return self.key


def endorsement_key(host: TpmHost) -> rsa.RSAPublicKey:
    with Tpm(host.tcti) as connection:
        key = PublicArea.parse(connection.endorsement()[0]).key
    assert isinstance(key, rsa.RSAPublicKey)
    return key


def certify(host: TpmHost, key: rsa.RSAPublicKey) -> None:
    """Put a maker's certificate where a TPM has it, with some bytes behind it."""
    made = certificate("EK", _Public(key), "Maker", MAKER, ca=False)  # type: ignore[arg-type]
    content = made.public_bytes(Encoding.DER) + b"\xff" * 100
    tss: Any = importlib.import_module("tpm2_pytss")
    area = tss.TPMS_NV_PUBLIC(
        nvIndex=0x01C00002,
        nameAlg=tss.TPM2_ALG.SHA256,
        attributes=tss.TPMA_NV.parse(
            "platformcreate|ppread|ownerread|authread|no_da|ppwrite|writedefine"
        ),
        dataSize=len(content),
    )
    with Tpm(host.tcti) as connection:
        esapi, platform = connection._esapi, tss.ESYS_TR.PLATFORM
        place = esapi.nv_define_space(None, tss.TPM2B_NV_PUBLIC(nvPublic=area), platform)
        for start in range(0, len(content), 512):
            esapi.nv_write(place, content[start : start + 512], start, platform)


@dataclass
class Desk:
    """A folder for the files, and the commands."""

    host: TpmHost
    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def call(self, *arguments: str | Path, ends: type[CohortiumError] | None = None) -> Any:
        """What a command prints; where it has to end with an error, that."""
        words = ["tpm", *map(str, arguments), "--json"]
        if arguments[0] in {"request", "answer", "show"}:
            words += ["--folder", str(self.host.folder), "--tpm", self.host.tcti]
        result = CliRunner().invoke(app, words)
        if ends is None:
            assert result.exit_code == 0, result.output
            return json.loads(result.stdout)
        assert result.exit_code == ends.exit_code, result.output
        return " ".join(result.output.split())


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(commands, "system_clock", lambda: NOW)
    for name, issuer in (("maker", MAKER), ("other", ec.generate_private_key(ec.SECP256R1()))):
        root = certificate("Maker", issuer, "Maker", issuer, ca=True)
        (tmp_path / f"{name}.pem").write_bytes(root.public_bytes(Encoding.PEM))
    with measured_host() as host:
        yield Desk(host, tmp_path)


def test_a_host_with_its_makers_certificate_is_enrolled(desk: Desk) -> None:
    certify(desk.host, endorsement_key(desk.host))
    asked = desk.call("request", desk / "request.json")
    assert asked["certificate"]
    kept = ("--kept", desk / "kept.json")
    root = ("--root", desk / "maker.pem")
    desk.call("challenge", desk / "request.json", desk / "challenge.json", *root, *kept)
    assert (desk / "kept.json").stat().st_mode & 0o777 == 0o600
    desk.call("answer", desk / "challenge.json", desk / "answer.json")
    enrolled = desk.call("enrol", desk / "answer.json", *kept)
    assert enrolled == {"platform": asked["platform"]}
    assert not (desk / "kept.json").exists()
    shown = desk.call("show")
    assert shown["platform"] == asked["platform"]
    assert [one["kind"] for one in shown["measurements"]] == [f"pcr{i}" for i in range(10)]
    assert shown["measurements"][4]["value"].startswith("758a3d35")


def test_only_a_tpm_of_a_maker_that_is_trusted_is_asked(desk: Desk) -> None:
    files = (desk / "request.json", desk / "challenge.json", "--kept", desk / "kept.json")
    asked = desk.call("request", desk / "request.json")
    assert not asked["certificate"]

    def refused(*more: str | Path) -> str:
        return str(desk.call("challenge", *files, *more, ends=VerificationError))

    root = ("--root", desk / "maker.pem")
    assert "has no certificate" in refused(*root)
    assert "not the one named" in refused("--endorsement-key", "sha256:" + "0" * 64)
    assert "Name the TPM maker" in desk.call("challenge", *files, ends=InputError)
    other = rsa.generate_private_key(65537, 2048).public_key()
    certify(desk.host, other)
    (desk / "request.json").unlink()
    desk.call("request", desk / "request.json")
    assert "is of another key" in refused(*root)
    assert "does not verify" in refused("--root", desk / "other.pem")
    assert not (desk / "challenge.json").exists()
    desk.call("challenge", *files, "--endorsement-key", asked["endorsement_key"])
    assert (desk / "challenge.json").exists()


def test_only_the_tpm_with_both_keys_answers(desk: Desk) -> None:
    kept = ("--kept", desk / "kept.json")
    asked = desk.call("request", desk / "request.json")
    pinned = ("--endorsement-key", asked["endorsement_key"])
    desk.call("challenge", desk / "request.json", desk / "challenge.json", *pinned, *kept)
    changed = desk.call("request", desk / "another.json", "--new-key", "--pcr", "7", "--pcr", "4")
    assert changed["platform"] != asked["platform"]
    assert [one["kind"] for one in desk.call("show")["measurements"]] == ["pcr4", "pcr7"]
    answer = ("answer", desk / "challenge.json", desk / "answer.json")
    assert "does not open" in desk.call(*answer, ends=PolicyRefusal)
    guess = Answer(secret=base64.b64encode(bytes(32)).decode())
    (desk / "guess.json").write_bytes(guess.to_bytes())
    enrol = ("enrol", desk / "guess.json", *kept)
    assert "does not hold" in desk.call(*enrol, ends=VerificationError)
    assert (desk / "kept.json").exists()


def test_files_and_keys_that_are_there_are_kept(desk: Desk) -> None:
    desk.call("request", desk / "request.json")
    again = desk.call("request", desk / "request.json", ends=ConflictError)
    assert "is there already" in again
    assert "--new-key" in desk.call("request", desk / "more.json", "--pcr", "7", ends=ConflictError)
    pcr = desk.call("request", desk / "more.json", "--new-key", "--pcr", "14", ends=InputError)
    assert "cannot be quoted" in pcr
    no_answer = desk.call("answer", desk / "request.json", desk / "answer.json", ends=InputError)
    assert "is not what is needed here" in no_answer
