"""``cohortium node ledger``: this node's copy of the hub's ledger, and alarms about it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cohortium.cli.output import JsonOption, emit, handle_errors, table

app = typer.Typer(
    no_args_is_help=True, help="This node's copy of the hub's ledger, and alarms about it."
)

DirOption = Annotated[
    Path,
    typer.Option(
        "--dir", envvar="COHORTIUM_NODE_DIR", help="The node's folder.", show_default=False
    ),
]


def _open(directory: Path) -> Any:
    from cohortium.node.config import NodeDir
    from cohortium.node.store import NodeStore

    folder = NodeDir(directory)
    folder.load_config()
    return NodeStore(folder.store)


@app.command()
@handle_errors
def status(dir: DirOption, json: JsonOption = False) -> None:  # noqa: A002
    """How far the copy goes, what this node cosigned, and what is final."""
    from cohortium.node import alarms, ledger_copy
    from cohortium.node.replica import Replica

    store = _open(dir)
    data = ledger_copy.summary(Replica(store))
    data["alarms"] = [shown(alarm) for alarm in alarms.alarms(store, only_open=True)]
    lines = [
        f"entries    {data['size']}",
        f"key        {data['key'] or 'not known yet'}",
        f"           {data['key_fingerprint'] or ''}",
    ]
    for kind, label in (("cosigned", "cosigned"), ("final", "final")):
        lines.append(f"{label:<10} {_checkpoint_text(data[kind])}")
    lines += [alarm_line(alarm) for alarm in data["alarms"]]
    emit(data, "\n".join(lines), json)


def _checkpoint_text(stored: Any) -> str:
    if stored is None:
        return "nothing yet"
    return f"{stored['size']} entries, {datetime.fromisoformat(stored['at']):%Y-%m-%d %H:%M:%S} UTC"


def shown(alarm: Any) -> dict[str, Any]:
    """An alarm as JSON values, with its proof as text where that is text."""
    return {
        "id": alarm.id,
        "kind": alarm.kind,
        "code": alarm.code,
        "message": alarm.message,
        "raised_at": alarm.raised_at,
        "accepted_at": alarm.accepted_at,
        "answer": alarm.answer,
        "seen": alarm.seen.decode("utf-8", "replace"),
        "received": alarm.received.decode("utf-8", "replace"),
    }


def alarm_line(alarm: Any) -> str:
    """One open alarm for people."""
    return f"ALARM {alarm['id']}    {alarm['kind']} since {alarm['raised_at']}: {alarm['message']}"


@app.command()
@handle_errors
def verify(dir: DirOption, json: JsonOption = False) -> None:  # noqa: A002
    """Recompute the whole copy: entries, tiles, root, members, and the checkpoints' signatures."""
    from cohortium.node.ledger_copy import verify as recompute
    from cohortium.node.replica import Replica

    found = recompute(Replica(_open(dir)))
    emit(
        {"entries": found.entries, "final": found.final, "root": found.root},
        f"The copy of {found.entries} entries holds; {found.final} of them are final.\n"
        f"Root: {found.root}",
        json,
    )


@app.command()
@handle_errors
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder, or one exported before.")],
    dir: DirOption,  # noqa: A002
    newest: Annotated[
        bool, typer.Option("--newest", help="Also what too few members have witnessed yet.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write the copy as static files (C2SP tlog-tiles) that anyone can mirror and verify."""
    from cohortium.node.ledger_copy import export as write
    from cohortium.node.replica import Replica

    files = write(Replica(_open(dir)), folder, newest=newest)
    emit({"folder": str(folder), "files": files}, f"{files} files are in {folder}.", json)


@app.command()
@handle_errors
def alarms(
    dir: DirOption,  # noqa: A002
    proof: Annotated[
        Path | None,
        typer.Option(
            "--proof", help="Write both signed checkpoints and the entries into this folder."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Every alarm about the hub's ledger, also those that were accepted."""
    from cohortium.node.alarms import alarms as stored
    from cohortium.node.alarms import write_proof

    found = stored(_open(dir))
    if proof is not None:
        for alarm in found:
            write_proof(alarm, proof / f"alarm-{alarm.id}")
    rows = [
        [alarm.id, alarm.kind, alarm.raised_at, alarm.answer or "OPEN", alarm.message]
        for alarm in found
    ]
    text = (
        table(None, ["", "kind", "since", "answer", "what"], rows)
        if found
        else "There was never an alarm."
    )
    emit([shown(alarm) for alarm in found], text, json)


@app.command()
@handle_errors
def accept(
    alarm: Annotated[int, typer.Argument(help="The alarm's number.")],
    dir: DirOption,  # noqa: A002
    key: Annotated[
        str | None,
        typer.Option(help="Fingerprint of the ledger's key that counts from now on."),
    ] = None,
    start_over: Annotated[
        bool,
        typer.Option(
            "--start-over", help="Set this copy aside and take the hub's ledger from its beginning."
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """End an alarm, after it was settled with the hub's operator and the other institutions."""
    from cohortium.node.alarms import find
    from cohortium.node.ledger_copy import export as write
    from cohortium.node.replica import Replica
    from cohortium.node.witness import accept as decide

    store = _open(dir)
    text = ""
    find(store, alarm)
    if start_over and Replica(store).checkpoint("seen") is not None:
        aside = dir / f"ledger-before-alarm-{alarm}"
        write(Replica(store), aside, newest=True)
        text = f"\nThe copy of until now is in {aside}."
    ended = decide(store, alarm, key_fingerprint=key, start_over=start_over)
    text = f"Alarm {alarm} is ended ({ended.answer}); its proof stays." + text
    emit(shown(ended), text, json)
