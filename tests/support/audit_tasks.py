"""A study of tasks with real keys: who lends, the machine that they lend to, and what it signs."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

from tests.support.audit import Story, key, make_contract

from cohortium.contract.model import Contract, RunRequest, Seat
from cohortium.contract.task import Task, code_digest
from cohortium.core.canonical import canonical, digest, digest_bytes
from cohortium.enclave.attestation import ear
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.simulated import SimulatedEvidence
from cohortium.enclave.attestation.verdict import Verdict
from cohortium.enclave.exchange import Made, Offer, Release, TaskOutcome
from cohortium.errors import CohortiumError, VerificationError
from cohortium.ledger.entry import (
    EnclaveChanged,
    KeyReleased,
    RunDecided,
    RunEnded,
    SiteDecision,
    commitment,
)
from cohortium.vault.keys import PrivateKey

Json = dict[str, Any]
ALIKE: Callable[[Any], Any] = lambda document: document  # noqa: E731
LENDERS = {"images": "Aarhus", "labels": "Boston"}
CODE = code_digest({"task.yaml": b"command: [x]"})
MEASURED = CODE.removeprefix("sha256:")
SESSION = "5e" * 64


@cache
def vault(name: str) -> PrivateKey:
    """A key that data keys are sealed for."""
    return PrivateKey(bytes.fromhex(digest(["vault", name]).removeprefix("sha256:")))


def content(slot: str) -> str:
    """The digest of what is lent."""
    return digest(["lent", slot])


def train(**changes: Any) -> Task:
    """Aarhus lends images and Boston labels; the model and the log are Ada's."""
    values: Json = {
        "name": "train",
        "code": {"name": "unet", "content_digest": CODE, "owner": "Ada"},
        "arguments": [{"name": "epochs"}],
        "inputs": [
            {
                "name": slot,
                "kind": "dataset",
                "owners": [site],
                "artefact": {"name": slot, "content_digest": content(slot), "owners": [site]},
            }
            for slot, site in LENDERS.items()
        ],
        "outputs": [{"name": "model", "owners": ["Ada"], "recipients": ["Ada"]}],
        "log_recipients": ["Ada"],
        "max_runs": 2,
    }
    return Task.model_validate(values | changes)


def lending(story: Story, task: Task | None = None, **changes: Any) -> Contract:
    """A contract of the task alone, in Kiel's machine."""
    terms: Json = {
        "computations": (),
        "variables": (),
        "participants": tuple(
            Seat(name=site, key=key(site).public) for site in ("Aarhus", "Boston", "Cairo")
        ),
        "tasks": (task or train(),),
        "security_level": "L2",
        "environment": {"enclaves": [{"name": "Kiel", "key": key("Kiel").public}]},
        "created_at": story.now,
    }
    return make_contract(**(terms | changes))


