"""The ledger's key is pinned when it is first seen; another one is refused until it is accepted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from cohortium.crypto.keys import SigningKey, fingerprint
from cohortium.errors import CohortiumError, InputError, VerificationError
from cohortium.ledger.checkpoint import log_key, origin
from cohortium.sdk import federation, ledger_key
from cohortium.sdk.profile import PROFILE_VARIABLE, Profile, load_profile, profile_file

CA = "sha256:" + "a" * 64
FIRST, SECOND = (
    log_key(origin(CA), SigningKey.from_seed(bytes([n]) * 32).public).text for n in (1, 2)
)
ELSEWHERE = log_key("cohortium/elsewhere", SigningKey.from_seed(bytes(32)).public).text


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a profile that knows no key yet."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(PROFILE_VARIABLE, raising=False)
    SigningKey.generate().save(tmp_path / "ada.key")
    made = Profile(
        consortium="Lung",
        user="Ada",
        url="https://hub:1",
        ca_pem="-",
        fingerprint=CA,
        key_file=str(tmp_path / "ada.key"),
    )
    made.save(profile_file("lung"))
    return profile_file("lung")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Sets the key that the hub names."""
    named: list[str | None] = [FIRST]

    def answer(_: httpx.Request) -> httpx.Response:
        told = {"name": "Lung", "ca_pem": "-", "fingerprint": CA, "link_address": "hub:2"}
        return httpx.Response(200, json=told | ({"ledger_key": named[0]} if named[0] else {}))

    def http(*_: str) -> httpx.Client:
        return httpx.Client(base_url="https://hub:1", transport=httpx.MockTransport(answer))

    for module in (federation, ledger_key):
        monkeypatch.setattr(module, "pinned_http", http)

    def name(key: str | None) -> None:
        named[0] = key

    return name


def test_the_first_key_that_the_hub_names_is_kept(
    path: Path, hub: Callable[[str | None], None]
) -> None:
    with federation.connect():
        assert load_profile(path).ledger_key == FIRST
    for named in (FIRST, None):
        hub(named)
        with federation.connect(url="https://hub:1/") as again:
            assert again._client.ledger_key == FIRST


def test_another_key_is_refused_and_it_is_said_what_to_do(
    path: Path, hub: Callable[[str | None], None]
) -> None:
    federation.connect().close()
    hub(SECOND)
    with pytest.raises(VerificationError) as refusal:
        federation.connect()
    assert refusal.value.code == "ledger-key"
    for words in (fingerprint(FIRST), fingerprint(SECOND), "cohortium user ledger-key --accept"):
        assert words in refusal.value.message
    assert load_profile(path).ledger_key == FIRST
    with pytest.raises(InputError, match="not the one that you gave"):
        ledger_key.accept(path, fingerprint(FIRST))
    assert ledger_key.accept(path, fingerprint(SECOND).lower()).ledger_key == SECOND
    federation.connect().close()
    hub(FIRST)
    with pytest.raises(VerificationError):
        federation.connect()


@pytest.mark.parametrize("named", [ELSEWHERE, "no key"])
def test_the_key_of_another_ledger_is_never_kept(
    path: Path, hub: Callable[[str | None], None], named: str
) -> None:
    hub(named)
    with pytest.raises(CohortiumError) as refusal:
        federation.connect()
    assert refusal.value.code == "bad-checkpoint"
    assert load_profile(path).ledger_key is None


def test_a_hub_without_a_ledger_has_no_key_to_accept(
    path: Path, hub: Callable[[str | None], None]
) -> None:
    hub(None)
    federation.connect().close()
    assert load_profile(path).ledger_key is None
    with pytest.raises(InputError, match="no ledger"):
        ledger_key.accept(path, "AAAA")
