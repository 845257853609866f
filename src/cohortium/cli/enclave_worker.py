"""``cohortium enclave``: a machine that runs contracts' tasks on what institutions lend.

cohortium enclave init INVITATION --dir D
cohortium enclave packages add requirements.lock --dir D
cohortium enclave serve D
cohortium enclave status D
cohortium enclave measure FOLDER
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cohortium.cli.output import JsonOption, emit, handle_errors, note, table

if TYPE_CHECKING:
    from cohortium.worker.measure import Measured
    from cohortium.worker.packages import PackageSets
    from cohortium.worker.store import StoredRun

DirOption = Annotated[
    Path,
    typer.Option(
        "--dir", envvar="COHORTIUM_ENCLAVE_DIR", help="The enclave's folder.", show_default=False
    ),
]
DirArgument = Annotated[
    Path, typer.Argument(envvar="COHORTIUM_ENCLAVE_DIR", help="The enclave's folder.")
]

packages_app = typer.Typer(
    no_args_is_help=True,
    help="Python packages of tasks: an environment for each lock file, made before a task needs "
    "it. A program with requirements.lock runs only where the environment of that very file is.",
)


def register(app: typer.Typer) -> None:
    """Add these commands to ``cohortium enclave``."""
    for command in (init, serve, status, measure):
        app.command()(command)
    app.add_typer(packages_app, name="packages")


@handle_errors
def init(
    invitation: Annotated[str, typer.Argument(help="The line that the hub's operator sent.")],
    dir: DirOption,  # noqa: A002 - the option's name
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the operator's approval.")
    ] = True,
    proxy: Annotated[
        str | None, typer.Option(help="HTTP proxy (host:port) that the enclave dials through.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make this enclave's keys and enrol it with an invitation.

    Run it again with the same invitation to fetch the certificate after the approval. Example:

    cohortium enclave init cohortium-invite-1.eyJ... --dir enclave
    """
    from cohortium.worker import join as joining

    def told(state: Any) -> None:
        if not json:
            note(
                "Compare by telephone with the hub's operator before it approves, and with whoever "
                f"writes contracts that name this enclave:\n"
                f"  Consortium  {state.consortium}\n"
                f"    CA        {state.ca_fingerprint}\n"
                f"  Enclave     {state.name}\n"
                f"    key       {state.key_fingerprint}"
            )
        if wait and state.status != "approved":
            note("Waiting for the operator's approval (Ctrl-C is safe; run this again) ...")

    joined = joining.join(invitation, dir, wait=wait, on_progress=told, proxy=proxy)
    if joined.status == "approved":
        text = (
            f"{joined.name} may run tasks for {joined.consortium}.\n"
            f"Next: cohortium enclave doctor\n"
            f"      cohortium enclave serve {dir}"
        )
    else:
        text = (
            "Enrolled. Once the operator has approved, run the same command again:\n"
            f"  cohortium enclave init INVITATION --dir {dir}"
        )
    emit(joined.to_json(), text, json)


