from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import combinations

import pytest

from cohortium.errors import ProtocolError
from cohortium.secagg.shamir import PRIME, SHARE_BYTES, combine, combine_all, split

SECRET = bytes(range(32))


def stream(seed: str) -> Callable[[int], bytes]:
    """Fixed bytes that look random."""

    def blocks() -> Iterator[int]:
        counter = 0
        while True:
            yield from hashlib.sha256(f"{seed} {counter}".encode()).digest()
            counter += 1

    source = blocks()
    return lambda n_bytes: bytes(next(source) for _ in range(n_bytes))


def is_probable_prime(n: int) -> bool:
    """Miller-Rabin with the first 40 primes as bases."""
    bases = [p for p in range(2, 174) if all(p % q for q in range(2, p))]
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in bases:
        x = pow(base, odd, n)
        if x in {1, n - 1}:
            continue
        for _ in range(twos - 1):
            x = x * x % n
            if x == n - 1:
                break
        else:
            return False
    return True


def test_the_modulus_is_the_least_prime_above_every_32_byte_secret() -> None:
    assert is_probable_prime(PRIME)
    assert not any(is_probable_prime(n) for n in range(2**256 + 1, PRIME, 2))
    assert is_probable_prime(2**255 - 19)
    assert not is_probable_prime(3215031751)  # passes for the bases 2, 3, 5 and 7


@pytest.mark.parametrize("secret", [SECRET, bytes(32), b"\xff" * 32, bytes(31) + b"\x01"])
def test_every_set_of_threshold_shares_opens_the_secret(secret: bytes) -> None:
    shares = split(secret, 3, [1, 2, 4, 7, 800], stream("a"))
    assert {len(share) for share in shares.values()} == {SHARE_BYTES}
    for points in combinations(shares, 3):
        assert combine({point: shares[point] for point in points}, 3) == secret
    assert combine(shares, 3) == secret
    assert combine(dict(reversed(shares.items())), 3) == secret


def test_the_secret_is_the_value_at_zero_of_the_polynomial_through_the_shares() -> None:
    """Interpolation over the rationals, reduced at the end: another way to the same number."""
    shares = split(SECRET, 4, [2, 3, 5, 11], stream("b"))
    value = Fraction(0)
    for x, share in shares.items():
        term = Fraction(int.from_bytes(share))
        for other in set(shares) - {x}:
            term *= Fraction(other, other - x)
        value += term
    assert value.numerator * pow(value.denominator, -1, PRIME) % PRIME == int.from_bytes(SECRET)


def test_the_same_random_bytes_make_the_same_shares_and_others_make_others() -> None:
    first = split(SECRET, 2, [1, 2], stream("c"))
    assert split(SECRET, 2, [1, 2], stream("c")) == first
    other = split(SECRET, 2, [1, 2], stream("d"))
    assert all(other[point] != first[point] for point in first)
    known = hashlib.sha256(b"".join(first.values())).hexdigest()
    assert known == "b6ebb1f33a0c9311c1534a0e8aa6b7dcf7648eacf83a8d51a199868918f079b7"


def test_one_share_fewer_fits_every_secret_alike() -> None:
    """Two of three shares: for any secret there is exactly one third share that opens it."""
    shares = split(SECRET, 3, [1, 2, 3], stream("e"))
    for wanted in (bytes(32), b"\xff" * 32, SECRET):
        # Lagrange at 0 over the points 1, 2, 3: 3 a - 3 b + c.
        known = 3 * int.from_bytes(shares[1]) - 3 * int.from_bytes(shares[2])
        third = (int.from_bytes(wanted) - known) % PRIME
        opened = combine({1: shares[1], 2: shares[2], 3: third.to_bytes(SHARE_BYTES)}, 3)
        assert opened == wanted
        assert (third.to_bytes(SHARE_BYTES) == shares[3]) == (wanted == SECRET)


def test_a_draw_that_would_favour_some_coefficients_is_drawn_again() -> None:
    limit = 2**320 // PRIME * PRIME
    draws = iter([2**320 - 1, limit, limit - 1])
    shares = split(bytes(32), 2, [1, 2], lambda n_bytes: next(draws).to_bytes(n_bytes))
    assert int.from_bytes(shares[1]) == PRIME - 1  # (limit - 1) mod PRIME
    assert int.from_bytes(shares[2]) == PRIME - 2


def test_a_threshold_of_one_gives_everyone_the_secret() -> None:
    shares = split(SECRET, 1, [1, 9], stream("f"))
    assert set(shares.values()) == {b"\x00" + SECRET}
    assert combine({9: shares[9]}, 1) == SECRET


def test_too_few_shares_are_refused() -> None:
    shares = split(SECRET, 3, [1, 2, 3], stream("g"))
    del shares[2]
    with pytest.raises(ProtocolError) as refused:
        combine(shares, 3)
    assert refused.value.code == "too-few-shares"
    assert refused.value.details == {"shares": 2, "threshold": 3}


@pytest.mark.parametrize(
    ("point", "share"),
    [
        (2, b""),
        (2, bytes(32)),
        (2, bytes(34)),
        (2, PRIME.to_bytes(SHARE_BYTES)),
        (2, b"\xff" * SHARE_BYTES),
        (0, bytes(SHARE_BYTES)),
        (-1, bytes(SHARE_BYTES)),
        (PRIME + 1, bytes(SHARE_BYTES)),  # the point 1 again
        (PRIME, bytes(SHARE_BYTES)),
    ],
)
def test_a_share_that_split_never_makes_is_refused_even_where_it_is_not_needed(
    point: int, share: bytes
) -> None:
    shares = split(SECRET, 2, [1, 3], stream("h")) | {point: share}
    with pytest.raises(ProtocolError) as refused:
        combine(shares, 2)
    assert refused.value.code == "malformed-message"


def test_shares_that_open_no_32_bytes_are_refused() -> None:
    with pytest.raises(ProtocolError) as refused:
        combine({1: (2**256).to_bytes(SHARE_BYTES)}, 1)
    assert refused.value.code == "bad-share"


def test_an_altered_share_opens_another_secret() -> None:
    shares = split(SECRET, 2, [1, 2], stream("i"))
    shares[2] = (int.from_bytes(shares[2]) ^ 1).to_bytes(SHARE_BYTES)
    assert combine(shares, 2) != SECRET


def test_several_secrets_open_at_once_whoever_holds_them() -> None:
    secrets = [bytes([i]) * 32 for i in range(5)]
    many = [
        split(secret, 3, [i + 1, i + 2, i + 4, 90], stream(f"j{i}"))
        for i, secret in enumerate(secrets)
    ]
    assert combine_all(many, 3) == secrets
    del many[4][90], many[4][5]
    with pytest.raises(ProtocolError, match="2 shares"):
        combine_all(many, 3)


@pytest.mark.parametrize(
    ("secret", "threshold", "points"),
    [
        (bytes(31), 2, [1, 2]),
        (bytes(33), 2, [1, 2]),
        (SECRET, 0, [1, 2]),
        (SECRET, 2, [1, 1]),
        (SECRET, 2, [0, 1]),
        (SECRET, 2, [1, PRIME]),
    ],
)
def test_a_wrong_call_of_split_is_a_programming_error(
    secret: bytes, threshold: int, points: list[int]
) -> None:
    with pytest.raises(RuntimeError):
        split(secret, threshold, points, stream("k"))
