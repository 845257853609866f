"""``cohortium hub``: make a consortium, serve it, admit institutions and researchers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cohortium.cli.output import JsonOption, emit, handle_errors, note, table

if TYPE_CHECKING:
    from cohortium.hub.config import HubConfig
    from cohortium.hub.folder import HubFolder
    from cohortium.hub.member_store import Member, User
    from cohortium.hub.members import Membership

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="Run a consortium's hub and its membership."
)

DirArgument = Annotated[
    Path,
    typer.Argument(envvar="COHORTIUM_HUB_DIR", help="The hub's folder.", show_default=False),
]
DirOption = Annotated[
    Path,
    typer.Option("--dir", envvar="COHORTIUM_HUB_DIR", help="The hub's folder."),
]
NameArgument = Annotated[
    str, typer.Argument(help="Name of the institution, person or enclave.", show_default=False)
]
HERE = Path("hub")
_JOIN = {
    "site": "cohortium node join INVITATION --dir node",
    "researcher": "cohortium user create INVITATION",
    "enclave": "cohortium enclave init INVITATION --dir enclave",
}


@contextmanager
def _membership(directory: Path) -> Iterator[tuple[HubFolder, Membership]]:
    from cohortium.hub.folder import HubFolder

    folder = HubFolder(directory)
    store = folder.store()
    try:
        yield folder, folder.membership(store)
    finally:
        store.close()


@app.command()
@handle_errors
def init(  # noqa: PLR0917 - options by name
    directory: DirArgument,
    name: Annotated[
        str | None, typer.Option(help="The consortium's name; by default Consortium.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    public_host: Annotated[
        str | None, typer.Option(help="Name or address for members; by default --host.")
    ] = None,
    rest_port: Annotated[int, typer.Option(help="0 picks a free port when served.")] = 0,
    link_port: Annotated[int, typer.Option(help="0 picks a free port when served.")] = 0,
    database_url: Annotated[
        str, typer.Option(help="sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME.")
    ] = "sqlite:///hub.db",
    ledger: Annotated[
        Path | None,
        typer.Option(help="Take over a lost hub: folder that a member exported its ledger to."),
    ] = None,
    authority: Annotated[
        Path | None, typer.Option(help="With --ledger: backup of the lost hub's ca folder.")
    ] = None,
    ledger_key: Annotated[
        str | None,
        typer.Option(help="With --ledger: the lost hub's ledger key, if not in --authority."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make a consortium: its certificate authority, the hub's TLS certificate and database.

    With --ledger and --authority: go on with a consortium whose hub is lost.
    """
    from pydantic import ValidationError

    from cohortium.core.model import explain
    from cohortium.errors import InputError
    from cohortium.hub.config import HubConfig
    from cohortium.hub.folder import create

    try:
        config = HubConfig(
            name=name or "Consortium",
            host=host,
            public_host=public_host or host,
            rest_port=rest_port,
            link_port=link_port,
            database_url=database_url,
        )
    except ValidationError as error:
        raise InputError("bad-config", explain(error)) from error
    if ledger is not None or authority is not None or ledger_key is not None:
        if name is not None:
            raise InputError("bad-input", "With --ledger the consortium keeps its name.")
        _take_over(directory, config, ledger, authority, ledger_key, json)
        return
    folder = create(directory, config)
    fingerprint = folder.load_authority().fingerprint
    emit(
        {"name": config.name, "dir": str(directory), "fingerprint": fingerprint},
        f"{config.name} is ready in {directory}.\nCA fingerprint: {fingerprint}\n"
        f"Next: cohortium hub serve {directory}",
        json,
    )


