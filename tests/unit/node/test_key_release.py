"""Keys leave a node for what its steward signed, once, and for nothing else."""

from __future__ import annotations

import dataclasses
import io
import threading
from base64 import b64decode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.builders import NOW, RUN_ID, Node, run_end
from tests.support.dcap import NOW as QUOTED
from tests.support.dcap import PPID, Intel, tdx_report
from tests.support.lending import (
    ENCLAVE,
    MEASURED,
    PROGRAM,
    AskingEnclave,
    LendingWorld,
    fetch,
    on_ledger,
    run_key,
    simulated,
    whole,
)
from tests.support.tpm import Tpm

from cohortium.contract.model import Contract, Enclave, Environment, Measurement
from cohortium.contract.task import Limits, code_digest
from cohortium.core.canonical import digest_bytes
from cohortium.crypto.keys import SigningKey
from cohortium.enclave.attestation import ear, tpm_events
from cohortium.enclave.attestation.appraise import Endorsements
from cohortium.enclave.attestation.cmw import Record
from cohortium.enclave.attestation.collateral import CollateralStore
from cohortium.enclave.attestation.reasons import Reason, reason_of
from cohortium.enclave.attestation.tpm import TpmEvidence
from cohortium.enclave.channel import Channel
from cohortium.enclave.exchange import Opening, Release
from cohortium.enclave.task_record import contract_record
from cohortium.errors import CohortiumError, VerificationError
from cohortium.ledger.entry import (
    EnclaveChanged,
    Entry,
    KeyReleased,
    MemberChanged,
    RunDecided,
    RunEnded,
    RunSubmitted,
    SiteDecision,
)
from cohortium.link._generated import link_pb2 as pb
from cohortium.node import consent, key_release, steward
from cohortium.node.own_entries import OwnEntries
from cohortium.node.policy import Policy
from cohortium.node.task_rules import TaskRules
from cohortium.node.uses import uses
from cohortium.vault.grants import Grants, parse_grants
from cohortium.vault.keys import Keyring
from cohortium.vault.reader import VaultReader
from cohortium.vault.storage import StreamSource

STRANGER = SigningKey.from_seed(b"\x77" * 32)
OTHER = "f" * 32


@pytest.fixture
def world(tmp_path: Path) -> LendingWorld:
    return LendingWorld(root=tmp_path)


def _asking(world: LendingWorld, contract: Contract, **changes: Any) -> AskingEnclave:
    order = world.order(contract, **changes.pop("order", {}))
    return AskingEnclave(world, contract, order, **changes)


def _refused(node: Node, asking: AskingEnclave, code: str) -> CohortiumError:
    """The node refuses with `code`, releases nothing, and its journal says so once."""
    before = len(node.decisions())
    with pytest.raises(CohortiumError) as caught:
        asking.ask(node)
    assert caught.value.code == code, caught.value.message
    written = node.decisions()[before:]
    assert [(one["what"], one["allowed"], one["code"]) for one in written] == [
        ("keys", False, code)
    ]
    return caught.value


def _reader(data: bytes, grants: Grants) -> VaultReader:
    """What the enclave's key of the run opens."""
    source = StreamSource(io.BytesIO(data))
    return VaultReader(source, Keyring([run_key()]), grants=lambda: grants)


def _released(node: Node) -> int:
    return int(node.store.execute("SELECT count(*) FROM task_releases")[0][0])


def test_an_enclave_that_the_contract_names_opens_what_was_lent(world: LendingWorld) -> None:
    contract = world.agreed(None, "Alpha", "Beta")
    node = world.nodes["Alpha"]
    asked = _asking(world, contract).ask(node)
    handed = asked.keys.inputs["images"]
    assert handed.files.digest == contract.tasks[0].inputs[0].artefact.content_digest  # type: ignore[union-attr]
    assert set(asked.keys.inputs) == {"images"}
    opened = {}
    for one in handed.files.files:
        data = whole(node, RUN_ID, "images", one.path)
        assert digest_bytes(data) == one.content_digest
        grants = parse_grants(b64decode(handed.grants[one.path]))
        reader = _reader(data, grants)
        opened[one.path] = reader.read()
        assert reader.header.writer_key == handed.writer
    assert opened == {"one.png": b"one" * 1000, "deep/two.png": b"two" * 1000}
    assert set(_asking(world, contract).ask(world.nodes["Beta"]).keys.inputs) == {"start"}


