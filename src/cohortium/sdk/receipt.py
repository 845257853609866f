"""Whether a result is the one that the consortium's members witnessed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cohortium.contract.model import Contract
from cohortium.core.canonical import canonical
from cohortium.core.rest import Receipt
from cohortium.errors import InputError, ProtocolError, VerificationError
from cohortium.ledger.checkpoint import origin
from cohortium.ledger.entry import Entry, RunEnded, commitment, parse_entry
from cohortium.ledger.members import require_final
from cohortium.ledger.merkle import leaf_hash, verify_inclusion
from cohortium.ledger.note import parse_verifier_key


def verify_result(
    data: Mapping[str, Any], *, run_id: str, contract: Contract, ledger_key: str | None
) -> Receipt:
    """Check the hub's answer with a result before anybody sees the result.

    Args:
        data: A `RunResult` as JSON values.
        contract: What the run was submitted under; its participants must have witnessed.
        ledger_key: The verifier key of the ledger, as the hub names it.

    Raises:
        VerificationError: ``not-final``, ``bad-proof``, ``bad-checkpoint``; ``bad-digest`` where
            the result is not the one that was witnessed.
        ProtocolError: ``malformed-message``.
    """
    # 1. The key is of this consortium's log. 2. The checkpoint is final, for members and
    # participants. 3. It covers the entry. 4. The entry is about the end of this run. 5. The result
    # is the one that the entry commits to.
    if not isinstance(data.get("receipt"), dict) or ledger_key is None:
        raise VerificationError(
            "not-final", f"The hub has no receipt of the ledger for run {run_id[:8]}."
        )
    receipt = Receipt.from_json(data["receipt"])
    key = parse_verifier_key(ledger_key)
    if key.name != origin(contract.consortium):  # 1
        raise VerificationError("bad-checkpoint", "The hub's ledger is of another consortium.")
    participants = {site.name: site.key for site in contract.participants}
    checkpoint = require_final(receipt.checkpoint.encode(), key, receipt.members, participants)  # 2
    entry = receipt.entry.encode()
    proof = [_bytes(node) for node in receipt.proof]
    verify_inclusion(receipt.index, checkpoint.size, leaf_hash(entry), proof, checkpoint.root)  # 3
    ended = _ended(parse_entry(entry), run_id)  # 4
    try:
        result = canonical(data["result"])
    except (InputError, KeyError) as error:
        raise ProtocolError("malformed-message", "The hub's answer holds no result.") from error
    if commitment(_bytes(data.get("nonce")), result) != ended.result:  # 5
        raise VerificationError(
            "bad-digest",
            f"The result of run {run_id[:8]} is not the one that was witnessed: do not use it, and "
            "tell the sites and the hub's operator.",
        )
    return receipt


def _ended(entry: Entry, run_id: str) -> RunEnded:
    fact = entry.fact
    if not isinstance(fact, RunEnded) or fact.run_id != run_id or fact.status != "succeeded":
        raise VerificationError(
            "bad-proof", f"The hub's receipt is not about the end of run {run_id[:8]}."
        )
    return fact


def _bytes(text: object) -> bytes:
    try:
        return bytes.fromhex(text) if isinstance(text, str) else b""
    except ValueError as error:
        raise VerificationError("bad-proof", "The hub's receipt is not in hex digits.") from error
