"""``cohortium study``: what becomes of a contract after it was proposed.

A steward states it at the node (``--dir``), a researcher at the hub (``--profile``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cohortium.cli.node import DirOption, open_node
from cohortium.cli.output import JsonOption, emit, handle_errors, table

StudyArgument = Annotated[
    str, typer.Argument(help="The study's id, or the contract's digest.", show_default=False)
]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; all parties read it.")]
ProfileOption = Annotated[
    str | None,
    typer.Option("--profile", help="As the researcher of this profile (or COHORTIUM_PROFILE)."),
]
SiteOption = Annotated[
    Path | None,
    typer.Option(
        "--dir",
        envvar="COHORTIUM_NODE_DIR",
        help="As the steward of the node in this folder.",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``cohortium study``."""
    for command in (assign, withdraw, suspend, resume, revoke, close, history):
        app.command(command.__name__)(command)


@handle_errors
def assign(
    study: StudyArgument,
    dir: DirOption,  # noqa: A002
    slot: Annotated[
        str | None, typer.Argument(help="The slot; without it all are listed.", show_default=False)
    ] = None,
    what: Annotated[
        str | None,
        typer.Argument(
            help="The dataset that fills it; of a task's input, what is lent.", show_default=False
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Say which of this institution's datasets, or of what it lends, fills a slot of a draft."""
    from cohortium.errors import InputError

    node = open_node(dir)
    if slot is None:
        life = node.drafts.find(study)
    elif what is None:
        raise InputError(
            "bad-input", f"Name what fills it: cohortium study assign {study} {slot} X"
        )
    else:
        lent = node.lending.lent if node.lending else None
        life = node.drafts.assign(study, slot, what, node.datasets, lent)
    rows = [
        {
            "slot": name,
            "owners": sorted(place.owners),
            "filled": [said.artefact.name for said in life.assigned.get(name, {}).values()],
            "waits_for": sorted(life.unfilled.get(name, ())),
        }
        for name, place in life.slots.items()
    ]
    shown = [[row["slot"], ", ".join(row["filled"]), ", ".join(row["waits_for"])] for row in rows]
    data = {"study": life.draft.study, "draft": life.digest, "slots": rows}
    emit(data, table(f"Draft of {study}", ("slot", "filled with", "waits for"), shown), json)


def _at_node(
    directory: Path, study: str, action: Any, reason: str, computations: list[str] | None = None
) -> dict[str, Any]:
    from cohortium.node import steward

    node = open_node(directory)
    stored = steward.find_in_force(node.store, study)
    steward.state(node, stored, action, reason, computations)
    after = node.store.contract(stored.digest)
    return {
        "study": stored.study,
        "digest": stored.digest,
        "state": after.state,
        "reason": reason,
        "owed": len(node.store.owed()),
    }


def _of_study(study: Any) -> dict[str, Any]:
    return {
        "study": study.id,
        "digest": study.digest,
        "state": study.status,
        "reason": study.info.reason,
        "suspensions": [one.to_json() for one in study.info.suspensions],
    }


@handle_errors
def suspend(
    study: StudyArgument,
    reason: ReasonOption,
    *,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", help="Only this computation (glm, stats.*); may be repeated."),
    ] = None,
    dir: SiteOption = None,  # noqa: A002
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """Stop computing under a contract at once, until you resume it; your own data first."""
    if dir is not None and profile is None:
        data = _at_node(dir, study, "suspend", reason, only)
        text = (
            f"Suspended {study} here, from this moment. The serving node tells the others.\n"
            f"To lift it: cohortium study resume {study} --reason ... --dir {dir}"
        )
    else:
        from cohortium.sdk.federation import connect

        with connect(profile=profile) as federation:
            data = _of_study(federation.study(study).suspend(reason, only))
        text = f"Suspended {study}.\nTo lift it: cohortium study resume {study} --reason ..."
    emit(data, text, json)


@handle_errors
def resume(
    study: StudyArgument,
    reason: ReasonOption,
    dir: SiteOption = None,  # noqa: A002
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """Lift your own suspension; those of others stay."""
    if dir is not None and profile is None:
        data = _at_node(dir, study, "resume", reason)
    else:
        from cohortium.sdk.federation import connect

        with connect(profile=profile) as federation:
            data = _of_study(federation.study(study).resume(reason))
    left = " by others" if data["state"] == "suspended" else ""
    emit(data, f"Resumed. {study} is {data['state']}{left}.", json)


@handle_errors
def revoke(
    study: StudyArgument,
    reason: ReasonOption,
    dir: DirOption,  # noqa: A002
    json: JsonOption = False,
) -> None:
    """Take this institution out of a contract in force, which ends it for all, for good."""
    data = _at_node(dir, study, "revoke", reason)
    emit(data, f"Revoked {study}; nothing runs under it again. The serving node tells all.", json)


@handle_errors
def withdraw(
    study: StudyArgument,
    reason: ReasonOption,
    contract: Annotated[
        str | None,
        typer.Option("--contract", help="Digest of one of several open proposals."),
    ] = None,
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """Take your proposal, or amendment, back before all have signed it; final."""
    from cohortium.errors import ConflictError
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        found = federation.study(study)
        open_ = [v.contract_digest for v in found.versions if v.status == "proposed"]
        if contract is not None:
            open_ = [digest for digest in open_ if digest == contract]
        if not open_:
            raise ConflictError(
                "wrong-state",
                f"No proposal of {study} waits for signatures; its contract is {found.status}. "
                "One in force is ended with: cohortium study close",
            )
        if len(open_) > 1:
            raise ConflictError(
                "wrong-state", "Several proposals are open: name one with --contract.", open=open_
            )
        data = _of_study(federation.version(study, open_[0]).withdraw(reason))
    emit(data, f"Withdrew the proposal of {study}.", json)


@handle_errors
def close(
    study: StudyArgument,
    reason: ReasonOption,
    keeps: Annotated[
        list[str] | None,
        typer.Option("--keeps", help="What is kept, by whom, until when; may be repeated."),
    ] = None,
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """End your study for good, and say what is kept of it."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        data = _of_study(federation.study(study).close(reason, keeps or ()))
    emit({**data, "keeps": keeps or []}, f"Closed {study}.", json)


@handle_errors
def history(
    study: StudyArgument,
    dir: SiteOption = None,  # noqa: A002
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """Show what was stated about a study's contracts: when, by whom, and the state with it."""
    if dir is not None and profile is None:
        rows = _history_here(open_node(dir), study)
    else:
        from cohortium.sdk.federation import connect

        with connect(profile=profile) as federation:
            rows = [
                {
                    "at": said.at.isoformat().replace("+00:00", "Z"),
                    "version": said.version,
                    "author": said.author,
                    "action": said.action,
                    "state": said.state,
                    "reason": said.reason,
                    "contract": said.contract_digest,
                }
                for said in federation.study(study).history()
            ]
    columns = ("at", "version", "author", "action", "state", "reason")
    shown = [{**row, "at": str(row["at"])[:16].replace("T", " ")} for row in rows]
    emit(rows, table(None, columns, [[row[name] for name in columns] for row in shown]), json)


def _history_here(node: Any, study: str) -> list[dict[str, Any]]:
    """What this node verified; the last statement on a contract has the state that it has here."""
    from cohortium.node import consent, life, statements

    name = consent.find_contract(node.store, study).study
    rows = []
    for stored in node.store.contracts(name):
        version = life.open_contract(stored).version
        rows += [
            {
                "at": said.received_at,
                "version": version,
                "author": said.author,
                "action": said.action,
                "state": "",
                "reason": said.reason,
                "contract": stored.digest,
            }
            for said in statements.about(node.store, stored.digest)
        ]
        rows[-1]["state"] = stored.state
    return sorted(rows, key=lambda row: str(row["at"]))
