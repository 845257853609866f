"""``cohortium enclave tpm``: a host that a TPM 2.0 measures, and its enrolment at a site.

cohortium enclave tpm request request.json                     at the host
cohortium enclave tpm challenge request.json challenge.json    at the site
cohortium enclave tpm answer challenge.json answer.json        at the host
cohortium enclave tpm enrol answer.json                        at the site
cohortium enclave tpm show                                     at the host
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cohortium.cli.output import JsonOption, emit, handle_errors
from cohortium.core.clock import system_clock
from cohortium.core.model import Document
from cohortium.errors import ConflictError, InputError, ProtocolError

if TYPE_CHECKING:
    from cohortium.enclave.tpm_host import TpmHost

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="A host that a TPM 2.0 measures (L3): enrol it at a site, and read what it measured.",
)
_LARGEST_BYTES = 1024 * 1024
_Read = TypeVar("_Read", bound=Document)

FolderOption = Annotated[
    Path | None,
    typer.Option(
        "--folder",
        help="The host's key and its log of tasks; default: /var/lib/cohortium/tpm.",
        file_okay=False,
    ),
]
TpmOption = Annotated[
    str | None,
    typer.Option(
        "--tpm", help="Which TPM, as tpm2-tss names it (TCTI); default: device:/dev/tpmrm0."
    ),
]
KeptOption = Annotated[
    Path,
    typer.Option("--kept", help="What this site keeps until the answer comes; show it to nobody."),
]


@app.command()
@handle_errors
def show(*, folder: FolderOption = None, tpm: TpmOption = None, json: JsonOption = False) -> None:
    """Print this host's Name, and its PCRs now as a contract names them."""
    host = _host(folder, tpm)
    key, values = host.key(), host.registers()
    found = [{"kind": f"pcr{index}", "value": values[index].hex()} for index in key.pcrs]
    lines = [f"platform: {key.name}", "measurements:"]
    lines += [f"  - {{kind: {one['kind']}, value: {one['value']}}}" for one in found]
    emit({"platform": key.name, "measurements": found}, "\n".join(lines), json)


@app.command()
@handle_errors
def request(
    out: Annotated[Path, typer.Argument(help="A new file, for the site that is to enrol it.")],
    *,
    pcrs: Annotated[
        list[int] | None,
        typer.Option("--pcr", help="What is quoted beside PCR 14, several times; default: 0 to 9."),
    ] = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Replace the key that is there.")
    ] = False,
    folder: FolderOption = None,
    tpm: TpmOption = None,
    json: JsonOption = False,
) -> None:
    """Make this host's attestation key, and write what a site enrols it by."""
    from cohortium.enclave import tpm_exchange
    from cohortium.enclave.tpm_host import BOOT_PCRS

    _require_new(out)
    host = _host(folder, tpm)
    if new_key or not host.has_key:
        host.make_key(pcrs or BOOT_PCRS)
    elif pcrs:
        raise ConflictError(
            "already-exists",
            f"There is a key in {host.folder}, with its PCRs; --new-key makes another, which is "
            "to be enrolled again.",
        )
    asked = tpm_exchange.request(host)
    _write(out, asked)
    certified = asked.certificate is not None
    data = {
        "platform": host.key().name,
        "endorsement_key": asked.fingerprint,
        "certificate": certified,
        "file": str(out),
    }
    lines = [f"{out}: for the site that is to enrol this host, {data['platform']}."]
    if not certified:
        lines.append(
            f"Its TPM has no certificate of its maker; its endorsement key is {asked.fingerprint}."
        )
    emit(data, "\n".join(lines), json)


