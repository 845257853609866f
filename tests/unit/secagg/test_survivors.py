from __future__ import annotations

import pytest
from tests.support.secagg import World

from cohortium.core.canonical import digest
from cohortium.errors import CohortiumError, PolicyRefusal, ProtocolError, VerificationError
from cohortium.secagg.survivors import check_signatures, statement

WORLD = World(list("abcde"), min_sites=3)
PARTIES = WORLD.parties()
ROUND = digest("round 1")
LEFT = frozenset("abcd")


def sign(
    sites: str, survivors: frozenset[str] = LEFT, round_digest: str = ROUND
) -> dict[str, bytes]:
    text = statement(round_digest, survivors, PARTIES)
    return {site: WORLD.signing[site].sign(text) for site in sites}


def check(
    signatures: dict[str, bytes], survivors: frozenset[str] = LEFT, round_digest: str = ROUND
) -> CohortiumError | None:
    try:
        check_signatures(signatures, round_digest, survivors, PARTIES)
    except CohortiumError as error:
        return error
    return None


def test_the_statement_is_dsse_of_canonical_json() -> None:
    text = statement(ROUND, LEFT, PARTIES)
    payload = b'{"round_digest":"%b","survivors":"Dw"}' % ROUND.encode()
    kind = b"application/vnd.cohortium.survivors+json"
    assert text == b"DSSEv1 40 %b %d %b" % (kind, len(payload), payload)


def test_a_quorum_of_survivors_makes_a_list_valid() -> None:
    assert check(sign("abcd")) is None
    everyone = frozenset("abcde")
    assert check(sign("bcde", everyone), everyone) is None
    assert check(sign("abcde", everyone), everyone) is None


@pytest.mark.parametrize("sites", ["", "a", "abc", "bcd"])
def test_fewer_than_the_quorum_do_not(sites: str) -> None:
    error = check(sign(sites))
    assert isinstance(error, PolicyRefusal)
    assert error.details == {"sites": len(sites), "min_sites": 4}


def test_signatures_over_another_list_or_round_do_not_count() -> None:
    for other in (
        sign("d", frozenset("abcde")),
        sign("d", frozenset("abd")),
        sign("d", round_digest=digest("round 2")),
    ):
        error = check({**sign("abc"), **other})
        assert isinstance(error, VerificationError)
        assert error.code == "bad-signature"
        assert error.details == {"site": "d"}


def test_one_sites_signature_does_not_count_for_another() -> None:
    signatures = sign("abc")
    error = check({**signatures, "d": signatures["a"]})
    assert error is not None
    assert error.details == {"site": "d"}


@pytest.mark.parametrize("signer", ["e", "Eve"])
def test_who_dropped_or_is_no_party_may_not_sign(signer: str) -> None:
    error = check({**sign("abcd"), signer: sign("a")["a"]})
    assert isinstance(error, ProtocolError)
    assert error.code == "unexpected-message"


def test_every_flipped_bit_of_a_signature_is_noticed() -> None:
    signatures = sign("abcd")
    for bit in range(8 * 64):
        changed = bytearray(signatures["b"])
        changed[bit // 8] ^= 1 << bit % 8
        error = check({**signatures, "b": bytes(changed)})
        assert error is not None
        assert error.code == "bad-signature"


def test_above_64_parties_only_the_committee_signs() -> None:
    world = World([f"s{number:03}" for number in range(200)])
    parties = world.parties()
    everyone = parties.all
    text = statement(ROUND, everyone, parties)
    signatures = {site: world.signing[site].sign(text) for site in sorted(parties.committee)}
    check_signatures(signatures, ROUND, everyone, parties)
    outsider = min(everyone - parties.committee)
    signatures[outsider] = world.signing[outsider].sign(text)
    with pytest.raises(ProtocolError, match="may not sign"):
        check_signatures(signatures, ROUND, everyone, parties)
