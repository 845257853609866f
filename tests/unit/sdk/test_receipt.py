"""A result counts only when the members witnessed it; whatever the hub changes is found."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from tests.support.fake_sites import SITES, key, make_contract
from tests.support.receipts import SmallLedger

from cohortium.core.rest import Receipt
from cohortium.crypto.keys import SigningKey
from cohortium.errors import ProtocolError, VerificationError
from cohortium.ledger.entry import PolicyChanged
from cohortium.sdk.receipt import verify_result

FINGERPRINT = "sha256:" + "c" * 64
CONTRACT = make_contract(FINGERPRINT)
KEYS = {name: key(name) for name in SITES}
LEDGER = SmallLedger(FINGERPRINT, KEYS)
RUN_ID = "ab" * 16
RESULT = {"n": 212, "mean": 61.5, "none": None}
ANSWER = LEDGER.result(RUN_ID, RESULT)
INVENTED = {f"Invented {number}": SigningKey.from_seed(bytes([number]) * 32) for number in range(9)}


def verify(answer: dict[str, Any], ledger_key: str | None = None) -> Receipt:
    return verify_result(
        answer, run_id=RUN_ID, contract=CONTRACT, ledger_key=ledger_key or LEDGER.verifier
    )


def test_a_result_that_was_witnessed_is_given() -> None:
    receipt = verify(ANSWER)
    assert receipt.index == 1
    assert set(receipt.members) == set(SITES)


Change = Callable[[dict[str, Any]], Any]
CHANGES: dict[str, tuple[Change, str]] = {
    "no receipt": (lambda a: a.pop("receipt"), "not-final"),
    "another result": (lambda a: a["result"].update(n=213), "bad-digest"),
    "another nonce": (lambda a: a.update(nonce="00" * 32), "bad-digest"),
    "no nonce": (lambda a: a.pop("nonce"), "bad-digest"),
    "a nonce that is not hex": (lambda a: a.update(nonce="xyz"), "bad-proof"),
    "another place": (lambda a: a["receipt"].update(index=2), "bad-proof"),
    "a place beyond the end": (lambda a: a["receipt"].update(index=3), "bad-proof"),
    "a shorter proof": (lambda a: a["receipt"]["proof"].pop(), "bad-proof"),
    "a proof that is not hex": (lambda a: a["receipt"].update(proof=["x"]), "bad-proof"),
    "another entry": (
        lambda a: a["receipt"].update(entry=a["receipt"]["entry"].replace("Z", "Y")),
        "bad-proof",
    ),
    "fewer members": (lambda a: a["receipt"]["members"].pop("Gamma"), "not-final"),
    "members of its own": (
        lambda a: a["receipt"].update(members={n: k.public for n, k in INVENTED.items()}),
        "not-final",
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_hub_that_changes_its_answer_is_found(what: str) -> None:
    change, code = CHANGES[what]
    answer = copy.deepcopy(ANSWER)
    change(answer)
    with pytest.raises(VerificationError) as caught:
        verify(answer)
    assert caught.value.code == code


def test_a_receipt_of_another_run_does_not_count() -> None:
    other = LEDGER.result("cd" * 16, RESULT)
    with pytest.raises(VerificationError) as caught:
        verify(other)
    assert caught.value.code == "bad-proof"
    failed = LEDGER.result(RUN_ID, RESULT, status="failed")
    with pytest.raises(VerificationError):
        verify(failed)
    policy = PolicyChanged(member="Alpha", policy="sha256:" + "0" * 64)
    with pytest.raises(VerificationError):
        verify({**ANSWER, "receipt": LEDGER.receipt(policy)})


@pytest.mark.parametrize(
    "ledger",
    [
        SmallLedger(FINGERPRINT, KEYS, signing=SITES[:2]),
        SmallLedger(FINGERPRINT, KEYS, signing=()),
        # All its members have cosigned, but the hub made most of them up.
        SmallLedger(FINGERPRINT, KEYS | INVENTED, signing=[*INVENTED, *SITES[:2]]),
        SmallLedger(FINGERPRINT, INVENTED),
    ],
)
def test_too_few_witnesses_are_not_enough(ledger: SmallLedger) -> None:
    with pytest.raises(VerificationError) as caught:
        verify(ledger.result(RUN_ID, RESULT))
    assert caught.value.code == "not-final"


def test_the_log_of_another_consortium_or_key_does_not_count() -> None:
    other = SmallLedger("sha256:" + "d" * 64, KEYS)
    with pytest.raises(VerificationError) as caught:
        verify(other.result(RUN_ID, RESULT), other.verifier)
    assert caught.value.code == "bad-checkpoint"
    forged = SmallLedger(FINGERPRINT, KEYS, log=key("forger"))
    with pytest.raises(VerificationError) as caught:
        verify(forged.result(RUN_ID, RESULT))
    assert caught.value.code == "bad-checkpoint"
    with pytest.raises(VerificationError):
        verify_result(ANSWER, run_id=RUN_ID, contract=CONTRACT, ledger_key=None)


@pytest.mark.parametrize(
    "receipt",
    [{}, {"index": "x"}, {**ANSWER["receipt"], "more": 1}, {**ANSWER["receipt"], "entry": "{"}],
)
def test_a_malformed_receipt_is_our_own_error(receipt: dict[str, Any]) -> None:
    with pytest.raises((ProtocolError, VerificationError)):
        verify({**ANSWER, "receipt": receipt})
