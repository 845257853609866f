"""``cohortium lend``: what an institution lends to tasks, and what tasks have given to it.

cohortium lend add retina images/ --kind dataset --dir node
cohortium study assign vessels segment/images retina --dir node
cohortium lend received --dir node
cohortium lend open 3f2a model --to results --dir node
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cohortium.cli.node import DirOption
from cohortium.cli.output import JsonOption, bytes_bar, emit, handle_errors, note, table
from cohortium.core.clock import to_rfc3339

if TYPE_CHECKING:
    from cohortium.node.lending import Lending
    from cohortium.node.lent import Lent

app = typer.Typer(
    no_args_is_help=True,
    help="Lend encrypted data, models and parameters to tasks; open what tasks gave.",
)

NameArgument = Annotated[
    str, typer.Argument(help="What it is called here and in contracts.", show_default=False)
]
RunArgument = Annotated[
    str, typer.Argument(help="The run's id, or how it begins.", show_default=False)
]


def _lending(directory: Path) -> Lending:
    from cohortium.core.clock import system_clock
    from cohortium.node.config import NodeDir
    from cohortium.node.lending import Lending

    folder = NodeDir(directory)
    folder.load_config()
    return Lending.of(folder, system_clock)


def _data(lent: Lent) -> dict[str, Any]:
    from cohortium.core.clock import to_rfc3339

    return {
        "name": lent.name,
        "kind": lent.kind,
        "digest": lent.artefact,
        "files": len(lent.files.files),
        "size_bytes": lent.plain_bytes,
        "stored_bytes": lent.stored_bytes,
        "source": lent.source,
        "writer": lent.writer,
        "added_at": to_rfc3339(lent.added_at),
    }


@app.command()
@handle_errors
def add(
    name: NameArgument,
    source: Annotated[
        Path,
        typer.Argument(
            help="A file or folder; it is encrypted. Vault files that are for this node's key stay "
            "as they are.",
            show_default=False,
        ),
    ],
    dir: DirOption,  # noqa: A002
    *,
    kind: Annotated[
        Literal["dataset", "model", "parameters"], typer.Option("--kind", help="What it is.")
    ] = "dataset",
    json: JsonOption = False,
) -> None:
    """Encrypt a file or folder into this node, to fill a slot of a task with it."""
    from cohortium.node.taken_in import files_of

    lending = _lending(dir)
    total = sum(path.stat().st_size for path in files_of(source).values())
    with bytes_bar("Encrypting", total, not json) as advance:
        lent = lending.lent.add(name, kind, source, advance)
    text = (
        f"{name}: {len(lent.files.files):,} file(s), {lent.plain_bytes:,} bytes, as {kind}.\n"
        f"Digest: {lent.artefact}\n"
        f"Fill a slot with it: cohortium study assign STUDY TASK/SLOT {name} --dir {dir}"
    )
    emit(_data(lent), text, json)


@app.command("list")
@handle_errors
def list_(dir: DirOption, json: JsonOption = False) -> None:  # noqa: A002
    """List what this node lends, and the studies that name it."""
    lending = _lending(dir)
    used = _studies(dir)
    found = [lending.lent.get(name) for name in lending.lent.names()]
    data = [{**_data(one), "studies": used.get(one.artefact, [])} for one in found]
    rows = [
        (
            one["name"],
            one["kind"],
            one["files"],
            f"{one['size_bytes']:,}",
            f"{one['digest'][:19]}...",
            ", ".join(one["studies"]),
        )
        for one in data
    ]
    columns = ("name", "kind", "files", "bytes", "digest", "studies")
    emit(data, table(None, columns, rows) if rows else "This node lends nothing.", json)


@app.command()
@handle_errors
def show(
    name: NameArgument,
    dir: DirOption,  # noqa: A002
    *,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte, and compare it with the digest.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show the files of what is lent: paths, ciphertext's sizes and digests."""
    lending = _lending(dir)
    lent = lending.lent.get(name)
    if verify:
        with bytes_bar("Verifying", lent.stored_bytes, not json) as advance:
            lending.lent.verify(lent, advance)
    data = {
        **_data(lent),
        "studies": _studies(dir).get(lent.artefact, []),
        "contents": [one.to_json() for one in lent.files.files],
    }
    rows = [
        (one.path or lent.source, f"{one.size_bytes:,}", one.content_digest)
        for one in lent.files.files
    ]
    title = f"{name} ({lent.kind}) {lent.artefact}"
    emit(data, table(title, ("file", "encrypted bytes", "digest"), rows), json)


