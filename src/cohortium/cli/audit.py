"""``cohortium audit``: the evidence of a study, exported at a hub and verified anywhere.

cohortium audit export STUDY -o FILE
cohortium audit verify FILE --results FOLDER
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cohortium.cli.output import JsonOption, emit, handle_errors, note, plain, table
from cohortium.cli.study import ProfileOption, StudyArgument
from cohortium.errors import InputError

if TYPE_CHECKING:
    from cohortium.audit.steps import Unchecked
    from cohortium.audit.verify import Report, Trust

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Export the evidence of a study, and verify it offline, from public keys alone.",
)


@app.command()
@handle_errors
def export(
    study: StudyArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The bundle's file; default STUDY.audit.json."),
    ] = None,
    whole: Annotated[
        bool,
        typer.Option("--whole", help="With all entries of the ledger: shows that none is left out"),
    ] = False,
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """Write the audit bundle of a study, once it has been verified here."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        audit = federation.study(study).audit(whole=whole)
    path = audit.save(output or Path(f"{study}.audit.json"))
    data = {"file": str(path), "bytes": len(audit.data), **_summary(audit.report)}
    emit(data, f"{_holds(audit.report)}\nWritten to {path}; anybody can verify it there.", json)


@app.command()
@handle_errors
def verify(
    bundle: Annotated[
        Path,
        typer.Argument(help="The bundle's file.", show_default=False, dir_okay=False),
    ],
    *,
    result: Annotated[
        list[str] | None,
        typer.Option(help="A result as `run show -o FILE.json` writes it: FILE or RUN=FILE."),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(help="A folder of such results (*.json).", file_okay=False),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="A key that you know: NAME=ed25519:..., several times."),
    ] = None,
    trust: Annotated[
        Path | None,
        typer.Option(help='Keys that you know: {"keys": {NAME: KEY}, "log": KEY}.', dir_okay=False),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option(
            help="An institution's copy (`node ledger export`): shows that no entry is left out.",
            file_okay=False,
        ),
    ] = None,
    collateral: Annotated[
        Path | None,
        typer.Option(
            help="Collateral of enclaves' platforms, of that time (`enclave collateral import`).",
            file_okay=False,
        ),
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(help="The identity of a machine that you take at level L5; several times."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Check every fact of a bundle, print what happened, or name the first that does not hold."""
    from cohortium.audit import verify as audit
    from cohortium.audit.appraisal import appraiser
    from cohortium.ledger.tiles import read_folder

    known = _trust(trust, key or [])
    for folder in (ledger, collateral):
        if folder is not None and not folder.is_dir():
            raise InputError("not-found", f"There is no folder {folder}.")
    found = audit.verify(
        _read(bundle),
        trust=known,
        results=_results(result or [], results),
        copy=None if ledger is None else read_folder(ledger),
        appraise=appraiser(collateral, platforms=platform),
    )
    for name in (text.rpartition("=")[0] for text in key or []):
        if name not in {party.name for party in found.parties}:
            raise InputError("not-found", f"The contract names nobody {name!r}: see --key.")
    emit(found.to_json(), None if json else _shown(found), json)


def _summary(report: Report) -> dict[str, Any]:
    data = report.to_json()
    shown = ("study", "entries_in_log", "complete", "steps", "unchecked")
    return {name: data[name] for name in shown}


def _holds(report: Report) -> str:
    facts = sum(report.checked.values())
    held = f"{report.study}: all {facts} facts hold, in {len(report.checked)} steps"
    if not report.unchecked:
        return f"{held}."
    left = [f"  {_place(one)}: {one.why}." for one in report.unchecked]
    return "\n".join([f"{held}, of those that could be checked here. NOT CHECKED:", *left])


def _place(one: Unchecked) -> str:
    from cohortium.audit.steps import STEPS

    step = STEPS[one.step]
    where = "" if one.index is None else f", entry {one.index}"
    return f"step {step.number} ({step.name}){where}"


def _shown(report: Report) -> Any:
    from rich.console import Group
    from rich.text import Text

    events = [(f"{e.at:%Y-%m-%d %H:%M:%S}", e.who, e.what, e.index) for e in report.events]
    parties = [party.to_json() for party in report.parties]
    keys = [
        (p["role"], p["name"], p["fingerprint"], "as you gave it" if p["pinned"] else "compare")
        for p in parties
    ]
    missing = (
        "All entries of the ledger were seen: none about the study is left out."
        if report.complete
        else "It cannot be seen whether entries were left out; with --ledger FOLDER it can."
    )
    compared = ", ".join(run[:8] for run in report.results)
    lines = [
        f"Consortium: {report.consortium[0]}, {report.consortium[1]}",
        _holds(report),
        missing,
        *(
            [f"{len(report.unproven)} entries are the hub's word alone, and count for nothing."]
            if report.unproven
            else []
        ),
        f"Results compared: {compared or 'none; give them with --results FOLDER.'}",
    ]
    return Group(
        table(None, ("time (UTC)", "who", "what", "entry"), events),
        table("Keys that all of this rests on", ("role", "name", "fingerprint", ""), keys),
        Text(plain("\n".join(lines))),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError("not-found", f"{path} cannot be read: {error.strerror}.") from error


def _trust(file: Path | None, given: list[str]) -> Trust:
    from cohortium.audit.verify import Trust
    from cohortium.core.canonical import parse_json
    from cohortium.errors import ProtocolError

    keys: dict[str, set[str]] = {}
    log: str | None = None
    if file is not None:
        wrong = InputError("bad-input", f'{file} is not {{"keys": {{NAME: KEY}}, "log": KEY}}.')
        try:
            held = parse_json(_read(file))
        except ProtocolError as error:
            raise wrong from error
        if not isinstance(held, dict) or not held.keys() <= {"keys", "log"}:
            raise wrong
        log = held.get("log")
        listed = held.get("keys", {})
        if not isinstance(log, str | None) or not isinstance(listed, dict):
            raise wrong
        for name, one in listed.items():
            several = one if isinstance(one, list) else [one]
            if not all(isinstance(text, str) for text in several):
                raise wrong
            keys.setdefault(name, set()).update(several)
    for text in given:
        name, equals, one = text.rpartition("=")
        if not equals or not name or not one.startswith("ed25519:"):
            raise InputError("bad-input", f"--key is NAME=ed25519:..., not {text!r}.")
        keys.setdefault(name, set()).add(one)
    return Trust({name: frozenset(some) for name, some in keys.items()}, log)


def _results(given: list[str], folder: Path | None) -> dict[str, bytes]:
    """Canonical results by run."""
    found: dict[str, bytes] = {}
    for text in given:
        run, equals, name = text.partition("=")
        path = Path(name if equals else text)
        one = _result(path)
        if one is None:
            raise InputError(
                "bad-input",
                f"{path} is not a result as `cohortium run show RUN -o FILE.json` writes it.",
            )
        if equals and not (run and one[0].startswith(run)):
            raise InputError("bad-input", f"{path} says that it is of run {one[0]}, not {run}.")
        _add(found, *one)
    if folder is not None and not folder.is_dir():
        raise InputError("not-found", f"There is no folder {folder}.")
    for path in [] if folder is None else sorted(folder.glob("*.json")):
        one = _result(path)
        if one is None:
            note(f"{path} is not a result; it was not compared.")
        else:
            _add(found, *one)
    return found


def _add(found: dict[str, bytes], run: str, result: bytes) -> None:
    if found.setdefault(run, result) != result:
        raise InputError("bad-input", f"There are two different results of run {run}.")


def _result(path: Path) -> tuple[str, bytes] | None:
    """The run and the canonical result in a file, or None where it is another kind of file."""
    from cohortium.core.canonical import canonical, parse_json
    from cohortium.errors import ProtocolError

    data = _read(path)
    try:
        held = parse_json(data)
        run = held["run"]["id"]
        return (run, canonical(held["result"])) if isinstance(run, str) else None
    except (ProtocolError, InputError, TypeError, LookupError):
        return None
