"""Programs in a study's file: a folder, a wheel or a built-in one, in place of name and digest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cohortium.contract.code import MAX_ARCHIVE_BYTES, files_below, files_of, packed
from cohortium.contract.task import BUILTIN_PREFIX, code_digest
from cohortium.errors import CohortiumError, InputError

BuiltinDigest = Callable[[str], str]
"""The digest of ``builtin:NAME`` as it is here; InputError ``not-found`` where there is none."""

Place = tuple[str | int, ...]
MANIFEST: Final = "task.yaml"


@dataclass(frozen=True)
class Coded:
    """A study's file with programs by name and digest.

    Attributes:
        study: As it was read, with the programs' digests in it.
        archives: ZIP by digest, of programs that were read here: what a hub has to be given.
        faults: What is wrong, by its place in the file.
    """

    study: dict[str, Any]
    archives: dict[str, bytes] = field(default_factory=dict)
    faults: list[tuple[Place, str]] = field(default_factory=list)


def with_code(
    study: Mapping[str, Any],
    base: Path | None,
    builtin: BuiltinDigest | None = None,
    owner: str | None = None,
) -> Coded:
    """Replace what stands for a program by its name and digest.

        code: {folder: trainer, owner: Ada}       files below a folder, its task.yaml among them
        code: {wheel: dist/trainer-1.0-py3-none-any.whl, owner: Ada}      the files in it
        code: builtin:join                        of this release

    Args:
        base: Where paths begin; absent: the file may not name any.
        builtin: What is built in; absent: its digest has to stand in the file.
        owner: Of programs for which the file names no owner: who proposes the study.
    """
    coded = Coded(dict(study))
    for place, holder in _holders(coded.study):
        try:
            holder["code"], archive = _code(holder["code"], base, builtin, owner)
        except CohortiumError as error:
            coded.faults.append(((*place, "code"), error.message))
        else:
            if archive is not None:
                coded.archives[holder["code"]["content_digest"]] = archive
    return coded


def _other_version(name: str) -> InputError:
    return InputError("bad-input", f"{name} is here in another version than the contract's.")


def _holders(study: dict[str, Any]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Copies, put into the study, of what has a program."""
    for part in ("computations", "tasks"):
        entries = study.get(part)
        if not isinstance(entries, list):
            continue
        study[part] = copies = [dict(one) if isinstance(one, dict) else one for one in entries]
        for number, one in enumerate(copies):
            if isinstance(one, dict) and "code" in one:
                yield (part, number), one


def _code(
    said: Any, base: Path | None, builtin: BuiltinDigest | None, owner: str | None
) -> tuple[Any, bytes | None]:
    """The code as a contract has it, and the archive of what was read."""
    code = {"name": said} if isinstance(said, str) else said
    if not isinstance(code, dict):
        return said, None  # the schema says what is wrong
    code = dict(code)
    if owner is not None:
        code.setdefault("owner", owner)
    where = [key for key in ("folder", "wheel") if key in code]
    if where:
        return _read(code, where, base)
    name = code.get("name")
    if isinstance(name, str) and name.startswith(BUILTIN_PREFIX) and builtin is not None:
        code.setdefault("public", True)
        known = builtin(name)
        if code.setdefault("content_digest", known) != known:
            raise _other_version(name)
    return code, None


def _read(
    code: dict[str, Any], where: list[str], base: Path | None
) -> tuple[dict[str, Any], bytes]:
    path = code.pop(where[0])
    if len(where) > 1 or not isinstance(path, str):
        raise InputError("bad-proposal", "A program is one folder or one wheel.")
    if base is None:
        raise InputError(
            "bad-proposal", "A program's path is understood in a file only; give its digest."
        )
    files = _wheel(base / path) if where == ["wheel"] else files_below(base / path)
    if MANIFEST not in files:
        raise InputError("bad-proposal", f"{path} has no {MANIFEST}, which says how it is started.")
    found = code_digest(files)
    if code.setdefault("content_digest", found) != found:
        raise InputError("bad-proposal", f"{path} is another program than the digest says.")
    stem = Path(path).name.split("-")[0] if where == ["wheel"] else (base / path).resolve().name
    code.setdefault("name", _name(stem))
    return code, packed(files)


def _wheel(path: Path) -> dict[str, bytes]:
    try:
        if path.stat().st_size > MAX_ARCHIVE_BYTES:
            raise InputError("too-large", "A program has 64 MiB at most; lend data as inputs.")
        return files_of(path.read_bytes())
    except OSError as error:
        raise InputError("not-found", f"{path} cannot be read: {error.strerror}.") from error


def _name(text: str) -> str:
    found = re.sub(r"[^A-Za-z0-9_]+", "_", text).strip("_")[:64]
    return found if re.match(r"[A-Za-z]", found) else "program"
