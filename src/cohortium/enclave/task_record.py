"""What a measured host measures before a task starts; its verifiers compute the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from cohortium.contract.task import Scalar
from cohortium.core.canonical import canonical
from cohortium.core.canonical import digest as digest_of
from cohortium.enclave import manifest
from cohortium.enclave.attestation.tpm_events import task_digests
from cohortium.enclave.job import Job, Source
from cohortium.errors import InputError

_CHUNK_BYTES: Final = 1 << 20


def contract_record(
    code: str, arguments: Mapping[str, Scalar], inputs: Mapping[str, str]
) -> tuple[bytes, ...]:
    """The record of a contract's task, from nothing but what the contract and the run name.

    Args:
        code: Digest of the program.
        arguments: All that the run has.
        inputs: Slot to digest. Data keys come only after the evidence, so that of a vault's files
            it is the ciphertext that a digest can name.
    """
    named = [f"{name}={canonical(arguments[name]).decode()}" for name in sorted(arguments)]
    return task_digests(code, named, inputs)


def task_record(job: Job) -> tuple[bytes, ...]:
    """The record of a job: of a contract's what that names; of any other the program's files, its
    command, and the contents of its inputs.

    Raises:
        InputError: Something of it cannot be read.
    """
    if job.record:
        return job.record
    contents = {slot: content_digest(source) for slot, source in job.inputs.items()}
    return task_digests(manifest.digest(job.code), job.argv, contents)


def content_digest(source: Path | Source) -> str:
    """Of a file its SHA-256; of a folder that of its files' digests by relative path.

    Raises:
        InputError: ``bad-data``: it cannot be read.
    """
    try:
        if isinstance(source, Path):
            found = {name: _digest(_chunks(source / name)) for name in _files(source)}
        else:
            found = {name: _digest(source.chunks(name)) for name, _ in source.files()}
    except OSError as error:
        raise InputError("bad-data", f"An input cannot be measured: {error}.") from error
    return found[""] if set(found) == {""} else digest_of(found)


def _files(top: Path) -> list[str]:
    if not top.is_dir():
        return [""]
    return [one.relative_to(top).as_posix() for one in sorted(top.rglob("*")) if one.is_file()]


def _chunks(path: Path) -> Iterable[bytes]:
    with path.open("rb") as file:
        while part := file.read(_CHUNK_BYTES):
            yield part


def _digest(chunks: Iterable[bytes]) -> str:
    out = hashlib.sha256()
    for part in chunks:
        out.update(part)
    return f"sha256:{out.hexdigest()}"
