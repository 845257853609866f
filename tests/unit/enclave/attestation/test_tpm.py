"""TPM quotes of a made-up and a recorded TPM, recorded event logs, and enrolment."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.dcap import NOW, certificate
from tests.support.tpm import ATTESTS, Tpm

from cohortium.contract.model import Measurement
from cohortium.enclave.attestation import tpm_events
from cohortium.enclave.attestation.policy import AppraisalPolicy
from cohortium.enclave.attestation.reasons import Reason, reason_of
from cohortium.enclave.attestation.tpm import TpmEvidence, verify_tpm
from cohortium.enclave.attestation.tpm_enrolment import (
    judge_answer,
    kdf_a,
    make_challenge,
    verify_endorsement,
)
from cohortium.enclave.attestation.tpm_structures import PublicArea, Quoted
from cohortium.enclave.attestation.verdict import Verdict
from cohortium.errors import VerificationError

VECTORS = Path(__file__).parents[3] / "vectors/attestation"
LOG = (VECTORS / "tpm_eventlog_rhel8.bin").read_bytes()
RHEL8 = {
    0: "24af52a4f429b71a3184a6d64cddad17e54ea030e2aa6576bf3a5a3d8bd3328f",
    2: "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969",
    4: "758a3d35f1b0ff5b135dacd07db0c8132c0ac665d944090d4bf96e66447a245c",
    7: "5fd54361d580eb7592adb8deb236ff35444ceeac7148f24b3de63c041f12b3da",
    8: "25c3874041ebd4e9a21b6ed71b624a7bfa99907a8dcea7f129a4c64cbaf5829a",
    9: "d43b2f61eb18b4791812ff5f20ab20e4ef621ba683370bedf5dbdf518b3a8078",
    14: "d8f57ebcc1a23cc46832696e1a657f720e1be8f5b405bb7204682114e363b455",
}
TPM = Tpm()
NONCE = bytes(range(32))
TASK = tpm_events.task_digests("sha256:" + "a" * 64, ["--epochs", "3"], {"images": "sha256:b"})
BOOT = tpm_events.replay(tpm_events.parse(LOG))
PCRS = {i: v for i, v in tpm_events.replay(tpm_events.parse(LOG), TASK).items() if i in RHEL8}
WANTED = tuple(Measurement(kind=f"pcr{i}", value=RHEL8[i]) for i in (0, 2, 4, 7, 8, 9))


def evidence(tpm: Tpm = TPM, pcrs: dict[int, bytes] | None = None, **quoted: Any) -> TpmEvidence:
    values = PCRS if pcrs is None else pcrs
    quote = tpm.quote(values, quoted.pop("nonce", NONCE), **quoted)
    return TpmEvidence(quote, tpm.sign(quote), tpm.public, values, LOG, TASK)


def verify(
    given: TpmEvidence | None = None,
    *,
    tpm: Tpm = TPM,
    nonce: bytes = NONCE,
    task: Any = TASK,
    **policy: Any,
) -> Verdict:
    policy = {"measurements": WANTED, "platforms": (tpm.name.hex(),), **policy}
    found = evidence(tpm) if given is None else given
    return verify_tpm(found, AppraisalPolicy(**policy), nonce=nonce, now=NOW, task=task)


def reason(run: Callable[[], Any]) -> Reason | None:
    with pytest.raises(VerificationError) as caught:
        run()
    return reason_of(caught.value)


def test_a_recorded_event_log_leads_to_the_values_of_its_machine() -> None:
    assert {index: BOOT[index].hex() for index in RHEL8} == RHEL8


def test_a_recorded_quote_is_read_and_refused_since_its_digests_are_sha_1() -> None:
    recorded = json.loads((VECTORS / "tpm_quote.json").read_text())
    ak, quote, signature = (base64.b64decode(recorded[n]) for n in ("ak", "quote", "signature"))
    key = PublicArea.parse(ak)
    assert key.attests
    assert Quoted.parse(quote).selections == ((4, tuple(range(24))),)
    assert isinstance(key.key, rsa.RSAPublicKey)
    key.key.verify(signature[6:], quote, padding.PKCS1v15(), hashes.SHA1())
    found = TpmEvidence(quote, signature, ak, dict.fromkeys(range(24), bytes(32)))
    platforms = (key.name.hex(),)
    assert reason(lambda: verify(found, nonce=b"", platforms=platforms)) is Reason.SIGNATURE


@pytest.mark.parametrize(
    "tpm", [TPM, Tpm(ec.generate_private_key(ec.SECP256R1()))], ids=["rsa", "ecc"]
)
def test_a_measured_host_and_its_task_are_accepted(tpm: Tpm) -> None:
    verdict = verify(tpm=tpm)
    assert (verdict.kind, verdict.platform) == ("tpm", tpm.name.hex())
    assert verdict.measurements["pcr4"] == RHEL8[4]
    assert verdict.measurements["pcr14"] != RHEL8[14]
    sent = TpmEvidence.from_cbor(evidence(tpm).to_cbor())
    assert verify(sent, tpm=tpm).measurements == verdict.measurements


@pytest.mark.parametrize(
    ("quoted", "expected"),
    [
        ({"nonce": bytes(32)}, Reason.NONCE),
        ({"magic": 0xFF544346}, Reason.MALFORMED),
        ({"kind": 0x801A}, Reason.MALFORMED),
        ({"bank": 4}, Reason.PCR_SELECTION),
        ({"digest": bytes(32)}, Reason.PCR_DIGEST),
        ({"pcrs": {4: PCRS[4], 7: PCRS[7]}}, Reason.PCR_SELECTION),
        ({"pcrs": {7: PCRS[7], 14: PCRS[14]}}, Reason.PCR_SELECTION),
        ({"pcrs": {**PCRS, 8: bytes(32)}}, Reason.EVENT_LOG),
    ],
)
def test_a_signed_quote_that_does_not_hold_is_refused(
    quoted: dict[str, Any], expected: Reason
) -> None:
    assert reason(lambda: verify(evidence(**quoted))) is expected


def test_values_a_log_and_tasks_that_were_not_quoted_are_refused() -> None:
    good = evidence()
    forged = {**PCRS, 4: bytes(32)}
    assert reason(lambda: verify(replace(good, pcrs=forged))) is Reason.PCR_DIGEST
    fewer = {k: v for k, v in PCRS.items() if k != 9}
    assert reason(lambda: verify(replace(good, pcrs=fewer))) is Reason.PCR_SELECTION
    other = (*TASK[:-1], bytes(32))
    assert reason(lambda: verify(replace(good, tasks=other))) is Reason.EVENT_LOG
    assert reason(lambda: verify(replace(good, tasks=()))) is Reason.EVENT_LOG
    assert reason(lambda: verify(replace(good, event_log=LOG[:-1]))) is Reason.EVENT_LOG
    events = len(LOG) // 2
    changed = LOG[:events] + bytes([LOG[events] ^ 1]) + LOG[events + 1 :]
    try:
        assert verify(replace(good, event_log=changed)) == verify(good)
    except VerificationError as error:
        said = reason_of(error)
        assert said is Reason.EVENT_LOG


def test_another_task_than_the_approved_one_is_refused() -> None:
    other = tpm_events.task_digests("sha256:" + "a" * 64, ["--epochs", "4"], {"images": "sha256:b"})
    assert reason(lambda: verify(task=other)) is Reason.EVENT
    assert reason(lambda: verify(task=TASK[:-1])) is Reason.EVENT
    assert reason(lambda: verify(task=())) is Reason.EVENT
    assert verify(task=TASK[1:]).kind == "tpm"


def test_what_is_measured_names_every_part_of_a_task() -> None:
    def digests(program: str = "p", arguments: Any = ("a", "b"), inputs: Any = None) -> Any:
        return tpm_events.task_digests(program, list(arguments), inputs or {"x": "1"})

    one = digests()
    assert digests(program="q") != one
    assert digests(arguments=("ab",)) != one
    assert digests(inputs={"x": "2"}) != one
    assert digests(inputs={"x": "1", "y": "2"}) == digests(inputs={"y": "2", "x": "1"})


def test_a_host_that_booted_something_else_is_refused() -> None:
    for index, one in enumerate(WANTED):
        wrong = Measurement(kind=one.kind, value="00" * 32)
        changed = (*WANTED[:index], wrong, *WANTED[index + 1 :])
        assert reason(lambda m=changed: verify(measurements=m)) is Reason.MEASUREMENT  # type: ignore[misc]


def test_too_few_registers_are_refused_however_right_they_are() -> None:
    assert reason(lambda: verify(measurements=())) is Reason.NO_REFERENCE
    for index in range(len(WANTED)):
        fewer = (*WANTED[:index], *WANTED[index + 1 :])
        assert reason(lambda m=fewer: verify(measurements=m)) is Reason.NO_REFERENCE  # type: ignore[misc]
    for one in WANTED:
        assert reason(lambda m=one: verify(measurements=(m,))) is Reason.NO_REFERENCE  # type: ignore[misc]


def test_where_nothing_is_measured_beside_the_boot_loader_nothing_need_be_named() -> None:
    """A unified kernel image: PCR 4 has it with its command line and initrd."""
    boot = {**dict.fromkeys((0, 2, 4, 7), bytes(32)), 8: bytes(32), 9: bytes(32), 12: bytes(32)}
    boot |= dict.fromkeys((0, 2, 4, 7), b"\x01" * 32)
    pcrs = {**boot, 14: tpm_events.replay((), TASK)[14]}
    named = tuple(Measurement(kind=f"pcr{i}", value="01" * 32) for i in (0, 2, 4, 7))

    def judged(values: dict[int, bytes]) -> Verdict:
        found = replace(evidence(pcrs=values), event_log=b"")
        return verify(found, measurements=named)

    assert judged(pcrs).kind == "tpm"
    for index in (8, 9, 12):
        found = reason(lambda i=index: judged({**pcrs, i: b"\x02" * 32}))  # type: ignore[misc]
        assert found is Reason.NO_REFERENCE
    without = {index: value for index, value in pcrs.items() if index != 8}
    assert reason(lambda: judged(without)) is Reason.PCR_SELECTION


def test_only_enrolled_keys_that_sign_nothing_else_count() -> None:
    assert reason(lambda: verify(platforms=None)) is Reason.NO_REFERENCE
    assert reason(lambda: verify(platforms=("00" * 34,))) is Reason.ATTESTATION_KEY
    for bit in (1, 4, 5, 16, 17, 18):
        weak = Tpm(TPM.key, TPM.endorsement, ATTESTS ^ 1 << bit)
        assert reason(lambda t=weak: verify(tpm=t)) is Reason.ATTESTATION_KEY  # type: ignore[misc]


def test_another_keys_signature_is_refused() -> None:
    good = evidence()
    other = Tpm()
    swapped = replace(good, signature=other.sign(good.quote))
    assert reason(lambda: verify(swapped)) is Reason.SIGNATURE


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_bit_of_quote_and_signature_counts(data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(["quote", "signature"]))
    changed = bytearray(getattr(GOOD, field))
    changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    other: dict[str, Any] = {field: bytes(changed)}
    found = reason(lambda: verify(replace(GOOD, **other)))
    assert found in {Reason.SIGNATURE, Reason.MALFORMED}


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_parsers_refuse_random_bytes_and_do_nothing_else(data: bytes) -> None:
    for run in (PublicArea.parse, Quoted.parse, TpmEvidence.from_cbor):
        found = reason(lambda r=run: r(data))  # type: ignore[misc]
        assert found is Reason.MALFORMED
    if data:
        assert reason(lambda: tpm_events.parse(data)) is Reason.EVENT_LOG
    head = LOG[:69]
    try:
        tpm_events.parse(head + data)
    except VerificationError as error:
        said = reason_of(error)
        assert said is Reason.EVENT_LOG


def test_a_secret_is_opened_by_the_tpm_that_holds_both_keys_only() -> None:
    challenge = make_challenge(TPM.endorsement.public_key(), TPM.public, secrets.token_bytes)
    opened = TPM.activate(challenge.credential_blob, challenge.encrypted_secret)
    assert opened is not None
    assert judge_answer(challenge, opened) == TPM.name.hex()
    assert reason(lambda: judge_answer(challenge, bytes(32))) is Reason.ATTESTATION_KEY
    other_key = Tpm(Tpm().key, TPM.endorsement)
    assert other_key.activate(challenge.credential_blob, challenge.encrypted_secret) is None
    other_tpm = Tpm(TPM.key)
    assert other_tpm.activate(challenge.credential_blob, challenge.encrypted_secret) is None
    loose = Tpm(TPM.key, attributes=ATTESTS ^ 1 << 16).public
    key = TPM.endorsement.public_key()
    found = reason(lambda: make_challenge(key, loose, secrets.token_bytes))
    assert found is Reason.ATTESTATION_KEY


def test_the_key_derivation_is_that_of_the_specification() -> None:
    key, context = bytes(range(32)), b"context"
    block = b"\x00\x00\x00\x01STORAGE\x00" + context + (128).to_bytes(4, "big")
    import hmac

    assert kdf_a(key, b"STORAGE", context, 128) == hmac.digest(key, block, sha256)[:16]
    assert len(kdf_a(key, b"INTEGRITY", b"", 512)) == 64


def test_an_endorsement_certificate_leads_to_a_maker_that_the_site_trusts() -> None:
    root_key, ca_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = certificate("Maker", root_key, "Maker", root_key, ca=True)
    ca = certificate("Batch", ca_key, "Maker", root_key, ca=True)
    ek = certificate("EK", TPM.endorsement, "Batch", ca_key, ca=False)  # type: ignore[arg-type]
    no_ca = certificate("Batch", ca_key, "Maker", root_key, ca=False)
    der = {n: c.public_bytes(Encoding.DER) for n, c in (("root", root), ("ca", ca), ("ek", ek))}

    def check(*, leaf: bytes = der["ek"], via: Any = (der["ca"],), at: Any = NOW) -> Any:
        return verify_endorsement(leaf, via, [der["root"]], now=at)

    assert check() == TPM.endorsement.public_key()
    assert reason(lambda: check(via=())) is Reason.WRONG_ROOT
    assert reason(lambda: check(via=(no_ca.public_bytes(Encoding.DER),))) is Reason.CERTIFICATE
    late = NOW + timedelta(days=2000)
    assert reason(lambda: check(at=late)) is Reason.CERTIFICATE_EXPIRED
    assert reason(lambda: check(leaf=b"none")) is Reason.CERTIFICATE
    forged = certificate("EK", TPM.endorsement, "Batch", root_key, ca=False)  # type: ignore[arg-type]
    assert reason(lambda: check(leaf=forged.public_bytes(Encoding.DER))) is Reason.CERTIFICATE


GOOD = evidence()