def test_a_release_says_what_it_relies_on_and_the_ledger_may_tell_of_it(
    world: LendingWorld,
) -> None:
    contract = world.agreed()
    node, order = world.nodes["Alpha"], world.order(contract)
    asked = _asking(world, contract).ask(node)
    envelope = b64decode(asked.keys.release)
    assert envelope == asked.last.release
    release, signer = Release.open(envelope)
    assert signer == world.keys["Alpha"].public
    assert (release.run_id, release.request_digest) == (RUN_ID, order.digest)
    assert release.artefacts == {"images": world.artefact("Alpha", "pictures").content_digest}
    assert release.recipient == f"sha256:{run_key().public.key_id.hex()}"
    assert (release.offer, release.evidence) == (digest_bytes(asked.last.offer), None)
    assert asked.last.evidence == b""
    (entry,) = node.decisions(what="keys")
    assert {"enclave": ENCLAVE, "executor": "landlock", "allowed": True}.items() <= entry.items()
    (use,) = uses(node.store, 5)
    assert (use["computation"], use["enclave"], use["lent"]) == (
        "task.train",
        ENCLAVE,
        release.artefacts,
    )
    own = OwnEntries(node.service.identity, node.store)
    member = MemberChanged(name="Alpha", key=signer, status="approved")

    def false(fact: Any) -> str | None:
        return own.find_false([Entry(at=NOW, fact=member), Entry(at=NOW, fact=fact)])

    digest, recipient = digest_bytes(envelope), release.recipient
    told = KeyReleased(run_id=RUN_ID, holder="Alpha", recipient=recipient, evidence=digest)
    assert false(told) is None
    for change in ({"run_id": OTHER}, {"recipient": digest}, {"evidence": recipient}):
        assert "released no such data key" in (false(told.model_copy(update=change)) or "")
    accepted = SiteDecision(decision="accepted", statement=digest)
    assert false(RunDecided(run_id=RUN_ID, sites={"Alpha": accepted})) is None
    other = SiteDecision(decision="accepted", statement=recipient)
    assert false(RunDecided(run_id=RUN_ID, sites={"Alpha": other})) is not None
    assert false(RunDecided(run_id=OTHER, sites={"Alpha": accepted})) is not None
    order_told = RunSubmitted(
        run_id=OTHER,
        study=order.study,
        contract=order.contract_digest,
        computation=order.computation,
        researcher=order.researcher,
        request=digest,
    )
    ended = RunEnded(run_id=OTHER, status="succeeded")
    facts = [Entry(at=NOW, fact=one) for one in (member, order_told, ended)]
    assert "did not get what this site lends" in (own.find_false(facts) or "")
    failed = Entry(at=NOW, fact=RunEnded(run_id=OTHER, status="failed", code="no-enclave"))
    assert own.find_false([*facts[:2], failed]) is None
    done = [
        order_told.model_copy(update={"run_id": RUN_ID}),
        ended.model_copy(update={"run_id": RUN_ID}),
    ]
    assert own.find_false([facts[0], *(Entry(at=NOW, fact=one) for one in done)]) is None
    refused = SiteDecision(decision="refused", code="run-limit")
    assert false(RunDecided(run_id=RUN_ID, sites={"Alpha": refused})) is not None


def test_a_lost_answer_is_given_again_and_no_second_key_gets_anything(
    world: LendingWorld,
) -> None:
    contract = world.agreed()
    node = world.nodes["Alpha"]
    first = _asking(world, contract).ask(node)
    again = _asking(world, contract, session="b" * 32).ask(node)
    assert again.last.release == first.last.release
    assert again.last.offer == first.last.offer
    assert again.keys.inputs["images"].files == first.keys.inputs["images"].files
    second = _asking(world, contract, session="c" * 32, recipient=run_key(2))
    assert "another key" in _refused(node, second, "replayed").message
    assert _released(node) == len(node.decisions(what="keys", allowed=True)) == 1


def test_bytes_that_the_link_brings_twice_get_the_same_answer(world: LendingWorld) -> None:
    contract = world.agreed()
    node = world.nodes["Alpha"]
    asking = _asking(world, contract)
    tls = asking.asking()
    data, order = tls.begin(), asking.request.sign(world.researcher)
    while tls.keys is None:
        message = pb.TaskChannel(
            run_id=RUN_ID, site="Alpha", session="a" * 32, data=data, request_envelope=order
        )
        one, two = (node.ask(pb.Message(task_channel=message)).task_channel for _ in "12")
        assert one == two
        data = tls.answer(one.data)
    assert _released(node) == 1