def _take_over(  # noqa: PLR0917
    directory: Path,
    config: HubConfig,
    ledger: Path | None,
    authority: Path | None,
    ledger_key: str | None,
    json: bool,
) -> None:
    from cohortium.errors import InputError
    from cohortium.hub.takeover import take_over

    if ledger is None:
        raise InputError(
            "bad-input",
            "Say from which copy of the ledger: --ledger FOLDER, as `cohortium node ledger export "
            "FOLDER` writes it.",
        )
    if authority is None:
        raise InputError(
            "bad-input",
            "A hub takes over with the backup of the lost hub's ca folder: --authority FOLDER. "
            "Without it no node will trust the new hub: found a new consortium (`cohortium hub "
            "init` without --ledger) and invite every member and researcher anew. The old ledger "
            "stays evidence that `cohortium audit verify` can check; nothing goes on from it.",
        )
    found = take_over(directory, config, ledger=ledger, authority=authority, ledger_key=ledger_key)
    emit(
        {
            "name": found.name,
            "dir": str(directory),
            "size": found.size,
            "members": list(found.members),
            "researchers": found.researchers,
            "studies": list(found.studies),
            "ledger_key_fingerprint": found.key_fingerprint,
        },
        f"{found.name} goes on in {directory} from a ledger of {found.size:,} entries: "
        f"{len(found.members)} members, {found.researchers} researchers, "
        f"{len(found.studies)} studies.\n"
        f"Key fingerprint of its ledger: {found.key_fingerprint}\n"
        f"Next: back up {directory / 'ca'}, run `cohortium hub serve {directory}`, and read the "
        "fingerprint to every steward by telephone. Their nodes have stopped with an alarm and go "
        "on after `cohortium node ledger accept`. Open invitations, open runs and results of the "
        "lost hub are gone; contracts come back from the nodes that hold them.",
        json,
    )


@app.command()
@handle_errors
def serve(directory: DirArgument = HERE, json: JsonOption = False) -> None:
    """Serve REST and the nodes' link until stopped."""
    from cohortium.hub.main import serve as serve_hub

    def ready(address: dict[str, Any]) -> None:
        text = f"REST {address['rest']}\nLink {address['link']}\nStop with Ctrl-C."
        emit(address, text, json)

    serve_hub(directory, ready)


@app.command()
@handle_errors
def invite(
    name: NameArgument,
    directory: DirOption = HERE,
    *,
    researcher: Annotated[
        bool, typer.Option("--researcher", help="Invite a person, not an institution.")
    ] = False,
    enclave: Annotated[
        bool, typer.Option("--enclave", help="Invite a machine that runs tasks.")
    ] = False,
    days: Annotated[float, typer.Option(min=0.0, help="Days until it expires.")] = 14.0,
    json: JsonOption = False,
) -> None:
    """Print a one-time invitation: for an institution, a person or an enclave."""
    from cohortium.errors import InputError

    if researcher and enclave:
        raise InputError("bad-input", "Invite a person or an enclave, not both.")
    kind: Literal["site", "researcher", "enclave"] = "enclave" if enclave else "site"
    if researcher:
        kind = "researcher"
    with _membership(directory) as (folder, membership):
        invitation = membership.invite(
            name,
            kind=kind,
            hub=folder.rest_address(),
            days=days,
        )
    text = invitation.to_text()
    run = _JOIN[kind]
    emit(
        {
            "invitation": text,
            "name": name,
            "kind": invitation.kind,
            "expires_at": invitation.to_json()["expires_at"],
        },
        text,
        json,
    )
    if not json:
        note(
            f"For {name}; it works once, until {invitation.to_json()['expires_at']}. "
            f"They run: {run}\nCA fingerprint: {invitation.ca}"
        )


@app.command()
@handle_errors
def members(directory: DirOption = HERE, json: JsonOption = False) -> None:
    """List the institutions: status, link, key fingerprint, published datasets."""
    with _membership(directory) as (folder, membership):
        connected, datasets = folder.connected(), membership.store.datasets()
        rows = [
            {
                **_shown(member),
                "connected": member.name in connected,
                "datasets": [dataset.name for dataset in datasets.get(member.name, [])],
            }
            for member in membership.store.members()
        ]
    columns = ["Name", "Status", "Connected", "Key fingerprint", "Datasets"]
    cells = [
        [
            row["name"],
            row["status"],
            "yes" if row["connected"] else "no",
            row["key_fingerprint"],
            ", ".join(row["datasets"]),
        ]
        for row in rows
    ]
    emit(rows, table(None, columns, cells), json)


