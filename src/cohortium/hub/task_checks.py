"""What the hub checks of the documents of a task's run before it keeps them; no I/O.

Nobody has to rely on it: nodes, researchers and auditors check the same again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cohortium.contract.model import Contract, Enclave, Environment, RunRequest
from cohortium.contract.task import LOG_SLOT, Task
from cohortium.core.canonical import digest_bytes
from cohortium.enclave.exchange import Offer, Release, TaskOutcome
from cohortium.errors import ProtocolError, VerificationError
from cohortium.vault.keys import PublicKey


@dataclass(frozen=True)
class Ordered:
    """A run of a task, and whose it is.

    Attributes:
        enclave_key: The key with which the enclave signs.
    """

    contract: Contract
    request: RunRequest
    task: Task
    enclave: str
    enclave_key: str

    @property
    def bound(self) -> tuple[str, str, str, str, str]:
        """What every document of it says."""
        request = self.request
        return (
            request.run_id,
            request.digest,
            request.contract_digest,
            self.task.name,
            self.enclave,
        )


def _bound(document: Offer | Release | TaskOutcome) -> tuple[str, str, str, str, str]:
    return (
        document.run_id,
        document.request_digest,
        document.contract_digest,
        document.task,
        document.enclave,
    )


def accepts(contract: Contract, enclave: Enclave, task: Task) -> bool:
    """Whether a task of the contract may run there: on any from L4 on, where none is named."""
    named = (contract.environment or Environment()).enclaves
    if not named:
        return contract.level_of(task) >= "L4"
    return any((one.name, one.key) == (enclave.name, enclave.key) for one in named)


def check_release(
    ordered: Ordered, site: str, release: bytes, offer: bytes, evidence: bytes
) -> Release:
    """A lender's release, and the offer and the evidence that it names.

    Raises:
        VerificationError: ``unknown-signer``, ``bad-signature``, ``bad-digest``.
        ProtocolError: ``wrong-round`` where it is another run's; ``malformed-message``.
    """
    # 1. The lender signed it, 2. for this run and this enclave, 3. about all that it lends, as the
    # contract binds it; 4. on the offer that is here, and 5. the evidence; 6. the enclave signed
    # that offer, for this program and that key, where the contract wants it to run.
    said, _ = Release.open(release, key=ordered.contract.parties.get(site, ""))  # 1
    if _bound(said) != ordered.bound or said.site != site:  # 2
        raise ProtocolError("wrong-round", f"The release of {site} is for another run.", site=site)
    lent = {
        slot.name: slot.artefact.content_digest
        for slot in ordered.task.inputs
        if slot.artefact is not None and site in slot.owners
    }
    if said.artefacts != lent:  # 3
        raise VerificationError("bad-digest", f"{site} releases other artefacts than it lends.")
    if said.offer != digest_bytes(offer):  # 4
        raise VerificationError("bad-digest", f"The release of {site} is for another offer.")
    if said.evidence != (digest_bytes(evidence) if evidence else None):  # 5
        raise VerificationError("bad-digest", f"The release of {site} is on other evidence.")
    offered, _ = Offer.open(offer, key=ordered.enclave_key)  # 6
    if _bound(offered) != ordered.bound:
        raise ProtocolError("wrong-round", "The enclave's offer is for another run.")
    if offered.code != ordered.task.code.content_digest:
        raise VerificationError("bad-digest", "The enclave's offer is for another program.")
    if said.recipient != f"sha256:{PublicKey.from_text(offered.recipient).key_id.hex()}":
        raise VerificationError("bad-digest", f"{site} released to another key than was offered.")
    _require_place(ordered, offered.executor, offered.level)
    return said


def require_same(site: str, release: Release, earlier: Mapping[str, Release]) -> None:
    """A run's keys go to one key, and each lender says so once.

    Args:
        earlier: Of this run, by lender.

    Raises:
        VerificationError: ``bad-digest``.
    """
    if any(one.recipient != release.recipient for one in earlier.values()):
        raise VerificationError(
            "bad-digest", f"{site} released to another key than the run's other lenders."
        )
    if site in earlier and earlier[site] != release:
        raise VerificationError("bad-digest", f"{site} has released its keys to this run before.")


def check_outcome(ordered: Ordered, envelope: bytes, releases: Mapping[str, str]) -> TaskOutcome:
    """An enclave's outcome; whether the outputs are here is not looked at.

    Args:
        releases: Digests of the signed releases that are on the ledger, by lender.

    Raises:
        VerificationError: ``unknown-signer``, ``bad-signature``, ``bad-digest``,
            ``evidence-refused``.
        ProtocolError: ``wrong-round``, ``malformed-message``.
    """
    # 1. The enclave signed it, 2. for this run, 3. which was where the contract wants it. 4. It
    # names releases that are on the ledger; where it succeeded, all lenders'. 5. Outputs are the
    # task's.
    said, _ = TaskOutcome.open(envelope, key=ordered.enclave_key)  # 1
    if _bound(said) != ordered.bound or said.study != ordered.request.study:  # 2
        raise ProtocolError("wrong-round", "The enclave's outcome is of another run.")
    if said.enclave_key != ordered.enclave_key:
        raise VerificationError("unknown-signer", "The outcome names another key than its signer.")
    _require_place(ordered, said.executor, said.level)  # 3
    if not said.releases.items() <= releases.items():  # 4
        raise VerificationError(
            "bad-digest", "The outcome names releases that are not on the ledger."
        )
    missing = sorted(set(ordered.task.lenders) - said.releases.keys())
    if said.end == "succeeded" and missing:
        raise VerificationError(
            "bad-digest", f"It succeeded, and {', '.join(missing)} had released no key."
        )
    _check_outputs(ordered, said)  # 5
    return said


def _check_outputs(ordered: Ordered, said: TaskOutcome) -> None:
    slots = [made.slot for made in said.outputs]
    known = {LOG_SLOT} if ordered.task.log_recipients else set()
    if said.end == "succeeded":
        known |= {slot.name for slot in ordered.task.outputs}
    if len(set(slots)) != len(slots) or not set(slots) <= known:
        raise VerificationError(
            "bad-digest", "The outcome has outputs that the contract's task does not give."
        )


def _require_place(ordered: Ordered, executor: str, level: str) -> None:
    """Whether a simulated machine may stand in, its evidence shows, which lenders judge."""
    place = ordered.contract.environment or Environment()
    wanted = ordered.task.executor or place.executor
    if wanted not in {None, executor}:
        raise VerificationError(
            "evidence-refused", f"The contract asks for {wanted}, and it is {executor}."
        )
    least = ordered.contract.level_of(ordered.task)
    if level < least and not (place.allow_simulated and least >= "L3"):
        raise VerificationError(
            "evidence-refused", f"The enclave offers {level}; the contract asks for {least}."
        )
