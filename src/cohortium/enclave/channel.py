"""A TLS 1.3 session between an enclave and a lender's node, as bytes that others carry.

Both ends show a certificate that they make for this session alone: no authority vouches for them,
least of all the hub's. Who the other end is follows from what it signs over the session
(`cohortium.enclave.key_release`). The standard library has no TLS exporter, so this is pyOpenSSL.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from cohortium.core.model import Document
from cohortium.enclave.attestation.session import EXPORTER_BYTES, EXPORTER_LABEL
from cohortium.enclave.exchange import MAX_MESSAGE_BYTES
from cohortium.errors import ProtocolError, VerificationError

_LIFETIME: Final = timedelta(hours=1)
_PART_BYTES: Final = 64 * 1024
_LENGTH_BYTES: Final = 4


class Channel:
    """One end. Bytes of the other go in by `feed`, bytes for the other come out of `pending`.

    Args:
        server: Whether this end answers the handshake.
        name: What its certificate says; nobody relies on it.
        certificate: DER and key to show instead of new ones: one with evidence (RA-TLS).
        most_bytes: Of a message of the other end, who may be anybody.
    """

    def __init__(
        self,
        *,
        server: bool,
        name: str,
        now: datetime,
        certificate: tuple[bytes, ec.EllipticCurvePrivateKey] | None = None,
        most_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self._most_bytes = most_bytes
        self.own_certificate, key = certificate or _certificate(name, now)
        context = SSL.Context(SSL.TLS_METHOD)
        context.set_min_proto_version(SSL.TLS1_3_VERSION)
        context.use_certificate(x509.load_der_x509_certificate(self.own_certificate))
        context.use_privatekey(key)
        context.set_verify(
            SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_checked: True
        )
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        self._tls = SSL.Connection(context, None)
        if server:
            self._tls.set_accept_state()
        else:
            self._tls.set_connect_state()
        self._open = False
        self._received = bytearray()

    def feed(self, data: bytes) -> None:
        """Take the other end's bytes.

        Raises:
            VerificationError: ``bad-evidence``: they are not this session's.
        """
        try:
            view = memoryview(data)
            for start in range(0, len(data), _PART_BYTES):
                self._tls.bio_write(view[start : start + _PART_BYTES])
                self._advance()
        except SSL.Error as error:
            raise VerificationError(
                "bad-evidence", "The session between enclave and node was altered or cut off."
            ) from error

    def _advance(self) -> None:
        try:
            if not self._open:
                self._tls.do_handshake()
                self._open = True
            while True:
                self._received += self._tls.recv(_PART_BYTES)
                if len(self._received) > self._most_bytes + _LENGTH_BYTES:
                    raise ProtocolError("malformed-message", "A message is too long.")
        except SSL.WantReadError:
            pass

    def pending(self) -> bytes:
        """What the other end has to be sent; the first call of a client begins the handshake."""
        if not self._open:
            self._advance()
        out = bytearray()
        while True:
            try:
                out += self._tls.bio_read(_PART_BYTES)
            except SSL.WantReadError:
                return bytes(out)

    @property
    def is_open(self) -> bool:
        """Whether the handshake is over."""
        return self._open

    def send(self, document: Document) -> bytes:
        """A message, as bytes for the other end."""
        data = document.to_bytes()
        out = bytearray()
        whole = memoryview(len(data).to_bytes(_LENGTH_BYTES, "big") + data)
        for start in range(0, len(whole), _PART_BYTES):
            self._tls.sendall(whole[start : start + _PART_BYTES])
            out += self.pending()
        return bytes(out)

    def receive(self) -> bytes | None:
        """The next whole message, or None where it is not there yet.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        if len(self._received) < _LENGTH_BYTES:
            return None
        size = int.from_bytes(self._received[:_LENGTH_BYTES], "big")
        if size > self._most_bytes:
            raise ProtocolError("malformed-message", "A message is too long.")
        if len(self._received) < _LENGTH_BYTES + size:
            return None
        message = bytes(self._received[_LENGTH_BYTES : _LENGTH_BYTES + size])
        del self._received[: _LENGTH_BYTES + size]
        return message

    @property
    def exporter(self) -> bytes:
        """Keying material that both ends of this session, and nobody else, have."""
        exported: bytes = self._tls.export_keying_material(EXPORTER_LABEL, EXPORTER_BYTES)
        return exported

    @property
    def peer_certificate(self) -> bytes:
        """DER of the other end's certificate.

        Raises:
            VerificationError: ``bad-evidence`` where there is none that can be read.
        """
        try:
            found = self._tls.get_peer_certificate(as_cryptography=True)
        except (ValueError, x509.InvalidVersion) as error:  # OpenSSL reads more than that
            raise VerificationError(
                "bad-evidence", "The other end's certificate cannot be read."
            ) from error
        if found is None:
            raise VerificationError("bad-evidence", "The other end shows no certificate.")
        return found.public_bytes(Encoding.DER)


def _certificate(name: str, now: datetime) -> tuple[bytes, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    common = name.encode()[:64].decode(errors="ignore")  # X.520: 64 at most, of bytes
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LIFETIME)
        .not_valid_after(now + _LIFETIME)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(Encoding.DER), key
