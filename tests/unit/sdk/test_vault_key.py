"""A researcher's vault key."""

from __future__ import annotations

from pathlib import Path

import pytest

from cohortium.errors import InputError
from cohortium.sdk.vault_key import own_key


def test_a_lost_key_is_not_silently_replaced_while_its_public_half_is_there(tmp_path: Path) -> None:
    file = tmp_path / "ada.vault"
    first = own_key(file, make=True)
    assert own_key(file, make=True).public == first.public
    file.unlink()

    with pytest.raises(InputError, match=r"ada\.vault is gone.*backup.*delete ada\.pub") as caught:
        own_key(file, make=True)
    assert caught.value.code == "vault-key-missing"
    assert not file.exists()

    (tmp_path / "ada.pub").unlink()
    assert own_key(file, make=True).public != first.public
