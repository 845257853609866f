"""``cohortium vault``: encrypted files, their keys and whom they are shared with."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cohortium.cli.output import JsonOption, bytes_bar, emit, handle_errors, note, table
from cohortium.errors import CohortiumError, ConflictError, InputError, VerificationError

if TYPE_CHECKING:
    from cohortium.vault.filesystem import VaultFileSystem

app = typer.Typer(no_args_is_help=True, help="Encrypted files that only their recipients read.")

BUFFER_BYTES = 8 << 20

KeysOption = Annotated[
    Path | None,
    typer.Option(
        "--keys",
        envvar="COHORTIUM_VAULT_KEYS",
        help="Your key's file, or the folder of your keys; default: ~/.config/cohortium/vault.",
        show_default=False,
    ),
]
AnchorOption = Annotated[
    Path | None,
    typer.Option(
        "--anchor",
        help="Where the last version of each file is remembered; default: beside your keys.",
        dir_okay=False,
        show_default=False,
    ),
]
PlaceArgument = Annotated[
    str, typer.Argument(help="The encrypted file: a path, or a URL as s3://bucket/name.")
]
ToOption = Annotated[
    list[str] | None,
    typer.Option("--to", help="A recipient's public key: its .pub file or its text. Repeat it."),
]
FromOption = Annotated[
    list[str] | None,
    typer.Option(
        "--from", help="Only what this key has written: a .pub file or ed25519:... Repeat it."
    ),
]


def _keys(keys: Path | None) -> Path:
    from cohortium.vault.filesystem import default_keys

    return keys or default_keys()


@contextmanager
def _storage_errors(place: str) -> Iterator[None]:
    """What a file system says, as errors of the catalogue."""
    try:
        yield
    except CohortiumError:
        raise
    except FileNotFoundError as error:
        raise InputError("not-found", f"There is nothing at {error.filename or place}.") from error
    except ImportError as error:
        raise InputError(
            "missing-extra", f"This kind of URL needs more: pip install cohortium[s3] ({error})"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError("bad-input", f"The storage does not do that: {error}.") from error
    except Exception as error:
        # botocore's own errors have no other root.
        if type(error).__module__.partition(".")[0] != "botocore":
            raise
        raise InputError("bad-input", f"The storage does not do that: {error}") from error


def _open(
    place: str,
    keys: Path | None,
    anchor: Path | None,
    *,
    to: list[str] | None = None,
    of: list[str] | None = None,
) -> tuple[VaultFileSystem, str]:
    """The vault over the file system of a path or URL, and the path there."""
    from fsspec.core import url_to_fs

    from cohortium.vault.filesystem import VaultFileSystem
    from cohortium.vault.keys import Keyring, PublicKey

    below, path = url_to_fs(place)
    where = _keys(keys)
    ring = Keyring.load(where)
    recipients = [ring.first.public, *(PublicKey.named(value) for value in to or [])]
    folder = where if where.is_dir() else where.parent
    writers = [
        value if value.startswith("ed25519:") else PublicKey.named(value).signer
        for value in of or []
    ]
    vault = VaultFileSystem(
        ring,
        recipients=recipients,
        writers=writers or None,
        anchor=anchor or folder / "anchor.json",
        fs=below,
    )
    return vault, path


def _facts(vault: VaultFileSystem, path: str) -> dict[str, Any]:
    header = vault.header(path)
    mine = {key.public.key_id for key in vault.keyring}
    recipients = vault.recipients(path)
    return {
        "path": path,
        "size_bytes": vault.info(path)["size"],
        "file_id": header.file_id.hex(),
        "version": header.version,
        "writer": header.writer_key,
        "header_digest": f"sha256:{header.digest.hex()}",
        "recipients": [key.hex() for key in recipients],
        "opens": bool(mine & set(recipients)),
    }


@app.command()
@handle_errors
def keygen(
    name: Annotated[str, typer.Argument(help="The key's name.")] = "me",
    *,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """Make a key: a private file for you alone, and a public one to give to others."""
    from cohortium.vault.keys import PrivateKey

    if not name.isidentifier() and not name.replace("-", "_").isidentifier():
        raise InputError("bad-input", "A key's name has letters, digits, _ and - only.")
    key = PrivateKey.generate()
    file = _keys(keys) / f"{name}.key"
    with _storage_errors(str(file)):
        public = key.save(file)
    emit(
        {
            "key_file": str(file),
            "public_file": str(public),
            "fingerprint": key.public.fingerprint,
            "key_id": key.public.key_id.hex(),
            "writer": key.public.signer,
        },
        f"Private key: {file}\nKeep a copy in a safe place: without it nobody opens your files.\n"
        f"Public key:  {public}\nFingerprint: {key.public.fingerprint}",
        json,
    )


@app.command()
@handle_errors
def put(
    source: Annotated[Path, typer.Argument(help="The file to encrypt.", dir_okay=False)],
    target: PlaceArgument,
    *,
    to: ToOption = None,
    keys: KeysOption = None,
    anchor: AnchorOption = None,
    json: JsonOption = False,
) -> None:
    """Encrypt a file, for yourself and for those named with --to.

    Where there is a file of yours already, this is its next version.
    """
    with _storage_errors(target):
        vault, path = _open(target, keys, anchor, to=to)
        if vault.isdir(path):
            path = f"{path.rstrip('/')}/{source.name}"
        size = source.stat().st_size
        buffer = memoryview(bytearray(max(1, min(size, BUFFER_BYTES))))
        with (
            source.open("rb", buffering=0) as plain,
            bytes_bar("Encrypting", size, not json) as advance,
            vault.open(path, "wb") as file,
        ):
            while n := plain.readinto(buffer):
                file.write(buffer[:n])
                advance(n)
        facts = _facts(vault, path)
    emit(
        facts,
        f"{path}: version {facts['version']}, {size:,} bytes, "
        f"for {len(facts['recipients'])} recipient(s).\nIdentity: {facts['file_id']}",
        json,
    )


@app.command()
@handle_errors
def get(
    source: PlaceArgument,
    target: Annotated[Path, typer.Argument(help="Where the decrypted file goes.")],
    *,
    of: FromOption = None,
    keys: KeysOption = None,
    anchor: AnchorOption = None,
    json: JsonOption = False,
) -> None:
    """Decrypt a file; it is there only once all of it has been verified."""
    with _storage_errors(source):
        vault, path = _open(source, keys, anchor, of=of)
        if target.is_dir():
            target /= path.rpartition("/")[2]
        if target.exists():
            raise ConflictError(
                "already-exists", f"There is a file {target}; remove it or name another."
            )
        with vault.open(path) as file, bytes_bar("Decrypting", file.size, not json) as advance:
            _decrypt_to(target, file, advance)
            facts = {"path": path, "target": str(target), "size_bytes": file.size}
    emit(facts, f"{target}: {facts['size_bytes']:,} bytes.", json)


def _decrypt_to(target: Path, file: Any, advance: Callable[[int], None]) -> None:
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as plain:
            buffer = memoryview(bytearray(max(1, min(file.size, BUFFER_BYTES))))
            while n := file.readinto(buffer):
                left = buffer[:n]
                while left:  # an almost full disk takes a part
                    left = left[plain.write(left) :]
                advance(n)
            os.fsync(plain.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@app.command("ls")
@handle_errors
def list_files(
    place: Annotated[str, typer.Argument(help="A folder, or a URL as s3://bucket/folder.")] = ".",
    *,
    keys: KeysOption = None,
    json: JsonOption = False,
) -> None:
    """List a folder's vault files: length, version, and whether you can open them."""
    with _storage_errors(place):
        vault, path = _open(place, keys, None)
        found = [entry for entry in vault.ls(path) if entry["type"] == "file"]
        files, others = [], 0
        for entry in found:
            if entry["size"] is None:
                others += 1
                continue
            try:
                files.append(_facts(vault, entry["name"]))
            except VerificationError as error:
                files.append({"path": entry["name"], "error": error.to_wire()})
    rows = [
        [
            item["path"].rpartition("/")[2],
            f"{item['size_bytes']:,}" if "size_bytes" in item else "",
            item.get("version", ""),
            len(item.get("recipients", ())) or "",
            item["error"]["message"] if "error" in item else "yes" if item["opens"] else "no",
        ]
        for item in sorted(files, key=lambda item: str(item["path"]))
    ]
    columns = ("name", "bytes", "version", "recipients", "opens")
    emit(files, table(None, columns, rows) if rows else "No vault file is here.", json)
    if others and not json:
        note(f"{others} other file(s) here are not encrypted.")


