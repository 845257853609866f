"""``cohortium node``: join a consortium, serve, look at and control this institution's node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from cohortium.cli.node_code import code
from cohortium.cli.node_ledger import app as ledger_app
from cohortium.cli.node_policy import app as policy_app
from cohortium.cli.output import JsonOption, emit, handle_errors, note, table
from cohortium.core.clock import system_clock
from cohortium.errors import IntegrityFailure

app = typer.Typer(no_args_is_help=True, help="Run an institution's node.")
peers_app = typer.Typer(no_args_is_help=True, help="The other institutions' keys, as known here.")
app.add_typer(peers_app, name="peers")
app.add_typer(ledger_app, name="ledger")
app.add_typer(policy_app, name="policy")
app.command()(code)

DirOption = Annotated[
    Path,
    typer.Option(
        "--dir", envvar="COHORTIUM_NODE_DIR", help="The node's folder.", show_default=False
    ),
]


def open_node(directory: Path) -> Any:
    """The node on its files, for commands beside the serving process."""
    from cohortium.node.config import NodeDir
    from cohortium.node.main import open_service

    folder = NodeDir(directory)
    return open_service(folder, folder.load_config())


def open_store(directory: Path) -> Any:
    """What the node decided and knows, without its data: quicker than `open_node`."""
    from cohortium.node.config import NodeDir
    from cohortium.node.store import NodeStore

    folder = NodeDir(directory)
    folder.load_config()
    return NodeStore(folder.store)


@app.command()
@handle_errors
def join(
    invitation: Annotated[str, typer.Argument(help="The line that the hub's operator sent.")],
    dir: DirOption,  # noqa: A002 - the option's name
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the operator's approval.")
    ] = True,
    proxy: Annotated[
        str | None, typer.Option(help="HTTP proxy (host:port) that the node dials through.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Make this node's keys and enrol it with an invitation.

    Run it again with the same invitation to fetch the certificate after the approval.
    """
    from cohortium.node import join as joining

    def told(state: joining.Joined) -> None:
        if not json:
            note(_compare(state))
        if wait and state.status != "approved":
            note("Waiting for the operator's approval (Ctrl-C is safe; run this again) ...")

    joined = joining.join(invitation, dir, wait=wait, on_progress=told, proxy=proxy)
    if joined.status == "approved":
        text = (
            f"{joined.name} is a member of {joined.consortium}.\n"
            f"Next: cohortium node serve {dir}\n"
            f"      cohortium data add NAME FILE --dir {dir}"
        )
    else:
        text = (
            "Enrolled. Once the operator has approved, run the same command again:\n"
            f"  cohortium node join INVITATION --dir {dir}"
        )
    emit(joined.to_json(), text, json)


def _compare(state: Any) -> str:
    return (
        f"Compare by telephone with the hub's operator before it approves:\n"
        f"  Consortium  {state.consortium}\n"
        f"    CA        {state.ca_fingerprint}\n"
        f"  This node   {state.name}\n"
        f"    key       {state.key_fingerprint}"
    )


@app.command()
@handle_errors
def serve(
    directory: Annotated[
        Path, typer.Argument(envvar="COHORTIUM_NODE_DIR", help="The node's folder.")
    ],
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
) -> None:
    """Keep the link to the hub and answer what the signed contracts allow."""
    import logging

    from cohortium.node.main import serve as run

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    run(directory)


@app.command()
@handle_errors
def status(dir: DirOption, json: JsonOption = False) -> None:  # noqa: A002
    """Whether the node is connected, what it owes the hub, and which contracts it keeps.

    Exits with 8 while there is an alarm about the hub's ledger.
    """
    from cohortium.node.status import summary

    node = open_node(dir)
    data = {**summary(node), "link": _ask_serving(dir), "owed_topics": _topics(node)}
    data["contracts_list"] = [
        {"study": c.study, "digest": c.digest, "state": c.state} for c in node.store.contracts()
    ]
    data["drafts"] = [
        {
            "study": draft.draft.study,
            "digest": draft.digest,
            "waits_for_us": [s for s, who in draft.unfilled.items() if node.identity.name in who],
        }
        for draft in node.drafts.all()
    ]
    data["refused_by_hub"] = [
        {"at": at, "answer": answer} for at, answer in node.store.refused_statements()
    ]
    emit(data, _status_text(data), json)
    if data["ledger"]["alarms"]:
        raise typer.Exit(IntegrityFailure.exit_code)


