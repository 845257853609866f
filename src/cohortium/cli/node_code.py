"""``cohortium node code``: read the program of a task before the contract is signed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cohortium.cli.output import JsonOption, emit, handle_errors, note, plain, table
from cohortium.errors import InputError

DirOption = Annotated[
    Path,
    typer.Option(
        "--dir", envvar="COHORTIUM_NODE_DIR", help="The node's folder.", show_default=False
    ),
]


@handle_errors
def code(
    study: Annotated[
        str, typer.Argument(help="The study's id, or the contract's digest.", show_default=False)
    ],
    task: Annotated[str, typer.Argument(help="The task's name.", show_default=False)],
    dir: DirOption,  # noqa: A002
    *,
    to: Annotated[
        Path | None, typer.Option("--to", help="Write the program into this new folder.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show the program that a task would run; it is what the contract's digest names."""
    from cohortium.core.canonical import digest_bytes
    from cohortium.node.config import NodeDir
    from cohortium.node.consent import find_contract
    from cohortium.node.life import open_contract
    from cohortium.node.programs import Programs
    from cohortium.node.store import NodeStore

    folder = NodeDir(dir)
    folder.load_config()
    contract = open_contract(find_contract(NodeStore(folder.store), study))
    found = next((one for one in contract.tasks if one.name == task), None)
    if found is None:
        known = ", ".join(one.name for one in contract.tasks) or "none"
        raise InputError("not-found", f"The contract has no task {task!r}; it has {known}.")
    if found.code.built_in:
        emit(
            {"task": task, "program": found.code.name, "built_in": True},
            f"{task} runs {found.code.name}, which comes with Cohortium.",
            json,
        )
        return
    programs, digest = Programs(folder.code), found.code.content_digest
    files = programs.files(digest)
    if to is not None:
        programs.copy(digest, to)
    listed = [
        {"path": path, "size_bytes": len(content), "digest": digest_bytes(content)}
        for path, content in sorted(files.items())
    ]
    data = {
        "task": task,
        "program": found.code.name,
        "owner": found.code.owner,
        "digest": digest,
        "files": listed,
        "to": None if to is None else str(to),
    }
    title = f"{found.code.name} of {plain(found.code.owner)}: {digest}"
    rows = [(one["path"], f"{one['size_bytes']:,}", one["digest"]) for one in listed]
    emit(data, table(title, ("file", "bytes", "digest"), rows), json)
    if not json:
        again = f"To read them: cohortium node code {study} {task} --to FOLDER --dir {dir}"
        note(again if to is None else f"Written to {to}: read them before you sign.")
