"""Whether the enclave that signed an outcome is the one to which the lenders released their keys.

Where a contract names its enclaves, their signature says so. Where it does not (from L4 on,
evidence may come from any machine), the hub could sign an outcome of its own making with a key of
its own: so each lender's release, and the offer that it rests on, have to name that signer.
"""

from __future__ import annotations

from collections.abc import Callable

from cohortium.contract.model import Contract
from cohortium.contract.task import Task
from cohortium.core.canonical import digest_bytes
from cohortium.enclave.exchange import Offer, Release, TaskOutcome
from cohortium.errors import VerificationError

Document = Callable[[str], bytes]
"""A signed document by its digest, from whoever keeps them; what comes is checked."""


def require_lent_to(
    outcome: TaskOutcome, contract: Contract, task: Task, document: Document
) -> None:
    """Require that every lender released its keys to the signer of an outcome, for this run.

    Args:
        outcome: Signed by its `enclave_key`.

    Raises:
        VerificationError: ``unknown-signer``, ``bad-digest``, ``bad-signature``.
        ProtocolError: ``malformed-message``.
    """
    # 1. Somebody lent to it. 2. Each lender's release, by its key in the contract, 3. over this
    # run; 4. the offer that it names, 5. of this enclave, over this run.
    if not task.lenders:  # 1
        raise VerificationError(
            "unknown-signer", "Nobody lent to this task, so that nothing says whose outcome it is."
        )
    run = (outcome.run_id, outcome.request_digest, outcome.contract_digest, outcome.task)
    for lender in task.lenders:
        digest = outcome.releases.get(lender)
        if digest is None:
            raise VerificationError(
                "unknown-signer", f"The outcome names no release of {lender}, who lends to it."
            )
        envelope = _whole(document, digest)
        release, _ = Release.open(envelope, key=contract.parties[lender])  # 2
        about = (release.run_id, release.request_digest, release.contract_digest, release.task)
        if (*about, release.site) != (*run, lender):  # 3
            raise VerificationError("bad-digest", f"The release of {lender} is for another run.")
        offer, signer = Offer.open(_whole(document, release.offer))  # 4
        about = (offer.run_id, offer.request_digest, offer.contract_digest, offer.task)
        if about != run or (offer.enclave, signer) != (outcome.enclave, outcome.enclave_key):  # 5
            raise VerificationError(
                "unknown-signer", f"{lender} released its keys to another enclave than this one."
            )


def _whole(document: Document, digest: str) -> bytes:
    data = document(digest)
    if digest_bytes(data) != digest:
        raise VerificationError("bad-digest", "The hub gave another document than was asked for.")
    return data