class TaskStory(Story):
    """`Story`, with machines and runs of tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.evidence: dict[str, str] = {}
        self.outcomes: dict[str, str] = {}

    def begin(self, contract: Contract | None = None, machine: str | None = "approved") -> Contract:
        """The consortium, Kiel's machine and a contract that all have signed."""
        self.found()
        if machine is not None:
            self.enclave(status=machine)
        made = contract or lending(self)
        self.propose(made)
        self.sign(made, [name for name in made.signatories if name != "Ada"])
        return made

    def enclave(self, name: str = "Kiel", status: Any = "approved", by: str | None = None) -> int:
        """A machine's standing."""
        return self.note(EnclaveChanged(name=name, key=key(by or name).public, status=status))

    def ask(self, contract: Contract, number: int = 1, **changes: Any) -> RunRequest:
        """Ada's order, accepted by the hub."""
        request = self.order(contract, number, "task.train", {"epochs": 3}, **changes)
        self.submit(request)
        return request

    def said(self, envelope: bytes) -> bytes:
        """What becomes of a signed document of a task; for those who spoil it."""
        return envelope

    def offer(
        self,
        request: RunRequest,
        machine: str = "Kiel",
        change: Callable[[Offer], Offer] = ALIKE,
        by: str | None = None,
    ) -> bytes:
        """What a machine says in a session."""
        made = Offer(
            run_id=request.run_id,
            request_digest=request.digest,
            contract_digest=request.contract_digest,
            task="train",
            code=CODE,
            enclave=machine,
            executor="landlock",
            level="L2",
            recipient=vault("run").public.to_text(),
            session=SESSION,
            at=self.now,
        )
        return change(made).sign(key(by or machine))

    def release(
        self,
        request: RunRequest,
        site: str,
        offer: bytes,
        change: Callable[[Release], Release] = ALIKE,
        by: str | None = None,
    ) -> bytes:
        """What a lender signs."""
        slots = [slot for slot, owner in LENDERS.items() if owner == site] or ["images"]
        made = Release(
            run_id=request.run_id,
            request_digest=request.digest,
            contract_digest=request.contract_digest,
            task="train",
            site=site,
            artefacts={slot: content(slot) for slot in slots},
            enclave="Kiel",
            recipient=f"sha256:{vault('run').public.key_id.hex()}",
            offer=self.keep(offer),
            at=self.now,
        )
        return change(made).sign(key(by or site))

    def lend(
        self,
        request: RunRequest,
        site: str,
        *,
        before: Json | None = None,
        noted: Callable[[KeyReleased], KeyReleased] | None = ALIKE,
        released: Json | None = None,
        **offered: Any,
    ) -> Json:
        """A lender releases its keys; all decisions so far.

        Args:
            noted: What the ledger says of it; nothing where it is None.
        """
        self.tick(seconds=5)
        offer = self.said(self.offer(request, **offered))
        envelope = self.said(self.release(request, site, offer, **(released or {})))
        recipient = f"sha256:{vault('run').public.key_id.hex()}"
        with suppress(CohortiumError):
            recipient = Release.open(envelope)[0].recipient
        statement = self.keep(envelope)
        sites = (before or {}) | {site: SiteDecision(decision="accepted", statement=statement)}
        self.note(RunDecided(run_id=request.run_id, sites=sites))
        if noted is not None:
            fact = KeyReleased(
                run_id=request.run_id,
                holder=site,
                recipient=recipient,
                evidence=statement,
            )
            self.note(noted(fact))
        return sites

    def finish(
        self,
        request: RunRequest,
        sites: Json,
        change: Callable[[TaskOutcome], TaskOutcome] = ALIKE,
        by: str = "Kiel",
    ) -> int:
        """The task succeeds."""
        self.tick(seconds=30)
        made = TaskOutcome(
            run_id=request.run_id,
            study=request.study,
            request_digest=request.digest,
            contract_digest=request.contract_digest,
            task="train",
            enclave="Kiel",
            enclave_key=key("Kiel").public,
            executor="landlock",
            level="L2",
            end="succeeded",
            seconds=12.5,
            outputs=tuple(
                Made(slot=slot, size_bytes=4096, content_digest=digest(["made", slot]))
                for slot in ("model", "log")
            ),
            releases={site: one.statement for site, one in sites.items() if one.statement},
            at=self.now,
        )
        envelope = self.said(change(made).sign(key(by)))
        self.outcomes[request.run_id] = self.keep(envelope)
        outcome = json.loads(base64.b64decode(json.loads(envelope)["payload"]))
        result = {"outcome": outcome, "envelope": base64.b64encode(envelope).decode()}
        nonce = bytes.fromhex(digest(["nonce", request.run_id]).removeprefix("sha256:"))
        self.results[request.run_id] = (nonce, result)
        place = self.note(
            RunEnded(
                run_id=request.run_id,
                status="succeeded",
                result=commitment(nonce, canonical(result)),
            )
        )
        self.receipts[request.run_id] = place + 1
        return place

    def trained(self, contract: Contract, number: int = 1) -> RunRequest:
        """A whole run."""
        request = self.ask(contract, number)
        sites: Json = {}
        for site in LENDERS.values():
            sites = self.lend(request, site, before=sites)
        self.finish(request, sites)
        return request

    def seal(self, *args: Any, **options: Any) -> Json:
        """`Story.seal`, with what stands behind the lenders' releases."""
        made = super().seal(*args, **options)
        logged = [fact for _, fact in self.log[: options.get("size") or len(self.log)]]
        named = [fact.evidence for fact in logged if isinstance(fact, KeyReleased)]
        named += [
            one.statement
            for fact in logged
            if isinstance(fact, RunDecided)
            for one in fact.sites.values()
            if one.statement is not None
        ]
        for digest_of in named:
            try:
                release, _ = Release.open(self.statements[digest_of].encode())
            except CohortiumError:
                continue
            named.append(release.offer)
            if release.evidence in self.evidence:
                made["evidence"][release.evidence] = self.evidence[release.evidence]
        for receipt in made["releases"]:
            receipt["outcome"] = self.outcomes[receipt["run_id"]]
            named.append(receipt["outcome"])
        made["statements"] |= {one: self.statements[one] for one in named}
        return made

    # Evidence

    def proven(
        self,
        site: str,
        change: Callable[[Json], Json] = ALIKE,
        verdict: Callable[[Verdict], Verdict | VerificationError] = ALIKE,
        by: str | None = None,
        quote: bytes | None = None,
        **claims: Any,
    ) -> Callable[[Release], Release]:
        """Adds evidence, and the lender's result of appraising it, to a release.

        Args:
            change: Of what a simulated machine says.
            quote: Of SGX, in place of that.
        """
        said = change({"measurement": MEASURED, "report_data": SESSION})
        shown = Record.evidence("simulated", SimulatedEvidence.model_validate(said).to_bytes())
        if quote is not None:
            shown = Record.evidence("sgx", quote)
        record = shown.to_cbor()
        self.evidence[digest_bytes(record)] = base64.b64encode(record).decode()
        found = Verdict(
            kind=shown.kind,
            measurements={"simulated": said["measurement"]} if quote is None else {},
            report_data=said["report_data"],
            signed_digest=digest_bytes(shown.value),
            policy_digest=digest("policy"),
            checked_at=self.now,
        )
        options: Json = {
            "evidence": record,
            "policy_digest": digest("policy"),
            "nonce": b"n" * 32,
            "developer": site,
            "now": self.now,
        }
        token = ear.issue(key(by or site).private, verdict(found), **(options | claims))
        return lambda release: release.model_copy(
            update={"evidence": digest_bytes(record), "attestation_result": token}
        )


def simulated_terms(**changes: Any) -> Json:
    """Terms of a contract at L4 in which a simulated machine may stand in for a real one."""
    return {
        "security_level": "L4",
        "environment": {
            "enclaves": [{"name": "Kiel", "key": key("Kiel").public}],
            "measurements": [{"kind": "simulated", "value": MEASURED}],
            "allow_simulated": True,
            **changes,
        },
    }


def run_at_l4(story: TaskStory, request: RunRequest, **proof: Any) -> None:
    """Both lend on simulated evidence, and the run succeeds."""
    sites: Json = {}
    for site in LENDERS.values():
        own = proof if site == "Aarhus" else {}
        sites = story.lend(
            request, site, before=sites, released={"change": story.proven(site, **own)}
        )
    story.finish(request, sites)