@app.command()
@handle_errors
def challenge(
    asked: Annotated[
        Path, typer.Argument(metavar="REQUEST", help="What the host wrote.", exists=True)
    ],
    out: Annotated[Path, typer.Argument(metavar="CHALLENGE", help="A new file, for the host.")],
    *,
    roots: Annotated[
        list[Path] | None,
        typer.Option("--root", help="A TPM maker's root certificate that you trust.", exists=True),
    ] = None,
    intermediates: Annotated[
        list[Path] | None,
        typer.Option("--intermediate", help="A certificate between both.", exists=True),
    ] = None,
    endorsement_key: Annotated[
        str | None,
        typer.Option(
            help="sha256:...; in place of --root, where you know the TPM's key by another way."
        ),
    ] = None,
    kept: KeptOption = Path("tpm-kept.json"),
    json: JsonOption = False,
) -> None:
    """Ask a host to show that its TPM holds the attestation key."""
    from cohortium.enclave import tpm_exchange

    _require_new(out)
    _require_new(kept)
    question, secret = tpm_exchange.challenge(
        _read(asked, tpm_exchange.Request),
        roots=_certificates(roots),
        intermediates=_certificates(intermediates),
        fingerprint=endorsement_key,
        now=system_clock(),
        random=secrets.token_bytes,
    )
    _write(kept, secret)
    _write(out, question)
    data = {"platform": secret.name, "file": str(out), "kept": str(kept)}
    emit(data, f"{out}: for the host. {kept}: stays here, until the answer comes.", json)


@app.command()
@handle_errors
def answer(
    question: Annotated[
        Path, typer.Argument(metavar="CHALLENGE", help="What the site wrote.", exists=True)
    ],
    out: Annotated[Path, typer.Argument(metavar="ANSWER", help="A new file, for the site.")],
    *,
    folder: FolderOption = None,
    tpm: TpmOption = None,
    json: JsonOption = False,
) -> None:
    """Open a site's challenge with this host's TPM."""
    from cohortium.enclave import tpm_exchange

    _require_new(out)
    host = _host(folder, tpm)
    _write(out, tpm_exchange.answer(host, _read(question, tpm_exchange.Question)))
    emit({"platform": host.key().name, "file": str(out)}, f"{out}: for the site.", json)


@app.command()
@handle_errors
def enrol(
    given: Annotated[
        Path, typer.Argument(metavar="ANSWER", help="What the host wrote.", exists=True)
    ],
    *,
    kept: KeptOption = Path("tpm-kept.json"),
    json: JsonOption = False,
) -> None:
    """Print the Name of a host that gave the right answer, for the list of platforms."""
    from cohortium.enclave import tpm_exchange

    name = tpm_exchange.accept(_read(kept, tpm_exchange.Kept), _read(given, tpm_exchange.Answer))
    kept.unlink()
    emit({"platform": name}, name, json)


def _host(folder: Path | None, tpm: str | None) -> TpmHost:
    from cohortium.enclave.tpm import DEVICE
    from cohortium.enclave.tpm_host import FOLDER, TpmHost

    return TpmHost(folder or FOLDER, tpm or DEVICE)


def _certificates(files: list[Path] | None) -> list[bytes]:
    from cohortium.enclave.tpm_exchange import certificates

    return [one for file in files or [] for one in certificates(_bytes(file))]


def _read(file: Path, kind: type[_Read]) -> _Read:
    try:
        return kind.from_bytes(_bytes(file))
    except ProtocolError as error:
        raise InputError("bad-input", f"{file} is not what is needed here: {error}") from error


def _bytes(file: Path) -> bytes:
    try:
        if file.stat().st_size > _LARGEST_BYTES:
            raise InputError("too-large", f"{file} is too large for what it should be.")
        return file.read_bytes()
    except OSError as error:
        raise InputError("bad-input", f"{file} cannot be read: {error.strerror}.") from error


def _require_new(file: Path) -> None:
    if file.exists():
        raise ConflictError("already-exists", f"{file} is there already; name a new file.")


def _write(file: Path, content: Document) -> None:
    try:
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(content.to_bytes())
    except OSError as error:
        raise InputError("bad-input", f"{file} cannot be written: {error.strerror}.") from error