@handle_errors
def serve(
    directory: DirArgument,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Keep the link to the hub and run the tasks that signed contracts allow.

    Log lines say which run is at which step, and never what is in it. Example:

    cohortium enclave serve enclave
    """
    import logging

    from cohortium.worker.folder import EnclaveDir
    from cohortium.worker.main import require_joined
    from cohortium.worker.main import serve as run

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    require_joined(EnclaveDir(directory))
    run(directory)


@handle_errors
def status(directory: DirArgument, json: JsonOption = False) -> None:
    """Whether the enclave is connected, what it runs, and how its last runs ended."""
    from cohortium.crypto.keys import fingerprint
    from cohortium.worker.folder import EnclaveDir
    from cohortium.worker.main import said_of_itself
    from cohortium.worker.packages import PackageSets
    from cohortium.worker.store import RunStore

    folder = EnclaveDir(directory)
    config = folder.load_config()
    key = folder.load_identity(config).key.public
    store = RunStore(folder.store)
    try:
        runs = store.latest()
    finally:
        store.close()
    serving = said_of_itself(folder)
    data = {
        "name": config.name,
        "key": key,
        "key_fingerprint": fingerprint(key),
        "hub": config.link_address,
        "serving": serving,
        "executors": list(config.executors),
        "packages": [one.digest for one in PackageSets(folder.packages).all()],
        "runs": [_run_data(one, (serving or {}).get("runs", {})) for one in runs],
    }
    emit(data, _status_text(data), json)


def _run_data(run: StoredRun, stages: Mapping[str, str]) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "study": run.study,
        "task": run.task,
        "executor": run.executor,
        "begun_at": run.begun_at,
        "ended_at": run.ended_at,
        "end": run.how,
        "stage": stages.get(run.run_id) if run.how is None else None,
        "told_hub": run.sent,
    }


def _status_text(data: Mapping[str, Any]) -> str:
    serving = data["serving"]
    if serving is None:
        state = "not serving"
    elif serving["connected"]:
        state = f"connected since {serving['since']}"
    else:
        state = f"down: {serving['last_error'] or 'dialling'}"
    lines = [
        data["name"],
        f"key        {data['key_fingerprint']}",
        f"link       {state} ({data['hub']})",
        f"executors  {', '.join(data['executors'])}",
        f"packages   {len(data['packages'])} environments",
    ]
    for one in data["runs"]:
        how = one["end"] or one["stage"] or "lost"
        owed = "" if one["told_hub"] or one["end"] is None else "  (the hub does not know yet)"
        lines.append(
            f"run        {one['begun_at']}  {one['run_id'][:8]}  {one['study']} {one['task']}: "
            f"{how}{owed}"
        )
    return "\n".join(lines)


@handle_errors
def measure(
    programs: Annotated[
        list[str],
        typer.Argument(help="A program's folder, with its task.yaml, or builtin:NAME; several."),
    ],
    *,
    executor: Annotated[
        str | None, typer.Option(help="Only what this executor measures: tdx, tpm, simulated ...")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Print what a contract has to name: the program's digest, and measurements of this machine.

    Example, and what of it goes into a proposal:

    cohortium enclave measure segment/ --executor simulated
    """
    from cohortium.contract.model import Environment
    from cohortium.enclave.executor import executor as find_executor
    from cohortium.enclave.executor import executors
    from cohortium.worker.measure import of_executor, program_digest

    installed = executors(Environment(allow_simulated=True))
    if executor is not None:
        installed = {executor: find_executor(executor, Environment(allow_simulated=True))}
    data = []
    for program in programs:
        digest = program_digest(program)
        found = [of_executor(place, digest) for place in installed.values()]
        data.append((program, digest, found))
    shown = [
        {"program": name, "content_digest": digest, "executors": [one.to_json() for one in found]}
        for name, digest, found in data
    ]
    emit(shown, "\n\n".join(_measure_text(*one) for one in data), json)


def _measure_text(program: str, digest: str, found: Sequence[Measured]) -> str:
    lines = [program, f"  content_digest: {digest}"]
    for one in found:
        lines.append(f"  {one.executor}: {one.note}")
        lines += [f"    - {{kind: {m.kind}, value: {m.value}}}" for m in one.measurements]
    return "\n".join(lines)


def _packages(directory: Path) -> PackageSets:
    from cohortium.worker.folder import EnclaveDir
    from cohortium.worker.packages import PackageSets

    folder = EnclaveDir(directory)
    folder.load_config()
    return PackageSets(folder.packages)


@packages_app.command("add")
@handle_errors
def add_packages(
    lock: Annotated[
        Path, typer.Argument(help="The program's requirements.lock.", dir_okay=False, exists=True)
    ],
    dir: DirOption,  # noqa: A002
    wheels: Annotated[
        Path | None,
        typer.Option(
            help="A folder with all wheels that it names: nothing is fetched then.",
            file_okay=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make the environment of a lock file, for all programs with that very file.

    Every package stands in it with its version, dependencies too, best with hashes. Example:

    cohortium enclave packages add segment/requirements.lock --wheels wheels --dir enclave
    """
    made = _packages(dir).add(lock, wheels)
    text = f"{len(made.packages)} packages, for programs whose {lock.name} is\n  {made.digest}"
    if not made.hashed:
        text += "\nIt names versions without hashes: what was installed under them is not bound."
    emit(made.to_json(), text, json)


@packages_app.command("list")
@handle_errors
def list_packages(dir: DirOption, json: JsonOption = False) -> None:  # noqa: A002
    """The environments of packages that tasks can use here."""
    found = _packages(dir).all()
    rows = [
        [one.digest, one.added_at, "yes" if one.hashed else "no", ", ".join(one.packages)]
        for one in found
    ]
    text = table(None, ["lock file", "added", "hashes", "packages"], rows) if rows else "None."
    emit([one.to_json() for one in found], text, json)


@packages_app.command("remove")
@handle_errors
def remove_packages(
    digest: Annotated[str, typer.Argument(help="Of the lock file, or how it begins.")],
    dir: DirOption,  # noqa: A002
    json: JsonOption = False,
) -> None:
    """Remove an environment; programs that need it are refused from now on."""
    gone = _packages(dir).remove(digest)
    emit(gone.to_json(), f"Removed {gone.digest}.", json)