PAUSED = {True: "yes", False: "no", None: "policy.yaml is wrong: everything is refused"}


def _status_text(data: Any) -> str:
    link = data["link"]
    if link is None:
        state = "not serving"
    elif link["connected"]:
        state = f"connected since {link['since']}"
    else:
        state = f"down: {link['last_error'] or 'dialling'}"
    datasets = [d["name"] + ("" if d["confirmed"] else " (draft)") for d in data["datasets"]]
    lines = [
        f"{data['name']}  (cohortium {data['version']})",
        f"key        {data['key_fingerprint']}",
        f"link       {state}",
        f"paused     {PAUSED[data['paused']]}",
        f"owed       {', '.join(data['owed_topics']) or 'nothing'}",
        f"datasets   {', '.join(datasets) or 'none'}",
        f"ledger     {_ledger_text(data['ledger'])}",
    ]
    if data["lends"] or data["received"]:
        lends = ", ".join(data["lends"]) or "nothing"
        lines.append(f"tasks      lends {lends}; {data['received']} run(s) gave it something")
    lines += [
        f"contract   {c['state']:<10} {c['study']}  {c['digest'][:19]}..."
        for c in data["contracts_list"]
    ]
    lines += [
        f"draft      {'waits for us' if d['waits_for_us'] else 'filled here':<10} {d['study']}"
        f"  {', '.join(d['waits_for_us'])}".rstrip()
        for d in data["drafts"]
    ]
    lines += [
        f"REFUSED    by the hub for good, {one['at']}: {one['answer']}\n"
        "           It is not sent again: here it holds, the others do not know of it."
        for one in data["refused_by_hub"]
    ]
    lines += [
        f"ALARM {a['id']}    {a['kind']} since {a['since']}: {a['why']}\n"
        "           Nothing is computed. See: cohortium node ledger alarms"
        for a in data["ledger"]["alarms"]
    ]
    return "\n".join(lines)


def _ledger_text(data: Any) -> str:
    final = data["final"]["size"] if data["final"] else 0
    return f"{data['size']} entries, {final} final"


def _topics(node: Any) -> list[str]:
    return [owed.topic for owed in node.store.owed()]


def _ask_serving(directory: Path) -> Any:
    """The serving process's view of its link; None where none answers."""
    import json as jsonlib
    from urllib.request import urlopen

    from cohortium.node.config import NodeDir

    try:
        url = jsonlib.loads(NodeDir(directory).address.read_text())["status"]
        if not str(url).startswith("http://127.0.0.1:"):
            return None
        with urlopen(f"{url}/status", timeout=2) as answer:  # noqa: S310 - loopback only
            return jsonlib.loads(answer.read())["link"]
    except (OSError, ValueError, KeyError):
        return None


@app.command()
@handle_errors
def journal(
    dir: DirOption,  # noqa: A002
    verify: Annotated[
        bool, typer.Option("--verify", help="Recompute every hash instead of listing.")
    ] = False,
    last: Annotated[int | None, typer.Option(min=1, help="Only so many of the newest.")] = None,
    json: JsonOption = False,
) -> None:
    """Every decision of this node: what was asked, by whom, allowed or refused, and why."""
    from cohortium.node import journal as decisions

    store = open_store(dir)
    if verify:
        count, head = decisions.check_chain(store)
        emit(
            {"entries": count, "head": head},
            f"The chain of {count} entries holds. Last hash: {head}",
            json,
        )
        return
    found = [{**entry.body, "hash": entry.hash} for entry in decisions.entries(store, last=last)]
    emit(found, "\n".join(map(_journal_line, found)) or "Nothing was decided yet.", json)


def _journal_line(entry: dict[str, Any]) -> str:
    """One decision on one line; a refusal's reason below it."""
    what = f"{entry['what']} {entry.get('round', '')}".strip()
    names = [entry[key] for key in ("study", "computation") if key in entry]
    about = " ".join(str(name).removeprefix("stats.") for name in names)
    run = f"run {str(entry['run_id'])[:8]}" if "run_id" in entry else ""
    decision = "allowed" if entry["allowed"] else "REFUSED"
    line = f"{entry['at']}  {decision}  {what:<9} {about}  {run}".rstrip()
    if entry["allowed"]:
        return line
    return f"{line}\n  {entry['code']}: {entry.get('why', '')}".rstrip(": ")


