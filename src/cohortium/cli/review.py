"""``cohortium study review``, ``sign`` and ``refuse``: a steward's decision at the node."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from cohortium.cli.node import DirOption, open_node
from cohortium.cli.output import JsonOption, LanguageOption, emit, handle_errors, note

StudyArgument = Annotated[
    str, typer.Argument(help="The study's id, or the contract's digest.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the steward's commands to ``cohortium study``."""
    app.command("review")(review)
    app.command("sign")(sign)
    app.command("refuse")(refuse)


def _reviewed(node: Any, study: str, lang: str = "en") -> Any:
    from cohortium.node.consent import find_contract, review

    return review(node, find_contract(node.store, study), lang)


def _json(reviewed: Any) -> dict[str, Any]:
    return {
        "study": reviewed.contract.study,
        "digest": reviewed.stored.digest,
        "state": reviewed.stored.state,
        "contract": reviewed.contract.to_json(),
        "changes": [change.to_json() for change in reviewed.changes],
        "keys": [dict(vars(known)) for known in reviewed.keys],
        "problems": [problem.to_wire() for problem in reviewed.problems],
        "warnings": list(reviewed.warnings),
    }


def _text(reviewed: Any) -> str:
    lines = [reviewed.text.rstrip(), "", "Fingerprints to compare by telephone"]
    lines += [
        f"  {known.fingerprint}  {known.name} ({known.role}, {known.status})"
        for known in reviewed.keys
    ]
    lines += ["", f"Contract {reviewed.stored.digest}", f"State here: {reviewed.stored.state}"]
    lines += [f"WARNING  {warning}" for warning in reviewed.warnings]
    lines += [f"PROBLEM  {problem.message} ({problem.code})" for problem in reviewed.problems]
    return "\n".join(lines)


@handle_errors
def review(
    study: StudyArgument,
    dir: DirOption,  # noqa: A002
    *,
    draft: Annotated[
        bool, typer.Option("--draft", help="The draft, with what its owners have assigned.")
    ] = False,
    lang: LanguageOption = "en",
    json: JsonOption = False,
) -> None:
    """Read a contract as this node sees it, with everything that speaks against signing it.

    Of a contract that amends the one in force, what differs stands first.
    """
    node = open_node(dir)
    if draft:
        from cohortium.contract.render import render_draft

        life = node.drafts.find(study)
        emit({"digest": life.digest, "draft": life.draft.to_json()}, render_draft(life, lang), json)
        return
    reviewed = _reviewed(node, study, lang)
    emit(_json(reviewed), _text(reviewed), json)


@handle_errors
def sign(
    study: StudyArgument,
    dir: DirOption,  # noqa: A002
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    lang: LanguageOption = "en",
    json: JsonOption = False,
) -> None:
    """Agree to a contract in this institution's name."""
    from cohortium.node import consent

    node = open_node(dir)
    reviewed = _reviewed(node, study, lang)
    if not yes and not reviewed.problems:
        note(_text(reviewed))
        typer.confirm("Sign this contract for " + node.identity.name + "?", abort=True, err=True)
    consent.sign(node, reviewed)
    data = {**_json(reviewed), "state": node.store.contract(reviewed.stored.digest).state}
    emit(data, f"Signed {reviewed.contract.study}. The serving node tells the hub.", json)


@handle_errors
def refuse(
    study: StudyArgument,
    dir: DirOption,  # noqa: A002
    reason: Annotated[str, typer.Option("--reason", help="Why; the proposer reads it.")],
    json: JsonOption = False,
) -> None:
    """Say no to a contract, also to one signed before, as long as not all have signed it."""
    from cohortium.node import consent, steward

    node = open_node(dir)
    stored = consent.find_contract(node.store, study)
    steward.refuse(node, stored, reason)
    emit(
        {"study": stored.study, "digest": stored.digest, "state": "refused", "reason": reason},
        f"Refused {stored.study}.",
        json,
    )