@app.command()
@handle_errors
def share(
    place: PlaceArgument,
    to: Annotated[
        list[str],
        typer.Option("--to", help="A recipient's public key: its .pub file or its text."),
    ],
    *,
    keys: KeysOption = None,
    anchor: AnchorOption = None,
    json: JsonOption = False,
) -> None:
    """Let others open this version of a file; the file itself is not rewritten.

    It cannot be taken back: to shut somebody out, put the file again without them.
    """
    from cohortium.vault.keys import PublicKey

    with _storage_errors(place):
        vault, path = _open(place, keys, anchor)
        new = [PublicKey.named(value) for value in to]
        vault.share(path, new)
        facts = _facts(vault, path)
    lines = [f"{path} now opens for {len(facts['recipients'])} recipient(s). New:"]
    emit(facts, "\n".join([*lines, *(f"  {key.fingerprint}" for key in new)]), json)


@app.command()
@handle_errors
def verify(
    place: PlaceArgument,
    *,
    of: FromOption = None,
    file_id: Annotated[
        str | None, typer.Option("--id", help="The identity that the file must have (32 hex).")
    ] = None,
    forget: Annotated[
        bool,
        typer.Option("--forget", help="Believe this version: forget those seen before."),
    ] = False,
    keys: KeysOption = None,
    anchor: AnchorOption = None,
    json: JsonOption = False,
) -> None:
    """Verify every byte of a file, its writer, its identity, and that it is the last version."""
    from cohortium.vault.anchor import FileAnchor

    with _storage_errors(place):
        vault, path = _open(place, keys, anchor, of=of)
        header = vault.header(path)
        if file_id is not None and header.file_id.hex() != file_id.lower():
            raise VerificationError(
                "vault-identity", f"This file's identity is {header.file_id.hex()}."
            )
        remembered = vault.anchor
        if forget and isinstance(remembered, FileAnchor):
            remembered.forget(header.file_id)
        with vault.open(path) as file, bytes_bar("Verifying", file.size, not json) as advance:
            buffer = bytearray(max(1, min(file.size, BUFFER_BYTES)))
            while n := file.readinto(buffer):
                advance(n)
        facts = _facts(vault, path)
    emit(
        facts,
        f"{path} is intact: {facts['size_bytes']:,} bytes, version {facts['version']}.\n"
        f"Identity: {facts['file_id']}\nWriter:   {facts['writer']}\n"
        f"Digest of its header: {facts['header_digest']}",
        json,
    )
