"""Profiles: where they lie, which one is meant, what is wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from cohortium.crypto.keys import SigningKey
from cohortium.errors import InputError
from cohortium.sdk.federation import connect
from cohortium.sdk.profile import (
    PROFILE_VARIABLE,
    Profile,
    load_profile,
    profile_file,
    profile_name,
    which_profile_of,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(PROFILE_VARIABLE, raising=False)
    return tmp_path


def _profile(home: Path, consortium: str = "Lung", url: str = "https://hub:1") -> Profile:
    key_file = home / f"{consortium}.key"
    SigningKey.generate().save(key_file)
    return Profile(
        consortium=consortium,
        user="Ada",
        url=url,
        ca_pem="-",
        fingerprint="sha256:" + "a" * 64,
        key_file=str(key_file),
    )


def test_the_only_profile_is_meant_where_none_is_named(home: Path) -> None:
    with pytest.raises(InputError, match="cohortium user create"):
        load_profile()
    made = _profile(home)
    made.save(profile_file("lung"))
    assert load_profile() == made
    assert load_profile().load_key().public.startswith("ed25519:")
    _profile(home, "Heart", "https://hub:2").save(profile_file("heart"))
    with pytest.raises(InputError, match="heart, lung"):
        load_profile()
    assert load_profile("heart").consortium == "Heart"
    assert which_profile_of("https://hub:2/") == profile_file("heart")
    assert which_profile_of("https://hub:3") is None


def test_the_environment_names_a_profile_or_a_file(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _profile(home)
    made.save(home / "elsewhere" / "p.json")
    monkeypatch.setenv(PROFILE_VARIABLE, str(home / "elsewhere" / "p.json"))
    assert load_profile() == made
    monkeypatch.setenv(PROFILE_VARIABLE, "absent")
    with pytest.raises(InputError, match="no profile"):
        load_profile()


def test_a_damaged_profile_says_which_file(home: Path) -> None:
    profile_file("x").parent.mkdir(parents=True)
    profile_file("x").write_text('{"consortium": 3}')
    with pytest.raises(InputError, match=r"x\.json is not a profile") as caught:
        load_profile("x")
    assert caught.value.code == "bad-config"


@pytest.mark.parametrize("name", ["", "..", "a b", "-x"])
def test_a_name_that_would_leave_the_folder_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        profile_file(name)


def test_a_consortium_s_name_gives_a_file_name() -> None:
    assert profile_name("Lung & Heart (EU)") == "lung-heart-eu"
    assert profile_name("肺癌") == "default"


def test_connecting_without_a_profile_says_what_is_needed() -> None:
    with pytest.raises(InputError, match="fingerprint="):
        connect("https://hub.example:8443", key="key.pem")
