"""``cohortium task``: run the tasks of a signed study, and open what they give.

cohortium task list STUDY
cohortium task run STUDY segment --argument epochs=14 --to results
cohortium task result RUN --to results
cohortium task logs RUN
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cohortium.cli.output import JsonOption, emit, handle_errors, note, table
from cohortium.cli.study import ProfileOption, StudyArgument
from cohortium.errors import CohortiumError, ConflictError, InputError, PolicyRefusal

if TYPE_CHECKING:
    from cohortium.contract.task import Scalar, Task
    from cohortium.sdk.run import Run
    from cohortium.sdk.tasks import OnBytes, StudyTask, TaskResult

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Programs over what institutions lent, run in an enclave: order them, open their outputs.",
)

INTERRUPTED = 130
LOG_LINES = 10
"""Of a failed program's log, that are shown at once."""

RunArgument = Annotated[
    str, typer.Argument(help="The run's id, or its first 8 characters.", show_default=False)
]
ToOption = Annotated[
    Path | None,
    typer.Option("--to", help="Decrypt the outputs that are for you into this folder."),
]


@app.command("list")
@handle_errors
def list_(study: StudyArgument, profile: ProfileOption = None, json: JsonOption = False) -> None:
    """List a study's tasks: what they read and give, and whose that is."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        tasks = federation.study(study).tasks
    rows = [
        (
            one.name,
            one.level,
            one.terms.code.name,
            "\n".join(f"{slot.name} ({', '.join(slot.owners)})" for slot in one.inputs),
            "\n".join(f"{slot.name} for {', '.join(slot.recipients)}" for slot in one.outputs),
            ", ".join(_argument(one.terms)),
        )
        for one in tasks.values()
    ]
    columns = ("task", "level", "program", "inputs", "outputs", "arguments")
    data = [{**one.terms.to_json(), "security_level": one.level} for one in tasks.values()]
    emit(data, table(None, columns, rows) if rows else "The study has no tasks.", json)


def _argument(task: Task) -> Iterator[str]:
    for one in task.arguments:
        if one.value is not None:
            yield f"{one.name}={one.value} (fixed)"
        else:
            yield one.name if one.required else f"[{one.name}]"


@app.command()
@handle_errors
def run(
    study: StudyArgument,
    name: Annotated[str, typer.Argument(help="The task's name.", show_default=False)],
    *,
    arguments: Annotated[
        list[str] | None, typer.Option("--argument", "-a", help="NAME=VALUE; several times.")
    ] = None,
    to: ToOption = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it has ended.")] = True,
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """Order a run of a task; each owner's node checks the enclave and releases its keys, or not."""
    from cohortium.sdk.federation import connect

    _require_new(to)
    with connect(profile=profile) as federation:
        task = federation.study(study).task(name)
        ordered = task.submit(**_values(task, arguments))
        if not wait:
            data = ordered.info.to_json()
            emit(data, f"Ordered: cohortium task result {ordered.id[:8]} --to FOLDER", json)
            return
        try:
            ordered.wait(progress=None if not json else False)
        except KeyboardInterrupt:
            note(f"It goes on. Later: cohortium task result {ordered.id[:8]} --to FOLDER")
            raise typer.Exit(INTERRUPTED) from None
        if ordered.status == "failed" and not json:
            _note_log(ordered)
            note(f"Run {ordered.id[:8]} failed. See: cohortium run show {ordered.id[:8]}")
        _show(_result(ordered), to, json)


@app.command()
@handle_errors
def result(
    run: RunArgument,
    *,
    to: ToOption = None,
    slot: Annotated[
        list[str] | None, typer.Option("--output", help="Only this output; several times.")
    ] = None,
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """Wait for a task's run, verify its outcome, and decrypt the outputs that are for you."""
    from cohortium.sdk.federation import connect

    _require_new(to)
    with connect(profile=profile) as federation:
        _show(_result(federation.run(run)), to, json, slot)


@app.command()
@handle_errors
def logs(run: RunArgument, profile: ProfileOption = None, json: JsonOption = False) -> None:
    """Print what a task's program printed, where the contract lets you read it."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        found = federation.run(run).wait().ended_task()
        text, truncated = found.log, found.outcome.log_truncated
    if text is None:
        raise PolicyRefusal(
            "not-authorised",
            "The contract does not give you the log of this task (log_recipients), or it printed "
            "nothing.",
        )
    if truncated and not json:
        note("It printed more than the contract's limit; the rest was dropped.")
    if not (text or json):
        note("The program printed nothing.")
        return
    emit({"log": text, "truncated": truncated}, text, json)


def _note_log(ordered: Run) -> None:
    """The end of what a failed program printed, where one may read it."""
    try:
        text = ordered.ended_task().log
    except CohortiumError:  # it never began, or is not for you; the run says why it failed
        return
    for line in (text or "").splitlines()[-LOG_LINES:]:
        note(f"  | {line}")


def _result(ordered: Run) -> TaskResult:
    from cohortium.sdk.tasks import TaskResult

    found = ordered.result()
    if not isinstance(found, TaskResult):
        raise InputError(
            "bad-input", f"{ordered.id[:8]} is no run of a task: cohortium run show {ordered.id}"
        )
    return found


def _show(found: TaskResult, to: Path | None, json: bool, slots: list[str] | None = None) -> None:
    written: dict[str, list[Path]] = {}
    if to is not None:
        with _bar(json) as on_bytes:
            written = found.download(to, slots, on_bytes)
    data = {
        "run": found.run.to_json(),
        "outcome": found.outcome.to_json(),
        "readable": list(found.readable),
        "written": {name: [str(one) for one in files] for name, files in written.items()},
    }
    lines = [str(found.summary()).rstrip(), "", found.run.line()]
    lines += [f"{name}: {one}" for name, files in written.items() for one in files]
    if to is None and found.readable:
        lines.append(f"To open them: cohortium task result {found.run.id[:8]} --to FOLDER")
    emit(data, "\n".join(lines), json)


@contextmanager
def _bar(json: bool) -> Iterator[OnBytes | None]:
    """Bytes of what is downloaded, where somebody looks."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    console = Console(stderr=True)
    if json or not console.is_terminal:
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        known: dict[str, Any] = {}

        def on_bytes(name: str, done: int, total: int) -> None:
            if name not in known:
                known[name] = progress.add_task(name, total=total)
            progress.update(known[name], completed=done)

        yield on_bytes


def _require_new(to: Path | None) -> None:
    """Before a run is spent on what cannot be written."""
    if to is None:
        return
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise ConflictError("already-exists", f"{to} is there already; name a new folder.")
    if not to.absolute().parent.is_dir():
        raise InputError("not-found", f"There is no folder for {to}; make it first.")


def _values(task: StudyTask, given: list[str] | None) -> dict[str, Scalar]:
    out: dict[str, Scalar] = {}
    for text in given or []:
        name, equals, value = text.partition("=")
        if not (name and equals):
            raise InputError("bad-input", f"--argument is NAME=VALUE, not {text!r}.")
        if name in out:
            raise InputError("bad-input", f"--argument {name} is given twice.")
        out[name] = value
    task.terms.bound(out)
    return out
