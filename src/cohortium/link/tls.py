"""TLS files and the gRPC credentials and options made of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from cohortium.crypto.files import read_private
from cohortium.errors import InputError
from cohortium.link import TLS13_ONLY
from cohortium.link.frames import FRAME_BYTES

METHOD = "Connect"
SERVICE = "cohortium.link.v1.Link"
Option = tuple[str, int | str]


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of one side; read again at each handshake, so that a rotation needs no restart."""

    key: Path
    certificate: Path
    ca: Path

    def read(self) -> tuple[bytes, bytes, bytes]:
        """(key, certificate, CA certificate) as PEM.

        Raises:
            InputError: ``not-found`` or ``bad-config``.
        """
        try:
            return read_private(self.key), self.certificate.read_bytes(), self.ca.read_bytes()
        except OSError as error:
            raise InputError(
                "not-found", f"Cannot read the TLS files beside {self.certificate}."
            ) from error


@dataclass(frozen=True, slots=True)
class Keepalive:
    """Pings find a link that died without a word: after `time_s` + `timeout_s` at the latest."""

    time_s: float = 20.0
    timeout_s: float = 10.0

    def options(self) -> list[Option]:
        """The gRPC channel arguments, for both sides."""
        return [
            ("grpc.keepalive_time_ms", int(self.time_s * 1000)),
            ("grpc.keepalive_timeout_ms", int(self.timeout_s * 1000)),
            # Without this one a ping is waited for a minute, whatever keepalive_timeout_ms says.
            ("grpc.http2.ping_timeout_ms", int(self.timeout_s * 1000)),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.http2.min_ping_interval_without_data_ms", int(self.time_s * 500)),
            ("grpc.http2.max_ping_strikes", 0),
        ]


def require_tls13() -> None:
    """Refuse where gRPC was imported too early to be limited to TLS 1.3.

    Raises:
        InputError: ``bad-config``.
    """
    if not TLS13_ONLY:
        raise InputError(
            "bad-config",
            "gRPC was imported before cohortium.link and would accept TLS 1.2; "
            "import cohortium.link first.",
        )


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Mutual TLS; a changed file counts from the next handshake on."""
    require_tls13()
    current = files.read()

    def configuration() -> grpc.ServerCertificateConfiguration:
        key, certificate, ca = current
        return grpc.ssl_server_certificate_configuration([(key, certificate)], ca)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal current
        try:
            latest = files.read()
        except InputError:  # in the middle of a rotation; the old certificate still serves
            return None
        if latest == current:
            return None
        current = latest
        return configuration()

    return grpc.dynamic_ssl_server_credentials(
        configuration(), changed, require_client_authentication=True
    )


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Mutual TLS with only the consortium's CA trusted."""
    require_tls13()
    key, certificate, ca = files.read()
    return grpc.ssl_channel_credentials(ca, key, certificate)


def server_options(keepalive: Keepalive) -> list[Option]:
    """A link is one stream; a connection that opens none is closed."""
    return [
        *_common_options(keepalive),
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", 4),
        ("grpc.max_connection_idle_ms", 30_000),
    ]


def channel_options(keepalive: Keepalive, proxy: str | None) -> list[Option]:
    """`proxy` is ``host:port`` or ``user:password@host:port``; the environment is not asked."""
    options: list[Option] = [
        *_common_options(keepalive),
        ("grpc.use_local_subchannel_pool", 1),  # no backoff state shared between two dials
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0 if proxy is None else 1),
    ]
    if proxy is not None:
        options.append(("grpc.http_proxy", proxy if "://" in proxy else f"http://{proxy}"))
    return options


def _common_options(keepalive: Keepalive) -> list[Option]:
    largest = FRAME_BYTES + 64
    return [
        *keepalive.options(),
        ("grpc.max_receive_message_length", largest),
        ("grpc.max_send_message_length", largest),
        ("grpc.http2.max_frame_size", FRAME_BYTES),
    ]