@app.command()
@handle_errors
def remove(
    name: NameArgument,
    dir: DirOption,  # noqa: A002
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete this node's copy; tasks that name it can no longer run."""
    lending = _lending(dir)
    studies = _studies(dir).get(lending.lent.get(name).artefact, [])
    if studies:
        note(f"Signed here with {name}, and cannot run without it: {', '.join(studies)}.")
    if not yes and not typer.confirm(f"Delete the node's copy of {name}?", err=True):
        note("Nothing was deleted.")
        raise typer.Exit(1)
    lending.lent.remove(name)
    emit({"name": name, "removed": True, "studies": studies}, f"{name} is removed.", json)


def _studies(directory: Path) -> dict[str, list[str]]:
    """Studies that this node has agreed to, by the digest of what they name."""
    from cohortium.cli.node import open_store
    from cohortium.node.consent import AGREED
    from cohortium.node.life import open_contract

    found: dict[str, list[str]] = {}
    for stored in open_store(directory).contracts():
        if stored.state not in AGREED:
            continue
        inputs = [slot for task in open_contract(stored).tasks for slot in task.inputs]
        for digest in {one.artefact.content_digest for one in inputs if one.artefact}:
            if digest is not None:
                found.setdefault(digest, []).append(stored.study)
    return found


@app.command()
@handle_errors
def received(dir: DirOption, json: JsonOption = False) -> None:  # noqa: A002
    """List what tasks gave to this institution; it is here encrypted."""
    found = _lending(dir).received.all()
    data = [
        {
            "run_id": one.run_id,
            "study": one.study,
            "task": one.task,
            "enclave": one.enclave,
            "end": one.end,
            "at": to_rfc3339(one.at),
            "stored_bytes": one.stored_bytes,
            "outputs": {made.slot: made.size_bytes for made in one.outputs},
        }
        for one in found
    ]
    rows = [
        (
            one.at.strftime("%Y-%m-%d %H:%M"),
            one.run_id[:8],
            f"{one.study} {one.task}",
            one.end,
            ", ".join(made.slot for made in one.outputs),
        )
        for one in found
    ]
    columns = ("at", "run", "study and task", "end", "outputs")
    emit(data, table(None, columns, rows) if rows else "No task has given anything yet.", json)


@app.command()
@handle_errors
def discard(
    run: RunArgument,
    dir: DirOption,  # noqa: A002
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete what a run gave; it is not fetched again."""
    folder = _lending(dir).received
    found = folder.find(run)
    what = ", ".join(made.slot for made in found.outputs)
    if not yes and not typer.confirm(f"Delete {what} of run {found.run_id[:8]}?", err=True):
        note("Nothing was deleted.")
        raise typer.Exit(1)
    folder.remove(found.run_id)
    emit({"run_id": found.run_id, "removed": True}, f"{what} is deleted.", json)


@app.command("open")
@handle_errors
def open_(
    run: RunArgument,
    slot: Annotated[str, typer.Argument(help="The output, or log.", show_default=False)],
    to: Annotated[Path, typer.Option("--to", help="The folder for the decrypted files.")],
    dir: DirOption,  # noqa: A002
    *,
    json: JsonOption = False,
) -> None:
    """Decrypt an output that is for this institution."""
    folder = _lending(dir).received
    found = folder.find(run)
    with bytes_bar("Decrypting", found.stored_bytes, not json) as advance:
        files = folder.open(run, slot, to, advance)
    data = {"run_id": found.run_id, "slot": slot, "files": [str(path) for path in files]}
    emit(data, f"{len(files):,} file(s) in {to}.", json)