def test_of_two_keys_that_are_asked_for_at_once_one_is_given(world: LendingWorld) -> None:
    contract = world.agreed(world.task_contract(world.task(max_runs=1)))
    node = world.nodes["Alpha"]
    ready = threading.Barrier(3, timeout=20)

    def together(_data: bytes) -> None:
        ready.wait()

    asking = [
        _asking(world, contract, recipient=run_key(1), session="1" * 32, evidence=together),
        _asking(world, contract, recipient=run_key(2), session="2" * 32, evidence=together),
        _asking(world, contract, order={"run_id": OTHER}, session="3" * 32, evidence=together),
    ]

    def ask(one: AskingEnclave) -> str:
        try:
            one.ask(node)
        except CohortiumError as error:
            return error.code
        return "given"

    with ThreadPoolExecutor(3) as pool:
        answers = sorted(pool.map(ask, asking))
    assert answers in (["given", "replayed", "run-limit"], ["given", "run-limit", "run-limit"])
    assert _released(node) == 1


def test_an_answer_that_is_too_long_to_keep_is_given_again_in_a_new_session(
    world: LendingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_release, "MOST_KEPT_BYTES", 4000)
    contract = world.agreed()
    node = world.nodes["Alpha"]
    asking = _asking(world, contract)
    first = asking.ask(node)
    assert asking.last is not None
    lost = asking.last[1]
    lost.request_envelope = b""
    with pytest.raises(CohortiumError) as caught:
        node.ask(pb.Message(task_channel=lost))
    assert caught.value.code == "link-lost"
    again = _asking(world, contract, session="b" * 32).ask(node)
    assert again.last.release == first.last.release


# What an enclave says of itself


@pytest.mark.parametrize(
    ("offers", "code"),
    [
        ({"run_id": OTHER}, "bad-digest"),
        ({"request_digest": "sha256:" + "0" * 64}, "bad-digest"),
        ({"contract_digest": "sha256:" + "0" * 64}, "bad-digest"),
        ({"task": "other"}, "bad-digest"),
        ({"code": code_digest({"main.py": b"steal()"})}, "bad-digest"),
        ({"enclave": "Enclave Two"}, "unknown-signer"),
        ({"level": "L1"}, "not-permitted"),
        ({"session": "0" * 128}, "evidence-refused"),
        ({"recipient": run_key(3).public.to_text()}, "bad-evidence"),
    ],
)
def test_an_offer_of_anything_else_gets_no_key(
    world: LendingWorld, offers: dict[str, Any], code: str
) -> None:
    contract = world.agreed()
    _refused(world.nodes["Alpha"], _asking(world, contract, offers=offers), code)
    assert _released(world.nodes["Alpha"]) == 0


def test_an_enclave_that_is_not_named_gets_no_key(world: LendingWorld) -> None:
    contract = world.agreed()
    node = world.nodes["Alpha"]
    _refused(node, _asking(world, contract, signer=STRANGER), "unknown-signer")


def test_an_enclave_that_was_removed_gets_no_key(world: LendingWorld) -> None:
    contract = world.agreed()
    node, own = world.nodes["Alpha"], world.enclave.public
    approved = EnclaveChanged(name=ENCLAVE, key=own, status="approved")
    on_ledger(node, approved, approved.model_copy(update={"status": "removed"}))
    _refused(node, _asking(world, contract), "not-authorised")


def test_the_executor_is_the_one_that_the_contract_names(world: LendingWorld) -> None:
    contract = world.agreed(world.task_contract(world.task(executor="gvisor")))
    node = world.nodes["Alpha"]
    _refused(node, _asking(world, contract), "not-permitted")
    _asking(world, contract, offers={"executor": "gvisor"}).ask(node)


def test_evidence_and_offer_of_one_session_count_in_no_other(world: LendingWorld) -> None:
    """A relay: what an honest enclave says to the hub's own session is passed on to the node."""
    contract = world.agreed(_proven(world, "L4"))
    honest = _asking(world, contract, evidence=simulated())
    relayed: list[bytes] = []

    def overheard(session: str) -> Any:
        relayed.append(bytes.fromhex(session))
        return AskingEnclave.offer(honest, "0" * 128)

    honest.offer = overheard  # type: ignore[method-assign]
    assert "another session" in _refused(world.nodes["Alpha"], honest, "evidence-refused").message
    assert relayed
    own = _asking(world, contract, evidence=lambda _data: simulated()(bytes(64)))
    error = _refused(world.nodes["Alpha"], own, "evidence-refused")
    assert isinstance(error, VerificationError)
    assert reason_of(error) is Reason.BINDING


