"""What an enclave refuses before it writes anything down or asks for any key."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.enclave_hub import MANIFEST, World

from cohortium.contract.code import packed
from cohortium.contract.model import Enclave
from cohortium.contract.task import Code, Limits, OutputSlot
from cohortium.crypto.keys import SigningKey
from cohortium.enclave.executors.landlock import Landlock
from cohortium.errors import CohortiumError
from cohortium.link._generated import link_pb2 as pb
from cohortium.vault.keys import PrivateKey
from cohortium.worker.admission import admit

NOW = datetime.now(UTC)
MEASURED = ({"kind": "simulated", "value": "0" * 64},)
L4: dict[str, Any] = {"level": "L4", "environment": {"measurements": MEASURED}}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def refused(world: World, asked: pb.TaskPrepare, **changes: Any) -> CohortiumError:
    with pytest.raises(CohortiumError) as caught:
        admit(asked, world.identity, **({"now": datetime.now(UTC)} | changes))
    return caught.value


def test_a_sound_order_is_admitted(world: World) -> None:
    order = admit(world.prepare(), world.identity, now=datetime.now(UTC))
    assert order.admitted.arguments == {"word": "hello"}
    assert set(order.readers) == {"Ada", "Beta"}
    assert set(order.files) == {"main.py", "task.yaml"}


def test_a_contract_that_somebody_has_not_signed_is_refused(world: World) -> None:
    asked = world.prepare()
    assert refused(world, world.prepare(contract_envelopes=asked.contract_envelopes[:2])).code == (
        "contract-not-active"
    )
    forged = [*asked.contract_envelopes[:2], world.contract.sign(SigningKey.generate())]
    assert refused(world, world.prepare(contract_envelopes=forged)).code == "unknown-signer"
    assert refused(world, world.prepare(contract_envelopes=[])).code == "malformed-message"


def test_signatures_over_two_contracts_are_not_signatures_over_one(
    world: World, tmp_path: Path
) -> None:
    other = world.contract.model_copy(update={"title": "Another task"})
    mixed = [world.contract.sign(world.ada), other.sign(world.alpha.key)]
    mixed += [world.contract.sign(world.beta.key)]
    assert refused(world, world.prepare(contract_envelopes=mixed)).code == "bad-digest"


def test_another_program_than_the_contract_s_is_refused(world: World) -> None:
    other = packed({"main.py": b"print('mine')", "task.yaml": b""})
    assert refused(world, world.prepare(code=other)).code == "bad-digest"
    assert refused(world, world.prepare(code=b"")).code == "malformed-message"


def test_a_vault_key_that_its_owner_did_not_sign_is_refused(world: World) -> None:
    mine = PrivateKey.generate()
    stolen = world.card("Ada", SigningKey.generate(), mine)
    beta = world.card("Beta", world.beta.key, world.beta.vault)
    assert refused(world, world.prepare(cards=[stolen, beta])).code == "unknown-signer"
    swapped = world.card("Ada", world.beta.key, mine)
    assert refused(world, world.prepare(cards=[swapped, beta])).code == "unknown-signer"


def test_a_reader_without_a_vault_key_is_refused_by_name(world: World) -> None:
    beta = world.card("Beta", world.beta.key, world.beta.vault)
    error = refused(world, world.prepare(cards=[beta]))
    assert (error.code, error.details["missing"]) == ("vault-key-missing", ["Ada"])


def test_the_newer_of_two_vault_keys_counts(world: World) -> None:
    newer = PrivateKey.generate()
    from cohortium.vault.card import VaultCard

    later = VaultCard(name="Ada", vault=newer.public.to_text(), at=NOW + timedelta(hours=1))
    asked = world.prepare()
    for cards in ([later.sign(world.ada), *asked.cards], [*asked.cards, later.sign(world.ada)]):
        order = admit(world.prepare(cards=cards), world.identity, now=datetime.now(UTC))
        assert order.readers["Ada"] == newer.public


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"contract_digest": "sha256:" + "0" * 64}, "bad-digest"),
        ({"computation": "task.other"}, "not-permitted"),
        ({"params": {"word": "a", "more": 1}}, "bad-input"),
        ({"params": {}}, "bad-input"),
        ({"params": {"word": ["a"]}}, "bad-input"),
        ({"params": {"word": None}}, "bad-input"),
        (
            {"issued_at": NOW - timedelta(hours=3), "valid_until": NOW - timedelta(hours=2)},
            "stale-request",
        ),
    ],
)
def test_a_request_for_something_else_is_refused(
    world: World, changes: dict[str, Any], code: str
) -> None:
    assert refused(world, world.prepare(world.request(**changes))).code == code


def test_a_researcher_whom_the_contract_does_not_name_is_refused(world: World) -> None:
    eve = SigningKey.generate()
    envelope = world.request(researcher=eve.public).sign(eve)
    assert refused(world, world.prepare(request_envelope=envelope)).code == "not-authorised"
    posing = world.request().sign(eve)
    assert refused(world, world.prepare(request_envelope=posing)).code == "unknown-signer"
    assert refused(world, world.prepare(), revoked=[world.ada.public]).code == "not-authorised"


def test_a_contract_for_another_enclave_or_consortium_is_refused(
    world: World, tmp_path: Path
) -> None:
    elsewhere = (Enclave(name="Island", key=SigningKey.generate().public),)
    other = World(tmp_path, environment={"enclaves": elsewhere})
    assert refused(other, other.prepare()).code == "not-permitted"
    foreign = world.identity.__class__("Island", "sha256:" + "d" * 64, world.identity.key)
    with pytest.raises(CohortiumError, match="another consortium"):
        admit(world.prepare(), foreign, now=datetime.now(UTC))


def test_a_built_in_program_of_another_version_is_refused(tmp_path: Path) -> None:
    code = Code(name="builtin:join", content_digest="sha256:" + "1" * 64, owner="Ada")
    world = World(tmp_path, terms={"code": code})
    assert refused(world, world.prepare(code=b"")).code == "bad-digest"


needs_a_sandbox = pytest.mark.skipif(bool(Landlock().missing()), reason="no sandbox here")


async def answered(world: World, asked: pb.TaskPrepare | None = None) -> CohortiumError:
    """What the worker says to an order that it does not take; nothing of it stays."""
    async with world.serving():
        with pytest.raises(CohortiumError) as caught:
            await world.send(task_prepare=asked or world.prepare())
        assert world.service.store.latest() == []
        assert not any(world.directory.runs.glob("*"))
        assert world.alpha.shown == world.beta.shown == []
    return caught.value


@needs_a_sandbox
@pytest.mark.parametrize(
    ("make", "code", "says"),
    [
        (
            lambda folder: World(folder, environment={"executor": "bubblewrap"}),
            "executor-unavailable",
            "enclave.toml does not allow it",
        ),
        (
            lambda folder: World(folder, **L4, executors=("landlock", "tdx")),
            "executor-unavailable",
            "tdx: ",
        ),
        (
            lambda folder: World(folder, **L4),
            "executor-unavailable",
            "no executor that it may use reaches it",
        ),
        (
            lambda folder: World(folder, extra_files={"requirements.lock": b"numpy==2.0.0\n"}),
            "packages-missing",
            "cohortium enclave packages add",
        ),
        (
            lambda folder: World(folder, settings={"max_memory_bytes": 64 * 1024 * 1024}),
            "executor-unavailable",
            "max_memory_bytes",
        ),
        (
            lambda folder: World(
                folder,
                terms={
                    "outputs": (OutputSlot(name="other", owners=("Ada",), recipients=("Ada",)),)
                },
            ),
            "bad-input",
            "no output other",
        ),
        (
            lambda folder: World(
                folder, manifest=MANIFEST.replace("right: model", "right: dataset")
            ),
            "bad-input",
            "its input right is a dataset, and a model in the contract",
        ),
    ],
)
async def test_what_this_machine_cannot_do_as_the_contract_says_is_refused(
    tmp_path: Path, make: Callable[[Path], World], code: str, says: str
) -> None:
    error = await answered(make(tmp_path))
    assert error.code == code
    assert says in error.message


@needs_a_sandbox
async def test_the_lower_limit_of_program_and_contract_counts(tmp_path: Path) -> None:
    limits = Limits(memory_bytes=128 * 1024 * 1024, time_s=3600)
    world = World(tmp_path, terms={"limits": limits})
    async with world.serving() as service:
        run = service._admitted(world.prepare())
    assert (run._job.limits.memory_bytes, run._job.limits.time_s) == (128 * 1024 * 1024, 20)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_whatever_the_hub_sends_is_admitted_or_refused_by_a_known_error(
    world: World, data: st.DataObject
) -> None:
    asked = world.prepare()
    field = data.draw(st.sampled_from(["request_envelope", "contract_envelopes", "code", "cards"]))
    found = getattr(asked, field)
    whole = bytearray(found if isinstance(found, bytes) else found[0])
    if data.draw(st.booleans()):
        whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    else:
        whole = bytearray(data.draw(st.binary(max_size=200)))
    changed: dict[str, Any] = {
        field: bytes(whole) if isinstance(found, bytes) else [bytes(whole), *found[1:]]
    }
    with contextlib.suppress(CohortiumError):
        admit(world.prepare(**changed), world.identity, now=datetime.now(UTC))
        assert field == "code"  # a ZIP has bytes that no digest of its files is over
