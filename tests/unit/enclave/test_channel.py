"""The session between enclave and node, where the other end may be anybody."""

from __future__ import annotations

import base64
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest
from OpenSSL import SSL

from cohortium.enclave.channel import Channel, _certificate
from cohortium.errors import VerificationError

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_a_certificate_that_only_openssl_reads_is_refused_as_such(tmp_path: Path) -> None:
    certificate, key = _certificate("Enclave", NOW)
    odd = certificate.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x04", 1)
    text = base64.b64encode(odd).decode()
    file = tmp_path / "odd.pem"
    file.write_text(f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    context = SSL.Context(SSL.TLS_METHOD)
    context.use_certificate_file(str(file))
    context.use_privatekey(key)
    client = SSL.Connection(context, None)
    client.set_connect_state()
    node = Channel(server=True, name="Alpha", now=NOW)
    for _ in range(3):
        with suppress(SSL.WantReadError):
            client.do_handshake()
        try:
            node.feed(client.bio_read(1 << 16))
        except SSL.WantReadError:
            break
        if out := node.pending():
            client.bio_write(out)
    assert node.is_open
    with pytest.raises(VerificationError) as caught:
        _ = node.peer_certificate
    assert caught.value.code == "bad-evidence"