# Evidence


def _proven(world: LendingWorld, level: str, **environment: Any) -> Contract:
    values: dict[str, Any] = {
        "measurements": (Measurement(kind="simulated", value=MEASURED),),
        "allow_simulated": True,
    }
    task = world.task(security_level=level, limits=Limits(time_s=60))
    return world.task_contract(task, environment=Environment(**(values | environment)))


def test_evidence_that_the_contract_accepts_is_kept_with_the_release(world: LendingWorld) -> None:
    contract = world.agreed(_proven(world, "L4"))
    node = world.nodes["Alpha"]
    asked = _asking(world, contract, evidence=simulated(), signer=STRANGER).ask(node)
    release, signer = Release.open(asked.last.release)
    assert release.evidence == digest_bytes(asked.last.evidence)
    assert Record.from_cbor(asked.last.evidence).kind == "simulated"
    key = world.keys["Alpha"]
    assert signer == key.public
    result = ear.verify(release.attestation_result or "", key.private.public_key(), now=NOW)
    assert result.status == "affirming"
    assert (result.developer, result.evidence_digest) == ("Alpha", release.evidence)
    assert result.verdict is not None
    assert result.verdict.measurements == {"simulated": MEASURED}
    (entry,) = node.decisions(what="keys")
    assert entry["attestation_result"] == release.attestation_result


@pytest.mark.parametrize(
    ("environment", "evidence", "reason"),
    [
        ({}, simulated("6" * 64), Reason.MEASUREMENT),
        ({}, lambda _data: None, Reason.WRONG_KIND),
        ({}, lambda _data: Record.evidence("tpm", b"x"), Reason.WRONG_KIND),
        ({}, lambda _data: Record("application/eat+jwt", b"x"), Reason.WRONG_KIND),
        ({"allow_simulated": False}, simulated(), Reason.SIMULATED),
        (
            {"measurements": (Measurement(kind="mrenclave", value="0" * 64),)},
            simulated(),
            Reason.NO_REFERENCE,
        ),
        ({}, lambda _data: Record.evidence("tdx", b"x" * 700), Reason.MALFORMED),
    ],
)
def test_evidence_of_anything_else_is_refused_and_the_refusal_is_signed(
    world: LendingWorld,
    environment: dict[str, Any],
    evidence: Callable[[bytes], Record | None],
    reason: Reason,
) -> None:
    contract = _proven(world, "L4", **environment)
    _agreed_unreviewed(world, contract)
    node = world.nodes["Alpha"]
    with pytest.raises(VerificationError) as caught:
        _asking(world, contract, evidence=evidence).ask(node)
    assert reason_of(caught.value) is reason
    (entry,) = node.decisions(what="keys")
    key = world.keys["Alpha"].private.public_key()
    result = ear.verify(str(entry["attestation_result"]), key, now=NOW)
    assert (result.status, result.reason) == ("contraindicated", reason)
    assert _released(node) == 0


def _agreed_unreviewed(world: LendingWorld, contract: Contract) -> None:
    """A steward whose node would have warned: the gate does not rely on the review."""
    from tests.support.builders import active

    from cohortium.node import statements

    node = world.lender("Alpha")
    world.propose(node, contract)
    with node.store.transaction():
        statements.keep(
            node.store,
            contract.sign(world.keys["Alpha"]),
            contract=contract.digest,
            action="sign",
            author="Alpha",
            key=world.keys["Alpha"].public,
        )
        node.store.set_contract_state(contract.digest, "signed")
    node.ask(active(contract.digest, world.signed(contract)))


def test_a_site_takes_no_simulated_enclave_where_its_policy_says_so(world: LendingWorld) -> None:
    contract = world.agreed(_proven(world, "L4"))
    node = world.nodes["Alpha"]
    node.policy[0] = Policy(tasks=TaskRules(simulated=False))
    _refused(node, _asking(world, contract, evidence=simulated()), "site-policy")


