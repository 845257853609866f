"""An outcome counts where every lender released its keys to the one who signed it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from cohortium.contract.model import Contract, Environment, Measurement, Researcher, Seat
from cohortium.contract.task import Artefact, Code, InputSlot, OutputSlot, Task
from cohortium.core.canonical import digest_bytes
from cohortium.crypto.keys import SigningKey
from cohortium.enclave.exchange import Offer, Release, TaskOutcome
from cohortium.enclave.proven import require_lent_to
from cohortium.errors import VerificationError
from cohortium.vault.keys import PrivateKey

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
D = "sha256:" + "d" * 64
ALPHA, BETA, ADA, ENCLAVE, ROGUE = (SigningKey.from_seed(bytes([n]) * 32) for n in range(1, 6))
VAULT = PrivateKey(b"v" * 32)


def slot(name: str, owner: str) -> InputSlot:
    artefact = Artefact(name=name, content_digest=D, owners=(owner,))
    return InputSlot(name=name, kind="model", owners=(owner,), artefact=artefact)


TASK = Task(
    name="train",
    code=Code(name="x", content_digest=D, owner="Ada", public=True),
    inputs=(slot("left", "Alpha"), slot("right", "Beta")),
    outputs=(OutputSlot(name="model", owners=("Ada",), recipients=("Ada",)),),
)
CONTRACT = Contract(
    study="s",
    title="t",
    purpose="p",
    tasks=(TASK,),
    security_level="L4",
    environment=Environment(
        measurements=(Measurement(kind="mrenclave", value="ab" * 32),),
    ),
    expires_at="2027-01-01T00:00:00Z",
    consortium=D,
    participants=(Seat(name="Alpha", key=ALPHA.public), Seat(name="Beta", key=BETA.public)),
    min_sites=2,
    recipients=(Researcher(name="Ada", key=ADA.public),),
    proposed_by=Researcher(name="Ada", key=ADA.public),
    created_at=NOW,
)
RUN: dict[str, Any] = {
    "run_id": "ab" * 16,
    "request_digest": D,
    "contract_digest": CONTRACT.digest,
    "task": "train",
}


class Kept:
    """What a hub keeps of a run."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.releases: dict[str, str] = {}
        for name, key in (("Alpha", ALPHA), ("Beta", BETA)):
            self.lend(name, key)

    def keep(self, envelope: bytes) -> str:
        self.documents[digest_bytes(envelope)] = envelope
        return digest_bytes(envelope)

    def lend(self, name: str, key: SigningKey, to: SigningKey = ENCLAVE, **changes: Any) -> None:
        offer = Offer(
            **{**RUN, **changes},
            code=D,
            enclave="Enclave",
            executor="tdx",
            level="L4",
            recipient=VAULT.public.to_text(),
            session="00" * 64,
            at=NOW,
        ).sign(to)
        release = Release(
            **{**RUN, **changes},
            site=name,
            artefacts={"left": D},
            enclave="Enclave",
            recipient=f"sha256:{VAULT.public.key_id.hex()}",
            offer=self.keep(offer),
            at=NOW,
        ).sign(key)
        self.releases[name] = self.keep(release)

    def outcome(self, signer: SigningKey = ENCLAVE) -> TaskOutcome:
        return TaskOutcome(
            **RUN,
            study="s",
            enclave="Enclave",
            enclave_key=signer.public,
            executor="tdx",
            level="L4",
            end="succeeded",
            releases=self.releases,
            at=NOW,
        )

    def document(self, digest: str) -> bytes:
        return self.documents[digest]


def test_an_outcome_of_the_enclave_that_got_the_keys_counts() -> None:
    kept = Kept()
    require_lent_to(kept.outcome(), CONTRACT, TASK, kept.document)


def signed_by_the_hub(kept: Kept) -> TaskOutcome:
    return kept.outcome(ROGUE)


def one_lent_to_another(kept: Kept) -> TaskOutcome:
    kept.lend("Beta", BETA, to=ROGUE)
    return kept.outcome()


def one_did_not_lend(kept: Kept) -> TaskOutcome:
    del kept.releases["Beta"]
    return kept.outcome()


def another_signs_for_a_lender(kept: Kept) -> TaskOutcome:
    kept.lend("Beta", ROGUE)
    return kept.outcome()


def release_of_another_run(kept: Kept) -> TaskOutcome:
    kept.lend("Beta", BETA, run_id="cd" * 16)
    return kept.outcome()


def release_of_another_lender(kept: Kept) -> TaskOutcome:
    kept.releases["Beta"] = kept.releases["Alpha"]
    return kept.outcome()


def another_document(kept: Kept) -> TaskOutcome:
    kept.documents[kept.releases["Beta"]] = kept.documents[kept.releases["Alpha"]]
    return kept.outcome()


@pytest.mark.parametrize(
    "lie",
    [
        signed_by_the_hub,
        one_lent_to_another,
        one_did_not_lend,
        another_signs_for_a_lender,
        release_of_another_run,
        release_of_another_lender,
        another_document,
    ],
)
def test_an_outcome_that_no_lender_stands_behind_is_refused(
    lie: Callable[[Kept], TaskOutcome],
) -> None:
    kept = Kept()
    outcome = lie(kept)
    with pytest.raises(VerificationError) as caught:
        require_lent_to(outcome, CONTRACT, TASK, kept.document)
    assert caught.value.code in {"unknown-signer", "bad-digest"}


def test_a_task_to_which_nobody_lends_has_nobody_to_say_whose_outcome_it_is() -> None:
    alone = TASK.model_copy(update={"inputs": ()})
    with pytest.raises(VerificationError):
        require_lent_to(Kept().outcome(), CONTRACT, alone, Kept().document)