@app.command()
@handle_errors
def enclaves(directory: DirOption = HERE, json: JsonOption = False) -> None:
    """List the enclaves: status, link, key fingerprint."""
    with _membership(directory) as (folder, membership):
        connected = folder.connected()
        rows = [
            {**_shown(one), "connected": one.name in connected}
            for one in membership.store.enclaves()
        ]
    cells = [
        [
            row["name"],
            row["status"],
            "yes" if row["connected"] else "no",
            row["key_fingerprint"],
        ]
        for row in rows
    ]
    emit(rows, table(None, ["Name", "Status", "Connected", "Key fingerprint"], cells), json)


def _shown(one: Member | User) -> dict[str, Any]:
    from cohortium.crypto.keys import fingerprint

    return {
        "name": one.name,
        "status": one.status,
        "key": one.key,
        "key_fingerprint": fingerprint(one.key),
        "since": one.created_at,
    }


def _change(directory: Path, change: Callable[[Membership], Member], text: str, json: bool) -> None:
    with _membership(directory) as (_, membership):
        member = _shown(change(membership))
    emit(member, text, json)


@app.command()
@handle_errors
def approve(name: NameArgument, directory: DirOption = HERE, json: JsonOption = False) -> None:
    """Let an institution or an enclave in, after comparing its key fingerprint by telephone."""
    with _membership(directory) as (_, membership):
        member = _shown(membership.approve(name))
    emit(member, f"{name} is approved. Its key fingerprint: {member['key_fingerprint']}", json)


@app.command()
@handle_errors
def suspend(name: NameArgument, directory: DirOption = HERE, json: JsonOption = False) -> None:
    """Keep an institution or an enclave out for now; its link is cut within a second."""
    _change(directory, lambda members: members.suspend(name), f"{name} is suspended.", json)


@app.command()
@handle_errors
def reinstate(name: NameArgument, directory: DirOption = HERE, json: JsonOption = False) -> None:
    """Let a suspended institution or enclave in again."""
    _change(directory, lambda members: members.reinstate(name), f"{name} is reinstated.", json)


@app.command()
@handle_errors
def remove(name: NameArgument, directory: DirOption = HERE, json: JsonOption = False) -> None:
    """Remove an institution or an enclave for good and revoke its certificates."""
    _change(directory, lambda members: members.remove(name), f"{name} is removed.", json)


@app.command()
@handle_errors
def revoke(name: NameArgument, directory: DirOption = HERE, json: JsonOption = False) -> None:
    """Revoke certificates of an institution or an enclave; it joins anew with an invitation."""
    with _membership(directory) as (_, membership):
        count = membership.revoke_certificates(name)
    emit({"name": name, "revoked": count}, f"{count} certificates of {name} are revoked.", json)


@app.command()
@handle_errors
def users(directory: DirOption = HERE, json: JsonOption = False) -> None:
    """List the researchers."""
    with _membership(directory) as (_, membership):
        rows = [_shown(user) for user in membership.store.users()]
    cells = [[row["name"], row["status"], row["key_fingerprint"]] for row in rows]
    emit(rows, table(None, ["Name", "Status", "Key fingerprint"], cells), json)


@app.command("remove-user")
@handle_errors
def remove_user(name: NameArgument, directory: DirOption = HERE, json: JsonOption = False) -> None:
    """Remove a researcher; every node is told to refuse the key."""
    with _membership(directory) as (_, membership):
        user = membership.remove_user(name)
    emit({"name": user.name, "status": user.status}, f"{name} is removed.", json)