def test_a_measured_host_has_to_have_measured_this_task(world: LendingWorld) -> None:
    tpm = Tpm(key=ec.generate_private_key(ec.SECP256R1()))
    vectors = Path(__file__).parents[2] / "vectors/attestation"
    log = (vectors / "tpm_eventlog_rhel8.bin").read_bytes()
    booted = tpm_events.replay(tpm_events.parse(log))
    named = tuple(
        Measurement(kind=f"pcr{index}", value=value.hex())
        for index, value in sorted(booted.items())
        if index not in {tpm_events.TASK_PCR, 16, 23}
    )
    enclaves = (Enclave(name=ENCLAVE, key=world.enclave.public),)
    policy = Policy(tasks=TaskRules(platforms=(tpm.name.hex(),)))
    contract = world.agreed(
        _proven(world, "L3", measurements=named, enclaves=enclaves, allow_simulated=False),
        Alpha=policy,
    )
    inputs = {
        "images": world.artefact("Alpha", "pictures").content_digest or "",
        "start": world.artefact("Beta", "weights").content_digest or "",
    }
    code = code_digest(PROGRAM)

    def evidence(arguments: dict[str, Any]) -> Callable[[bytes], Record]:
        task = contract_record(code, arguments, inputs)
        pcrs = tpm_events.replay(tpm_events.parse(log), task)

        def attest(report_data: bytes) -> Record:
            quote = tpm.quote(pcrs, sha256(report_data).digest())
            made = TpmEvidence(quote, tpm.sign(quote), tpm.public, pcrs, log, task)
            return Record.evidence("tpm", made.to_cbor())

        return attest

    node = world.nodes["Alpha"]
    offers = {"level": "L3", "executor": "tpm"}
    other = _asking(world, contract, evidence=evidence({"epochs": 4, "rate": 0.1}), offers=offers)
    error = _refused(node, other, "evidence-refused")
    assert isinstance(error, VerificationError)
    assert reason_of(error) is Reason.EVENT
    good = evidence({"epochs": 3, "rate": 0.1})
    low = _asking(world, contract, evidence=good, offers={"level": "L2"}, session="c" * 32)
    _refused(node, low, "not-permitted")
    _asking(world, contract, evidence=good, offers=offers, session="d" * 32).ask(node)


def test_a_confidential_machine_proves_itself_in_the_session_that_gets_the_keys(
    world: LendingWorld,
) -> None:
    pytest.importorskip("dcap_qvl", reason="the extra `attestation` is not installed")
    intel = Intel("TDX")
    world.now = QUOTED
    named = (("mrtd", "33"), ("rtmr0", "40"), ("rtmr1", "41"), ("rtmr2", "42"))
    values = tuple(Measurement(kind=kind, value=byte * 48) for kind, byte in named)
    lending = world.lending["Alpha"]
    store = CollateralStore(lending.collateral)
    endorsements = Endorsements(store.find, intel_root=intel.root_der)
    world.lending["Alpha"] = dataclasses.replace(lending, endorsements=endorsements)
    contract = _proven(world, "L4", measurements=values, allow_simulated=False)
    contract = contract.model_copy(
        update={"created_at": QUOTED, "expires_at": QUOTED + timedelta(days=30)}
    )
    policy = Policy(tasks=TaskRules(platforms=(PPID,)))
    contract = world.agreed(contract, Alpha=policy)
    node = world.nodes["Alpha"]
    offers = {"level": "L4", "executor": "tdx"}

    def asking(session: str, **report: Any) -> AskingEnclave:
        def attest(report_data: bytes) -> Record:
            quote = intel.quote(tdx_report(**{"report_data": report_data, **report}))
            return Record.evidence("tdx", quote)

        return _asking(
            world, contract, evidence=attest, offers=offers, session=session * 32, signer=STRANGER
        )

    def why(session: str, **report: Any) -> Reason | None:
        with pytest.raises(VerificationError) as caught:
            asking(session, **report).ask(node)
        return reason_of(caught.value)

    assert why("1") is Reason.COLLATERAL_MISSING
    store.add(intel.collateral())
    assert why("2", mrtd=b"\x34" * 48) is Reason.MEASUREMENT
    assert why("3", report_data=bytes(64)) is Reason.BINDING
    assert why("4", attributes=1 << 28 | 1) is Reason.DEBUG
    node.policy[0] = Policy(tasks=TaskRules(platforms=("00" * 16,)))
    assert why("5") is Reason.PLATFORM
    node.policy[0] = policy
    release, _ = Release.open(asking("6").ask(node).last.release)
    key = world.keys["Alpha"].private.public_key()
    result = ear.verify(release.attestation_result or "", key, now=QUOTED)
    assert result.verdict is not None
    assert (result.verdict.kind, result.verdict.platform) == ("tdx", PPID)


# Orders


def _change(**changes: Any) -> Callable[[LendingWorld, Contract], AskingEnclave]:
    return lambda world, contract: _asking(world, contract, order=changes)


