"""A program on its way between machines: a ZIP of plain files, bound by the digest of its files.

What comes from elsewhere is read in memory, within bounds that are checked before anything is
unpacked; nothing of it is written until all of it is known to be plain files below one folder.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cohortium.contract.task import code_digest
from cohortium.errors import InputError, ProtocolError, VerificationError

MAX_CODE_BYTES: Final = 64 * 1024 * 1024
"""Of all files, unpacked."""
MAX_ARCHIVE_BYTES: Final = MAX_CODE_BYTES + 4 * 1024 * 1024
MOST_CODE_FILES: Final = 10_000

_LONGEST_PATH_CHARS: Final = 1000
_LONGEST_NAME_BYTES: Final = 255
_LARGEST_DIRECTORY_BYTES: Final = 4 * 1024 * 1024
_CACHE: Final = "__pycache__"
_END: Final = struct.Struct("<4s4H2LH")
"""The last record of an archive, without a comment (APPNOTE.TXT 4.3.16)."""
_END_MARK: Final = b"PK\x05\x06"
_UTF8: Final = 0x800
_ENCRYPTED: Final = 0x1 | 0x40 | 0x2000
_DATE: Final = (1980, 1, 1, 0, 0, 0)


def files_below(folder: Path) -> dict[str, bytes]:
    """A program's files by relative path; what Python caches of it is none of it.

    Raises:
        InputError: ``not-found``; ``bad-input`` where there is something other than files and
            folders, or a name that does not travel; ``too-large``.
    """
    if not folder.is_dir():
        raise InputError("not-found", f"There is no folder {folder}.")
    files: dict[str, bytes] = {}
    total = 0
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if _CACHE in path.relative_to(folder).parts:
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InputError("bad-input", f"{name} is neither a file nor a folder.")
        if not path.is_file():
            continue
        if fault := _fault(name):
            raise InputError("bad-input", f"The file {name!r} of a program {fault}.")
        total += path.stat().st_size
        if total > MAX_CODE_BYTES:
            raise InputError("too-large", "A program has 64 MiB at most; lend data as inputs.")
        if len(files) >= MOST_CODE_FILES:
            raise InputError("too-large", f"A program has {MOST_CODE_FILES} files at most.")
        files[name] = path.read_bytes()
    return files


def pack(folder: Path) -> bytes:
    """A program as a ZIP; the same files give the same bytes.

    Raises:
        InputError: As `files_below`; ``bad-input`` where there is no file.
    """
    files = files_below(folder)
    if not files:
        raise InputError("bad-input", f"There is no file in {folder}.")
    return packed(files)


def packed(files: Mapping[str, bytes]) -> bytes:
    """`pack` of files by relative path."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = 3  # Unix: else the mode is not looked at
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, files[name])
    return out.getvalue()


def files_of(archive: bytes, digest: str | None = None) -> dict[str, bytes]:
    """The files of a ZIP by relative path, in memory.

    Args:
        archive: Untrusted.
        digest: Where it is given, what `code_digest` of the files must be.

    Raises:
        ProtocolError: ``malformed-message`` where it is no archive of plain files within the
            bounds.
        VerificationError: ``bad-digest``.
    """
    # 1. It ends as an archive of not too many files does, so that listing it is cheap; 2. each is
    # a plain file, 3. below one folder, once, 4. none of them in the place of a folder; 5. they
    # are small enough by their own word, and 6. are then read no further than that word.
    _check_end(archive)  # 1
    files: dict[str, bytes] = {}
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            members = opened.infolist()
            for member in members:
                _check_member(member)  # 2, 3
            _check_places([member.filename for member in members])  # 3, 4
            if sum(member.file_size for member in members) > MAX_CODE_BYTES:  # 5
                raise _bad("more than 64 MiB in it")
            for member in members:
                files[member.filename] = _content(opened, member)  # 6
    except _FAULTS as error:
        raise _bad("what cannot be read in it") from error
    if digest is not None and code_digest(files) != digest:
        raise VerificationError("bad-digest", "The program is not the one that was asked for.")
    return files


def unpack(archive: bytes, folder: Path, digest: str | None = None) -> None:
    """Write the files of a ZIP into a new or empty folder, readable by its owner alone.

    Raises:
        ProtocolError, VerificationError: As `files_of`; nothing was written then.
        InputError: ``bad-input`` where the folder has content.
    """
    files = files_of(archive, digest)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise InputError("bad-input", f"{folder} is not empty.")
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
            file.write(content)


_FAULTS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)


def _bad(what: str) -> ProtocolError:
    return ProtocolError("malformed-message", f"The program's archive has {what}.")


def _check_end(archive: bytes) -> None:
    if len(archive) > MAX_ARCHIVE_BYTES:
        raise _bad("more bytes than a program may have")
    if len(archive) < _END.size or archive[-_END.size :][:4] != _END_MARK:
        raise _bad("no end, or something behind it")
    _mark, disk, first, here, count, size, offset, comment = _END.unpack(archive[-_END.size :])
    if disk or first or comment or here != count:
        raise _bad("parts elsewhere")
    if not 0 < count <= MOST_CODE_FILES:
        raise _bad(f"{count} files, and a program has 1 to {MOST_CODE_FILES}")
    if size > _LARGEST_DIRECTORY_BYTES or offset + size + _END.size != len(archive):
        raise _bad("a list of files that is not where it should be")


def _check_member(member: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if member.is_dir() or kind not in {0, stat.S_IFREG}:
        raise _bad("something other than plain files")
    if member.flag_bits & _ENCRYPTED:
        raise _bad("encrypted files")
    if member.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise _bad("files in another compression than DEFLATE")
    if member.orig_filename != member.filename or _fault(member.filename):
        raise _bad("a file whose name leads elsewhere or does not travel")
    if not member.filename.isascii() and not member.flag_bits & _UTF8:
        raise _bad("a file's name in another encoding than UTF-8")


def _check_places(names: list[str]) -> None:
    if len(set(names)) != len(names):
        raise _bad("two files of one name")
    folders = {
        "/".join(parts[:depth])
        for parts in (name.split("/") for name in names)
        for depth in range(1, len(parts))
    }
    if folders & set(names):
        raise _bad("a file in the place of a folder")


def _content(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with opened.open(member) as file:
        content = file.read(member.file_size + 1)
    if len(content) != member.file_size:
        raise _bad("a file of another size than it says")
    return content


def _fault(name: str) -> str | None:
    """What is wrong with a relative path, if anything."""
    parts = name.split("/")
    if len(name) > _LONGEST_PATH_CHARS:
        return "has too long a path"
    if any(part in {"", ".", ".."} for part in parts):
        return "leads elsewhere"
    if _CACHE in parts:
        return "is a cache, which no digest binds"
    if any(not letter.isprintable() or letter in "\\:" for letter in name):
        return "has letters in its name that do not travel"
    if any(len(part.encode()) > _LONGEST_NAME_BYTES for part in parts):
        return "has too long a name"
    return None
