"""``cohortium study``: studies at the hub; review, sign and refuse at a node."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from cohortium.cli.output import JsonOption, OutputOption, emit, handle_errors, table

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Propose studies; review, sign or refuse them at a node.",
)

ProfileOption = Annotated[
    str | None,
    typer.Option("--profile", help="Name or file of your profile (or COHORTIUM_PROFILE)."),
]
StudyArgument = Annotated[str, typer.Argument(help="The study's id.", show_default=False)]


@app.command()
@handle_errors
def propose(
    file: Annotated[Path, typer.Argument(help="The study's YAML file.", show_default=False)],
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """Sign a study and put it to its institutions."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        study = federation.propose(file)
        data = study_json(study)
    sites = ", ".join(p.name for p in study.contract.participants)
    emit(
        data,
        f"Proposed {study.id} to {sites}.\nContract: {study.digest}\n"
        "It is active when each of them has signed: cohortium study show " + study.id,
        json,
    )


@app.command("list")
@handle_errors
def list_studies(profile: ProfileOption = None, json: JsonOption = False) -> None:
    """List the studies and how far they are."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        studies = federation.studies
    rows = [
        (
            study.id,
            study.status,
            f"{len(study.signatures)}/{len(study.contract.participants)}",
            study.contract.expires_at.date().isoformat(),
            study.title,
        )
        for study in studies
    ]
    data = [study_json(study) for study in studies]
    emit(data, table(None, ("study", "status", "signed", "expires", "title"), rows), json)


@app.command()
@handle_errors
def show(
    study: StudyArgument,
    profile: ProfileOption = None,
    output: OutputOption = None,
    json: JsonOption = False,
) -> None:
    """Show a study's contract as text, who has signed it and who refused."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        found = federation.study(study)
        text = found.text
    emit(study_json(found), text, json, output)


def study_json(study: Any) -> dict[str, Any]:
    """What ``--json`` prints of a study."""
    data: dict[str, Any] = study.info.to_json()
    data.pop("rendered", None)
    return data


import_module("cohortium.cli.review").register(app)