def _paused(world: LendingWorld, contract: Contract) -> AskingEnclave:
    world.nodes["Alpha"].policy[0] = Policy(paused=True)
    return _asking(world, contract)


def _denied(world: LendingWorld, contract: Contract) -> AskingEnclave:
    world.nodes["Alpha"].policy[0] = Policy(deny_computations=("task.*",))
    return _asking(world, contract)


def _lends_nothing(world: LendingWorld, contract: Contract) -> AskingEnclave:
    world.nodes["Alpha"].policy[0] = Policy(tasks=TaskRules(allow=False))
    return _asking(world, contract)


def _built_in_only(world: LendingWorld, contract: Contract) -> AskingEnclave:
    world.nodes["Alpha"].policy[0] = Policy(tasks=TaskRules(allow="built-in"))
    return _asking(world, contract)


def _higher(world: LendingWorld, contract: Contract) -> AskingEnclave:
    world.nodes["Alpha"].policy[0] = Policy(tasks=TaskRules(min_level="L3"))
    return _asking(world, contract)


def _none_today(world: LendingWorld, contract: Contract) -> AskingEnclave:
    world.nodes["Alpha"].policy[0] = Policy(max_runs_per_day=0)
    return _asking(world, contract)


def _expired(world: LendingWorld, contract: Contract) -> AskingEnclave:
    world.now = contract.expires_at
    return _asking(world, contract)


def _revoked(world: LendingWorld, contract: Contract) -> AskingEnclave:
    node = world.nodes["Alpha"]
    stored = consent.find_contract(node.store, contract.digest)
    steward.state(node.service, stored, "revoke", "A doubt.")
    return _asking(world, contract)


def _suspended(world: LendingWorld, contract: Contract) -> AskingEnclave:
    node = world.nodes["Alpha"]
    stored = consent.find_contract(node.store, contract.digest)
    steward.state(node.service, stored, "suspend", "A doubt.")
    return _asking(world, contract)


def _removed(world: LendingWorld, contract: Contract) -> AskingEnclave:
    gone = pb.Revocation(revoked_keys=[world.researcher.public])
    world.nodes["Alpha"].ask(pb.Message(revocation=gone))
    return _asking(world, contract)


def _gone(world: LendingWorld, contract: Contract) -> AskingEnclave:
    world.lending["Alpha"].lent.remove("pictures")
    return _asking(world, contract)


ORDERS: tuple[tuple[Callable[[LendingWorld, Contract], AskingEnclave], str], ...] = (
    (_change(params={"rate": 0.1, "epochs": 9}), "not-permitted"),
    (_change(params={}), "bad-input"),
    (_change(computation="task.other"), "not-permitted"),
    (_change(study="other"), "bad-digest"),
    (_change(valid_until=NOW - timedelta(hours=1)), "stale-request"),
    (_change(contract_digest="sha256:" + "0" * 64), "contract-unknown"),
    (_change(researcher=STRANGER.public), "unknown-signer"),
    (_paused, "site-policy"),
    (_denied, "site-policy"),
    (_lends_nothing, "site-policy"),
    (_built_in_only, "site-policy"),
    (_higher, "site-policy"),
    (_none_today, "site-policy"),
    (_expired, "contract-expired"),
    (_revoked, "contract-ended"),
    (_suspended, "contract-suspended"),
    (_removed, "not-authorised"),
    (_gone, "not-found"),
)


@pytest.mark.parametrize(("spoil", "code"), ORDERS)
def test_an_order_that_the_contract_does_not_allow_gets_no_key(
    world: LendingWorld,
    spoil: Callable[[LendingWorld, Contract], AskingEnclave],
    code: str,
) -> None:
    contract = world.agreed()
    _refused(world.nodes["Alpha"], spoil(world, contract), code)
    assert _released(world.nodes["Alpha"]) == 0


def test_each_run_counts_once_and_no_more_than_the_contract_allows(world: LendingWorld) -> None:
    contract = world.agreed()
    node = world.nodes["Alpha"]
    for run in ("1" * 32, "2" * 32):
        for session in ("a" * 32, "b" * 32):
            _asking(world, contract, order={"run_id": run}, session=session).ask(node)
    _refused(node, _asking(world, contract, order={"run_id": "3" * 32}), "run-limit")
    assert _released(node) == 2


