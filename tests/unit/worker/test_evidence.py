"""What an enclave shows of itself in the sessions with its lenders."""

from __future__ import annotations

import struct
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.amd import Amd
from tests.support.enclave_hub import World, judge
from tests.support.measured_host import measured_host, without
from tests.support.tasks import job
from tests.support.tsm import FakeTsm

from cohortium.contract.model import Measurement
from cohortium.enclave.attestation.cbor import decode
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.ratls import open_certificate
from cohortium.enclave.executors.landlock import Landlock
from cohortium.enclave.executors.sev_snp import SevSnp
from cohortium.enclave.executors.tdx import Tdx
from cohortium.enclave.executors.tpm import MeasuredHost
from cohortium.enclave.snp_certificates import ARK, ASK, VCEK, VLEK, certificates
from cohortium.enclave.task_record import contract_record
from cohortium.errors import PolicyRefusal, VerificationError
from cohortium.worker.measure import of_executor, registers

VECTORS = Path(__file__).parents[2] / "vectors" / "attestation"
QUOTE = (VECTORS / "tdx_quote.bin").read_bytes()
REGISTERS = {
    "mrtd": "91eb2b44d141d4ec",
    "rtmr0": "44c0197b39157fdd",
    "rtmr1": "0084452c01668329",
    "rtmr2": "d833feef2cd94514",
}
"""How those begin that `tests/vectors/test_dcap_vectors.py` reads by the verifier."""
CODE = "sha256:" + "5" * 64


def _tdx(root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Tdx, FakeTsm]:
    (root / "dev").mkdir(parents=True)
    (root / Tdx.device).touch()
    return Tdx(root), FakeTsm(root, monkeypatch, "tdx_guest", lambda _asked: QUOTE)


@pytest.mark.skipif(bool(Landlock().missing()), reason="no sandbox on this machine")
async def test_with_a_quote_the_session_s_certificate_carries_one_over_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, fake = _tdx(tmp_path / "machine", monkeypatch)
    measured = ({"kind": "mrtd", "value": "0" * 96},)
    world = World(
        tmp_path / "world",
        level="L4",
        environment={"measurements": measured},
        executors=("tdx",),
    )
    async with world.serving(known={"tdx": place}):
        await world.send(task_prepare=world.prepare())
        await world.ended()
    assert world.outcome().executor == "tdx"
    for lender in (world.alpha, world.beta):
        (shown,) = lender.shown
        attested = open_certificate(shown.certificate, now=datetime.now(UTC))
        assert (attested.kind, attested.quote) == ("tdx", QUOTE)
        assert attested.report_data == fake.asked[0]
        assert shown.evidence is not None
        assert Record.from_cbor(shown.evidence) == Record.evidence("tdx", QUOTE)
        assert shown.report_data in fake.asked[1:]


@pytest.mark.skipif(bool(without()), reason=without())
async def test_a_measured_host_measures_the_task_that_the_contract_names(tmp_path: Path) -> None:
    with measured_host() as host:
        place = MeasuredHost(host)
        if place.missing():
            pytest.skip("; ".join(place.missing()))
        values = host.registers()
        measured = tuple(
            {"kind": f"pcr{index}", "value": values[index].hex()} for index in (0, 2, 4, 7, 8, 9)
        )
        world = World(
            tmp_path, level="L3", environment={"measurements": measured}, executors=("tpm",)
        )
        artefacts = {one.slot: one.lent.digest for one in world.lenders.values()}
        task = contract_record(world.code_digest, {"word": "hello"}, artefacts)
        for lender in world.lenders.values():
            lender.evidence = judge(world.contract, platforms=(host.key().name,), task=task)
        async with world.serving(known={"tpm": place}):
            await world.send(task_prepare=world.prepare())
            await world.ended()
        assert world.outcome().executor == "tpm"
        assert world.outcome().end == "succeeded"
        world.reports.clear()
        for lender in world.lenders.values():
            other = contract_record(world.code_digest, {"word": "other"}, artefacts)
            lender.evidence = judge(world.contract, platforms=(host.key().name,), task=other)
        async with world.serving(known={"tpm": place}):
            await world.send(task_prepare=world.prepare())
            await world.ended()
        assert world.error().code == "evidence-refused"
        found = {one.kind: one.value for one in of_executor(place, CODE, host).measurements}
        assert {one["kind"]: one["value"] for one in measured}.items() <= found.items()


