from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortium.core.invitation import PREFIX, Invitation
from cohortium.errors import VerificationError

NOW = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
INVITATION = Invitation(
    kind="site",
    consortium="Lung consortium",
    ca="sha256:" + "a" * 64,
    hub="https://hub.example:8443",
    name="Hospital 北京",
    secret="A" * 43,
    expires_at=NOW,
)


def test_text_survives_the_round_trip_and_line_ends() -> None:
    text = INVITATION.to_text()
    assert text.startswith(PREFIX)
    assert Invitation.from_text(f"  {text}\n") == INVITATION
    assert "AAAA" not in repr(INVITATION)


def test_an_expired_invitation_is_refused() -> None:
    with pytest.raises(VerificationError, match="expired"):
        Invitation.from_text(INVITATION.to_text(), now=NOW)


@given(st.text() | st.binary().map(lambda b: PREFIX + b.hex()))
def test_any_other_text_is_a_bad_invitation(text: str) -> None:
    with pytest.raises(VerificationError) as caught:
        Invitation.from_text(text)
    assert caught.value.code == "bad-invitation"