def test_a_contract_that_ends_between_two_runs_or_sessions_gives_no_more_keys(
    world: LendingWorld,
) -> None:
    contract = world.agreed()
    node = world.nodes["Alpha"]
    _asking(world, contract).ask(node)
    assert fetch(node, RUN_ID, "images", "one.png").size
    _revoked(world, contract)
    _refused(node, _asking(world, contract, order={"run_id": OTHER}), "contract-ended")
    _refused(node, _asking(world, contract, session="b" * 32), "contract-ended")
    with pytest.raises(CohortiumError) as caught:
        fetch(node, RUN_ID, "images", "one.png")
    assert caught.value.code == "contract-ended"


def test_what_changes_while_a_session_is_open_counts(world: LendingWorld) -> None:
    contract = world.agreed()
    node = world.nodes["Alpha"]

    def paused(_data: bytes) -> None:
        node.policy[0] = Policy(paused=True)

    _refused(node, _asking(world, contract, evidence=paused), "site-policy")
    assert _released(node) == 0


@pytest.mark.parametrize("outcome", ["succeeded", "failed", "cancelled"])
def test_a_run_that_has_ended_gets_nothing_more(world: LendingWorld, outcome: str) -> None:
    contract = world.agreed()
    node = world.nodes["Alpha"]
    asking = _asking(world, contract)
    asking.ask(node)
    for _ in range(2):
        node.ask(run_end(asking.request, outcome))
    assert [one["outcome"] for one in node.decisions(what="end")] == [outcome]
    _refused(node, _asking(world, contract, session="b" * 32), "replayed")
    with pytest.raises(CohortiumError):
        fetch(node, RUN_ID, "images", "one.png")


def test_a_run_id_that_was_used_for_another_order_is_a_replay(world: LendingWorld) -> None:
    contract = world.agreed()
    node = world.nodes["Alpha"]
    _asking(world, contract).ask(node)
    other = _asking(world, contract, order={"params": {"rate": 0.2}}, session="b" * 32)
    _refused(node, other, "replayed")


def test_a_task_is_not_admitted_as_a_computation(world: LendingWorld) -> None:
    contract = world.agreed()
    with pytest.raises(CohortiumError) as caught:
        world.nodes["Alpha"].ask(world.prepare(world.order(contract)))
    assert caught.value.code == "not-permitted"


# Sessions


def test_a_session_that_is_lost_decides_nothing_and_can_begin_anew(world: LendingWorld) -> None:
    contract = world.agreed()
    node = world.nodes["Alpha"]
    lost = _asking(world, contract, forget_order=True)
    with pytest.raises(CohortiumError) as caught:
        lost.ask(node)
    assert caught.value.code == "link-lost"
    assert not node.decisions(what="keys")

    def slow(_data: bytes) -> None:
        world.now += key_release.LIFETIME + timedelta(seconds=1)

    with pytest.raises(CohortiumError) as caught:
        _asking(world, contract, evidence=slow).ask(node)
    assert caught.value.code == "link-lost"
    _asking(world, contract, session="b" * 32).ask(node)


def test_there_are_no_more_sessions_than_are_bounded(
    world: LendingWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_release, "MOST_SESSIONS", 3)
    contract = world.agreed(world.task_contract(world.task(max_runs=None)))
    node = world.nodes["Alpha"]
    order = world.order(contract)

    def opened(run: str, session: str) -> pb.TaskChannel:
        request = order.model_copy(update={"run_id": run})
        asking = AskingEnclave(world, contract, request).asking()
        message = pb.TaskChannel(
            run_id=run,
            site="Alpha",
            session=session,
            data=asking.begin(),
            request_envelope=request.sign(world.researcher),
        )
        node.ask(pb.Message(task_channel=message))
        return message

    sessions = node.service._tasks._keys._sessions  # type: ignore[union-attr]
    for number in range(6):
        opened(RUN_ID, f"{number:032x}")
    assert len(sessions) == 3
    opened(OTHER, "0" * 32)
    assert [key[0] for key in sessions] == [RUN_ID, RUN_ID, OTHER]
    node.ask(run_end(order, "cancelled"))
    assert [key[0] for key in sessions] == [OTHER]


@pytest.mark.parametrize(
    "change",
    [
        {"site": "Beta"},
        {"session": "x"},
        {"session": ""},
        {"run_id": OTHER},
        {"data": b"x" * 9},
        {"data": bytes(key_release.MOST_DATA_BYTES + 1)},
    ],
)
def test_messages_that_are_none_of_a_session_are_refused(
    world: LendingWorld, change: dict[str, Any]
) -> None:
    contract = world.agreed()
    asking = _asking(world, contract)
    message = pb.TaskChannel(
        run_id=RUN_ID,
        site="Alpha",
        session="a" * 32,
        data=asking.asking().begin(),
        request_envelope=asking.request.sign(world.researcher),
    )
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(CohortiumError) as caught:
        world.nodes["Alpha"].ask(pb.Message(task_channel=message))
    assert caught.value.code in {"malformed-message", "bad-evidence"}


