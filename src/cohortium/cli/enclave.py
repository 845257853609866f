"""``cohortium enclave``: where programs run on lent data, and how well they are kept in.

cohortium enclave doctor
cohortium enclave try FOLDER --input images=FILE --results FOLDER
cohortium enclave try builtin:join --input left=FILE --input right=FILE --argument id=COLUMN
cohortium enclave collateral import FILE
cohortium enclave tpm request FILE
cohortium enclave init INVITATION --dir D
cohortium enclave serve D
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cohortium.cli import collateral, enclave_worker, tpm
from cohortium.cli.output import JsonOption, emit, handle_errors, plain
from cohortium.errors import ConflictError, InputError

if TYPE_CHECKING:
    from cohortium.enclave.job import Outcome, Sink, Source
    from cohortium.enclave.levels import Offer
    from cohortium.enclave.manifest import Manifest
    from cohortium.vault.filesystem import VaultFileSystem

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Where programs run on lent data: what this machine can offer, a try of a program, and "
    "the worker that runs contracts' tasks.",
)
app.add_typer(collateral.app, name="collateral")
app.add_typer(tpm.app, name="tpm")
enclave_worker.register(app)


@app.command()
@handle_errors
def doctor(json: JsonOption = False) -> None:
    """Print which security levels this machine can offer, and why not the others."""
    from cohortium.enclave.executor import executors
    from cohortium.enclave.levels import offers

    found = offers(executors().values())
    emit([_offer_data(one) for one in found], "\n".join(map(_offer_text, found)), json)


@app.command("try")
@handle_errors
def try_(
    folder: Annotated[
        str,
        typer.Argument(help="The program's folder, with its task.yaml; or builtin:NAME."),
    ],
    *,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            "--input",
            help="NAME=PATH: a file or folder for a slot, or vault://PATH; several times.",
        ),
    ] = None,
    arguments: Annotated[
        list[str] | None, typer.Option("--argument", help="NAME=VALUE; several times.")
    ] = None,
    results: Annotated[
        str | None,
        typer.Option("--results", help="A new folder for the outputs, or vault://FOLDER."),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="Where it runs: landlock, bubblewrap, process, ...")
    ] = "landlock",
    packages: Annotated[
        Path | None,
        typer.Option(
            help="The environment of Python packages that it uses (a venv); default: this one.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    inputs_by: Annotated[
        Literal["auto", "memory", "mount"],
        typer.Option(
            help="How vault:// inputs get inside: memory (copied), mount (decrypted as they are "
            "read; landlock and bubblewrap), or auto (mount where they are large)."
        ),
    ] = "auto",
    json: JsonOption = False,
) -> None:
    """Run a program as a task would run, on files of your own: no contract, no other owner."""
    from cohortium.enclave.executor import executor as find_executor

    sink = None if results is None else _sink(results)
    given = {name: _given(name, path) for name, path in _pairs("--input", inputs)}
    task, code, digest = _program(folder, given)
    readable = () if packages is None else (packages,)
    job = task.job(code, given, dict(_pairs("--argument", arguments)), readable)
    job = replace(job, inputs_by=inputs_by)
    place = find_executor(executor)
    running = place.start(place.prepare(job))
    try:
        outcome = running.wait(None if json else _show)
    except BaseException:
        # Nothing of it stays, as a folder with decrypted inputs would.
        running.stop()
        running.wait()
        running.collect(None)
        raise
    running.collect(sink)
    data = _outcome_data(outcome, digest, results)
    emit(data, _outcome_text(outcome, results), json)
    if outcome.end != "succeeded":
        raise typer.Exit(ConflictError.exit_code)


def _program(named: str, inputs: Iterable[str]) -> tuple[Manifest, Path, str]:
    """The program's manifest, folder and digest."""
    from cohortium.enclave import builtin, manifest

    if named.startswith(builtin.PREFIX):
        found = builtin.find(named)
        return found.manifest(inputs), builtin.FOLDER, found.digest
    folder = Path(named)
    if not folder.is_dir():
        raise InputError(
            "not-found", f"There is no folder {named[:200]}; name a program's, or builtin:NAME."
        )
    return manifest.read(folder), folder, manifest.digest(folder)


def _pairs(option: str, given: list[str] | None) -> list[tuple[str, str]]:
    out = []
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InputError("bad-input", f"{option} is NAME=VALUE, not {text!r}.")
        out.append((name, value))
    return out


def _given(name: str, path: str) -> Path | Source:
    if path.startswith("vault:"):
        from cohortium.enclave.vaulted import VaultedInput

        return VaultedInput(*_vault(path))
    found = Path(path)
    if not found.exists():
        raise InputError("not-found", f"There is no {path}, which {name} should be.")
    return found


def _sink(results: str) -> Sink:
    if results.startswith("vault:"):
        from cohortium.enclave.vaulted import VaultedOutputs

        vault, folder = _vault(results)
        if vault.exists(folder):
            raise ConflictError("already-exists", f"{results} is there already; name a new folder.")
        return VaultedOutputs(vault, folder)
    from cohortium.enclave.supervised import FolderSink

    if Path(results).exists():
        raise ConflictError("already-exists", f"{results} is there already; name a new folder.")
    if not Path(results).absolute().parent.is_dir():
        raise InputError("not-found", f"There is no folder for {results}; make it first.")
    return FolderSink(Path(results))


def _vault(url: str) -> tuple[VaultFileSystem, str]:
    """``vault://PATH`` or, over another file system, ``vault::s3://BUCKET/PATH``."""
    from fsspec.core import url_to_fs

    try:
        vault, path = url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise InputError("bad-input", f"{url} is no place in a vault: {error}.") from error
    return vault, path


def _show(text: bytes) -> None:
    sys.stdout.write(plain(text.decode(errors="replace")))
    sys.stdout.flush()


def _offer_data(one: Offer) -> dict[str, Any]:
    return {
        "level": one.level,
        "offered": one.offered,
        "executors": list(one.executors),
        "requirements": [
            {
                "text": line.text,
                "holds": line.holds,
                "missing": line.missing,
                "needed": line.needed,
            }
            for line in one.requirements
        ],
    }


def _offer_text(one: Offer) -> str:
    from cohortium.enclave.levels import MEANING

    word = f"yes, by {', '.join(one.executors)}" if one.offered else "no"
    lines = [f"{one.level}  {MEANING[one.level]}: {word}"]
    for line in one.requirements:
        if line.needed and not line.holds:
            lines.append(f"      {line.text}: {line.missing}")
        elif not line.needed:
            lines.append(
                f"      with {line.text}"
                if line.holds
                else f"      without {line.text}: {line.missing}"
            )
    return "\n".join(lines)


def _outcome_data(outcome: Outcome, digest: str, results: str | None) -> dict[str, Any]:
    return {
        "end": outcome.end,
        "log": outcome.log.decode(errors="replace"),
        "log_truncated": outcome.log_truncated,
        "cpu_s": outcome.cpu_s,
        "largest_process_bytes": outcome.largest_process_bytes,
        "code_digest": digest,
        "results": results,
    }


def _outcome_text(outcome: Outcome, results: str | None) -> str:
    said = {
        "succeeded": "It succeeded",
        "failed": "It failed",
        "stopped": "It was stopped",
    }.get(outcome.end, f"It went beyond its limit ({outcome.end}; see `limits` in task.yaml)")
    used = f"{outcome.cpu_s:.1f} s of processor time"
    where = f"; its outputs are in {results}" if results and outcome.end == "succeeded" else ""
    return f"{said}: {used}, {outcome.largest_process_bytes / 2**20:.0f} MiB{where}."
