"""The node's backoff, and gRPC's options."""

from __future__ import annotations

import subprocess
import sys

import pytest

from cohortium.link.client import Backoff
from cohortium.link.tls import Keepalive, channel_options


def test_backoff_grows_to_its_ceiling_with_full_jitter() -> None:
    high, low = Backoff(1.0, 10.0, lambda: 1.0), Backoff(1.0, 10.0, lambda: 0.0)
    assert [high.delay_s(n) for n in (1, 2, 3, 4, 5, 10_000)] == [2.0, 4.0, 8.0, 10.0, 10.0, 10.0]
    assert low.delay_s(3) == 0.0
    delays = [Backoff().delay_s(4) for _ in range(200)]
    assert 0 <= min(delays) < 1 < 3 < max(delays) <= 4


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("proxy.hospital:3128", "http://proxy.hospital:3128"),
        ("http://u:p@proxy:1", "http://u:p@proxy:1"),
    ],
)
def test_proxy_option(proxy: str, expected: str) -> None:
    options = dict(channel_options(Keepalive(), proxy))
    assert options["grpc.http_proxy"] == expected
    assert options["grpc.enable_http_proxy"] == 1


def test_no_proxy_means_none() -> None:
    options = dict(channel_options(Keepalive(), None))
    assert options["grpc.enable_http_proxy"] == 0
    assert "grpc.http_proxy" not in options


def test_grpc_imported_too_early_is_refused() -> None:
    program = (
        "import grpc\n"
        "from cohortium.link.tls import require_tls13\n"
        "try: require_tls13()\n"
        "except Exception as error: print(error.code)\n"
    )
    environment = {"PATH": ""}
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True
    )
    assert result.stdout.strip() == "bad-config"