def test_whoever_has_not_shown_anything_yet_fills_no_memory(world: LendingWorld) -> None:
    contract = world.agreed()
    node = world.nodes["Alpha"]
    hub = Channel(server=False, name="The hub itself", now=world.now)
    said: dict[str, Any] = {"run_id": RUN_ID, "site": "Alpha", "session": "a" * 32}
    order = world.order(contract).sign(world.researcher)

    def send(data: bytes) -> bytes:
        message = pb.TaskChannel(data=data, request_envelope=order, **said)
        return node.ask(pb.Message(task_channel=message)).task_channel.data

    while not hub.is_open:
        hub.feed(send(hub.pending()))
    data = hub.pending() + hub.send(Opening.model_construct(recipient="x" * 12_000_000))
    with pytest.raises(CohortiumError) as caught:
        send(data[:100_000])  # and never the rest
    assert caught.value.code == "malformed-message"
    assert not node.service._tasks._keys._sessions  # type: ignore[union-attr]


# Ciphertext


@pytest.mark.parametrize(
    ("slot", "path", "code"),
    [
        ("images", "../lent.json", "not-found"),
        ("images", "/etc/passwd", "not-found"),
        ("images", "deep/../one.png", "not-found"),
        ("images", "deep", "not-found"),
        ("images", "", "not-found"),
        ("start", "", "not-authorised"),
        ("model", "", "not-authorised"),
        ("", "one.png", "not-authorised"),
    ],
)
def test_only_files_of_the_own_slots_leave(
    world: LendingWorld, slot: str, path: str, code: str
) -> None:
    contract = world.agreed()
    node = world.nodes["Alpha"]
    _asking(world, contract).ask(node)
    with pytest.raises(CohortiumError) as caught:
        fetch(node, RUN_ID, slot, path)
    assert caught.value.code == code
    assert node.decisions(what="fetch", allowed=False, code=code)


def test_nothing_leaves_before_the_keys(world: LendingWorld) -> None:
    world.agreed()
    with pytest.raises(CohortiumError) as caught:
        fetch(world.nodes["Alpha"], RUN_ID, "images", "one.png")
    assert caught.value.code == "wrong-round"


def test_a_piece_of_another_site_is_not_asked_for_here(world: LendingWorld) -> None:
    contract = world.agreed()
    node = world.nodes["Alpha"]
    _asking(world, contract).ask(node)
    asked = pb.TaskFetch(run_id=RUN_ID, site="Beta", slot="images", path="one.png")
    with pytest.raises(CohortiumError) as caught:
        node.ask(pb.Message(task_fetch=asked))
    assert caught.value.code == "malformed-message"


def test_a_node_that_lends_nothing_says_so(world: LendingWorld) -> None:
    contract = world.agreed(None, "Alpha", "Gamma")
    gamma = world.nodes["Gamma"]
    error = _refused(gamma, _asking(world, contract), "not-permitted")
    assert error.message == "Gamma lends nothing to train."


def test_a_joint_input_is_released_by_each_of_its_owners(world: LendingWorld) -> None:
    theirs = world.lending["Beta"]
    from tests.support.vault import vault_file

    both = (world.lending["Alpha"].vault.private, theirs.vault.private)
    (world.root / "joint").write_bytes(vault_file(b"of both", to=both))
    for name in ("Alpha", "Beta"):
        world.lending[name].lent.add("joint", "model", world.root / "joint")
    slot = {
        "name": "start",
        "kind": "model",
        "owners": ("Alpha", "Beta"),
        "artefact": world.artefact("Alpha", "joint", "Alpha", "Beta"),
    }
    contract = world.agreed(world.task_contract(world.task(inputs=(slot,))), "Alpha", "Beta")
    for name in ("Alpha", "Beta"):
        keys = _asking(world, contract).ask(world.nodes[name]).keys
        (handed,) = keys.inputs.values()
        data = whole(world.nodes[name], RUN_ID, "start", handed.files.files[0].content_digest)
        grants = parse_grants(b64decode(handed.grants[""]))
        assert _reader(data, grants).read() == b"of both"