@app.command()
@handle_errors
def runs(
    dir: DirOption,  # noqa: A002
    last: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 20,
    json: JsonOption = False,
) -> None:
    """Every use of this site's data, how it ended, and what was withheld from its result."""
    from cohortium.node.uses import uses

    found = uses(open_store(dir), last)
    columns = ("at", "run", "computation, study, researcher", "end")
    rows = [_use_row(use) for use in found]
    emit(found, table(None, columns, rows) if rows else "Nothing was computed yet.", json)


def _use_row(use: Mapping[str, Any]) -> tuple[str, ...]:
    """A use of the data in two lines, which fit into 80 columns."""
    sites = f"{len(use['sites'])} sites" if use["sites"] else use.get("enclave")
    about = ", ".join(str(one) for one in (use["study"], use["researcher"], sites) if one)
    why = use.get("refused") or (f"withheld: {n}" if (n := use.get("suppressed")) else "")
    return (
        use["at"][:19].replace("T", "\n"),
        use["run_id"][:8],
        f"{use['computation']}\n{about}",
        f"{use['status']}\n{why}".rstrip(),
    )


def _set_paused(directory: Path, paused: bool, json: bool) -> None:
    from cohortium.node import journal as decisions

    node = open_node(directory)
    node.policy.set_paused(paused)
    decisions.append(node.store, "pause" if paused else "resume")
    text = (
        "Paused: every computation is refused from now on. cohortium node resume ends it."
        if paused
        else "Resumed."
    )
    emit({"paused": paused}, text, json)


@app.command()
@handle_errors
def pause(dir: DirOption, json: JsonOption = False) -> None:  # noqa: A002
    """Stop every computation at once; the link stays."""
    _set_paused(dir, True, json)


@app.command()
@handle_errors
def resume(dir: DirOption, json: JsonOption = False) -> None:  # noqa: A002
    """Compute again after a pause."""
    _set_paused(dir, False, json)


@app.command()
@handle_errors
def rotate(dir: DirOption, json: JsonOption = False) -> None:  # noqa: A002
    """Make a new TLS key and ask for its certificate over the running node's link."""
    from cohortium.crypto import tls_keys as tls
    from cohortium.crypto.enrolment import rotation_bytes
    from cohortium.node import outbox
    from cohortium.node.config import NodeDir

    node = open_node(dir)
    folder = NodeDir(dir)
    tls.current(folder.tls)
    csr_pem = tls.begin(folder.tls, node.identity.name)
    with node.store.transaction():
        outbox.owe_rotation(node.store, csr_pem, node.identity.key.sign(rotation_bytes(csr_pem)))
    emit(
        {"rotation": "requested", "at": system_clock().isoformat()},
        "Requested. The serving node fetches the certificate and reconnects with it.",
        json,
    )


@peers_app.command("list")
@handle_errors
def list_peers(dir: DirOption, json: JsonOption = False) -> None:  # noqa: A002
    """The contract key by which each other institution is known here."""
    from cohortium.crypto.keys import fingerprint

    known = [
        {"name": name, "key": key, "fingerprint": fingerprint(key)}
        for name, key in sorted(open_store(dir).peers().items())
    ]
    rows = [[peer["name"], peer["fingerprint"]] for peer in known]
    emit(known, table(None, ["institution", "fingerprint"], rows), json)


@peers_app.command("accept")
@handle_errors
def accept_peer(
    name: Annotated[str, typer.Argument(help="The institution.")],
    fingerprint: Annotated[str, typer.Argument(help="Read out by that institution.")],
    dir: DirOption,  # noqa: A002
    json: JsonOption = False,
) -> None:
    """Know an institution by a new key, after comparing its fingerprint by telephone."""
    from cohortium.node.consent import accept_peer as accept

    key = accept(open_store(dir), name, fingerprint)
    emit({"name": name, "key": key}, f"{name} is known by the new key from now on.", json)