def test_the_registers_of_a_quote_are_those_that_its_verifier_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, fake = _tdx(tmp_path, monkeypatch)
    if place.missing():
        pytest.skip("; ".join(place.missing()))
    found = of_executor(place, CODE)
    values = {one.kind: one.value for one in found.measurements}
    assert sorted(values) == ["mrtd", "rtmr0", "rtmr1", "rtmr2"]
    assert fake.asked == [bytes(64)]
    assert {name: value[:16] for name, value in values.items()} == REGISTERS
    with pytest.raises(VerificationError, match="cut off"):
        registers(Record.evidence("tdx", QUOTE[:200]))


def _table(entries: dict[UUID, bytes], *, little: bool = False) -> bytes:
    head = 24 * (len(entries) + 1)
    table, body = b"", b""
    for name, content in entries.items():
        raw = name.bytes_le if little else name.bytes
        table += struct.pack("<16sII", raw, head + len(body), len(content))
        body += content
    return table + bytes(24) + body + bytes(100)


@pytest.mark.parametrize("little", [False, True])
def test_snp_evidence_has_the_certificates_that_the_host_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, little: bool
) -> None:
    amd = Amd()
    der = [one.public_bytes(Encoding.DER) for one in (amd.signer, amd.root)]
    table = _table({VCEK: amd.leaf, ASK: der[0], ARK: der[1]}, little=little)
    report = (VECTORS / "snp_report.bin").read_bytes()
    (tmp_path / "dev").mkdir()
    (tmp_path / SevSnp.device).touch()
    FakeTsm(tmp_path, monkeypatch, "sev_guest", lambda _asked: report, auxblob=table)
    place = SevSnp(tmp_path)
    prepared = place.prepare(job(tmp_path, "print(1)"))
    assert prepared.attest is not None
    record = prepared.attest(bytes(64))
    assert record.kind == "sev-snp"
    found = decode(record.value, "evidence")
    assert found[:2] == [report, amd.leaf]
    assert found[2].count(b"BEGIN CERTIFICATE") == 2
    measured = registers(place.report(bytes(64)))
    assert measured == (Measurement(kind="snp-measurement", value=report[0x90:0xC0].hex()),)


def test_a_host_without_certificates_is_said(tmp_path: Path) -> None:
    cloud = {VLEK: b"leaf", ASK: b"no", ARK: b"certificate"}
    for table, says in (
        (b"", "gives its guests no certificates"),
        (_table({VCEK: b"leaf"}), "gives its guests no certificates"),
        (_table(cloud), "cannot be read"),
        (_table(cloud)[:100], "cut off"),
        (struct.pack("<16sII", b"x" * 16, 0, 0) * 65, "no end"),
    ):
        with pytest.raises(PolicyRefusal, match=says):
            certificates(table)


def test_what_a_simulated_tee_measures_is_the_program_that_a_contract_names(
    tmp_path: Path,
) -> None:
    from cohortium.contract.model import Environment
    from cohortium.enclave.executors.simulated import Simulated

    place = Simulated(Environment(allow_simulated=True))
    (named,) = of_executor(place, CODE).measurements
    assert named.value == "5" * 64
    made = replace(job(tmp_path, "print(1)"), measured=CODE)
    prepared = place.prepare(made)
    assert prepared.files["measurement"].decode() == named.value
    assert prepared.attest is not None
    assert named.value.encode() in prepared.attest(bytes(64)).value
    assert of_executor(Landlock(), CODE).measurements == ()
