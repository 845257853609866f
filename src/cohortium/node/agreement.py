"""The contracts that this node signed: which are active, and whose keys count in them.

The hub's word that a contract is active does not count, nor its word on whose key is whose: the
node verifies every participant's signature itself, and it knows the other institutions by the keys
in the first contract that its steward signed with them.
"""

from __future__ import annotations

from functools import lru_cache

from cohortium.contract import lifecycle
from cohortium.contract.model import Contract, Participant, RunRequest, Seat
from cohortium.contract.signatures import check_signatures
from cohortium.core.clock import Clock
from cohortium.errors import IntegrityFailure, PolicyRefusal, VerificationError
from cohortium.node import statements
from cohortium.node.identity import Identity
from cohortium.node.life import ENDED, how_ended, version_of
from cohortium.node.store import NodeStore, StoredContract


@lru_cache(maxsize=64)
def open_request(envelope: bytes) -> tuple[RunRequest, str]:
    """`RunRequest.open`; a run's request is looked at several times."""
    return RunRequest.open(envelope)


class Agreements:
    """The contracts in force in a node's store."""

    def __init__(self, identity: Identity, store: NodeStore, clock: Clock) -> None:
        self._identity = identity
        self._store = store
        self._clock = clock
        self._contracts: dict[str, Contract] = {}

    def active_contract(self, digest: str, computation: str) -> Contract:
        """The contract under which this site takes part in a computation at this moment.

        Raises:
            PolicyRefusal: ``contract-unknown``, ``contract-not-active``, ``contract-suspended``,
                ``contract-ended`` or ``contract-expired``.
            VerificationError: ``key-mismatch``.
        """
        # 1. In force here. 2. Not ended, expired, or suspended for this.
        contract, stored = self._agreed(digest)  # 1
        lifecycle.permits(version_of(stored, contract, ()), computation, self._clock())  # 2
        return contract

    def require_agreed(self, digest: str) -> None:
        """Require a contract that this node signed and whose every signature it verified itself.

        Raises:
            PolicyRefusal: ``contract-unknown``, ``contract-not-active``.
            VerificationError: ``key-mismatch``.
        """
        self._agreed(digest)

    def _agreed(self, digest: str) -> tuple[Contract, StoredContract]:
        # 1. Known, and this site said yes. 2. Complete. 3. The signatures in our own store hold
        # (once for each process). 4. We are in it as ourselves. 5. The others are whom we know.
        stored = self._store.contract(digest)
        if stored is None or stored.state in {"proposed", "refused"}:  # 1
            raise PolicyRefusal(
                "contract-unknown", "This site has not signed a contract with that digest."
            )
        if stored.state in ENDED:
            raise PolicyRefusal("contract-ended", how_ended(stored))
        if stored.state == "signed":  # 2
            raise PolicyRefusal(
                "contract-not-active", "This site has not seen the signatures of all participants."
            )
        contract = self._contracts.get(digest)
        if contract is None:  # 3
            contract = Contract.from_bytes(stored.body)
            if contract.digest != digest:
                raise IntegrityFailure("broken-store", "A stored contract was altered.")
            check_signatures(contract, statements.signatures(self._store, digest).values())
            self._contracts[digest] = contract
        own_seat(contract, self._identity)  # 4
        require_known_peers(contract, self._identity.name, self._store.peers())  # 5
        return contract, stored


def own_seat(contract: Contract, identity: Identity) -> Participant | Seat:
    """The node's own entry in a contract: its name with its own key, in its own consortium.

    Raises:
        VerificationError: ``key-mismatch`` or ``bad-digest``.
        PolicyRefusal: ``not-permitted`` where the site is not in it.
    """
    if contract.consortium != identity.consortium:
        raise VerificationError("bad-digest", "The contract belongs to another consortium.")
    participant = contract.participant(identity.name)
    if participant is None:
        raise PolicyRefusal("not-permitted", f"{identity.name} is not a participant.")
    if participant.key != identity.key.public:
        raise VerificationError(
            "key-mismatch", f"The contract names another key for {identity.name} than ours."
        )
    return participant


def own_participant(contract: Contract, identity: Identity) -> Participant:
    """`own_seat`, of a site that gives a dataset.

    Raises:
        VerificationError: As `own_seat`.
        PolicyRefusal: ``not-permitted`` where the site is not in it, or gives no dataset.
    """
    own = own_seat(contract, identity)
    if not isinstance(own, Participant):
        raise PolicyRefusal("not-permitted", f"{identity.name} gives no dataset in this contract.")
    return own


def require_known_peers(contract: Contract, own_name: str, peers: dict[str, str]) -> None:
    """Refuse a contract in which a known institution has another key than we know.

    Raises:
        VerificationError: ``key-mismatch``, naming the institutions.
    """
    others = [p for p in contract.participants if p.name != own_name]
    changed = sorted(p.name for p in others if peers.get(p.name, p.key) != p.key)
    if changed:
        raise VerificationError(
            "key-mismatch",
            f"The contract names a new key for {', '.join(changed)}. Compare the fingerprint by "
            "telephone, then: cohortium node peers accept NAME FINGERPRINT",
            institutions=changed,
        )
