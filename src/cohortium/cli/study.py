"""``cohortium study``: studies at the hub; review, sign and refuse at a node."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from cohortium.cli.output import (
    JsonOption,
    LanguageOption,
    OutputOption,
    emit,
    folder_exists,
    handle_errors,
    table,
)
from cohortium.errors import InputError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    help="Propose, amend and close studies; review, sign, suspend or revoke them at a node.",
)

ProfileOption = Annotated[
    str | None,
    typer.Option("--profile", help="Name or file of your profile (or COHORTIUM_PROFILE)."),
]
VersionOption = Annotated[
    str | None,
    typer.Option("--version", help="Number or digest; else the one in force, or the newest."),
]
DraftOption = Annotated[
    bool, typer.Option("--draft", help="The draft, with what its owners have assigned.")
]
StudyArgument = Annotated[str, typer.Argument(help="The study's id.", show_default=False)]


@app.command()
@handle_errors
def propose(
    file: Annotated[
        Path,
        typer.Argument(
            help="The study's YAML file, or the id of a draft whose slots are filled.",
            show_default=False,
        ),
    ],
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """Sign a study and put it to its institutions."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        if not file.is_file() and any(draft.id == str(file) for draft in federation.drafts):
            study = federation.drafted(str(file)).propose()
        else:
            study = federation.propose(file)
        data = study_json(study)
    _emit_proposed(study, data, json)


@app.command()
@handle_errors
def amend(
    study: StudyArgument,
    file: Annotated[
        Path, typer.Argument(help="The YAML file of the new version.", show_default=False)
    ],
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """Put a new version of a study to its institutions; the old one holds until all have signed."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        amended = federation.amend(study, file)
        data = study_json(amended)
    _emit_proposed(amended, data, json)


@app.command()
@handle_errors
def draft(
    file: Annotated[Path, typer.Argument(help="The study's YAML file.", show_default=False)],
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """Put a study to institutions that choose their datasets themselves."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        drafted = federation.draft(file)
    waiting = "".join(f"\n  {slot}: {', '.join(who)}" for slot, who in drafted.unfilled.items())
    emit(
        draft_json(drafted),
        f"Drafted {drafted.id}. These slots wait for their owners:{waiting}\n"
        f"Draft: {drafted.digest}\n"
        f"When all are filled: cohortium study propose {drafted.id}",
        json,
    )


def _emit_proposed(study: Any, data: dict[str, Any], json: bool) -> None:
    sites = ", ".join(p.name for p in study.contract.participants)
    emit(
        data,
        f"Proposed {study.id}, version {study.version}, to {sites}.\nContract: {study.digest}\n"
        "It is active when each of them has signed: cohortium study show " + study.id,
        json,
    )


@app.command("list")
@handle_errors
def list_studies(profile: ProfileOption = None, json: JsonOption = False) -> None:
    """List the studies and how far they are."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        studies, drafts = federation.studies, federation.drafts
    rows: list[tuple[object, ...]] = [
        (
            study.id,
            study.version,
            study.status + _pending(study),
            f"{len(study.signatures)}/{len(study.contract.participants)}",
            study.contract.expires_at.date().isoformat(),
            study.title,
        )
        for study in studies
    ]
    for one in drafts:
        title = one.info.draft.get("title")
        rows.append((one.id, "", f"draft, {len(one.unfilled)} slots open", "", "", title))
    data = [*(study_json(study) for study in studies), *(draft_json(one) for one in drafts)]
    columns = ("study", "version", "status", "signed", "expires", "title")
    emit(data, table(None, columns, rows), json)


def _pending(study: Any) -> str:
    """That another version waits for signatures."""
    waiting = [v for v in study.versions if v.status == "proposed"]
    others = [v for v in waiting if v.contract_digest != study.digest]
    return f" (version {others[-1].version} proposed)" if others else ""


@app.command()
@handle_errors
def show(
    study: StudyArgument,
    *,
    version: VersionOption = None,
    draft: DraftOption = False,
    lang: LanguageOption = "en",
    profile: ProfileOption = None,
    output: OutputOption = None,
    json: JsonOption = False,
) -> None:
    """Show a study's contract as text, its state, who has signed it and who refused."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        if draft:
            drafted = federation.drafted(study)
            data, text = draft_json(drafted), drafted.render(lang)
        else:
            found = federation.study(study, version)
            data, text = study_json(found), found.render(lang)
    emit(data, text, json, output)


@app.command()
@handle_errors
def diff(
    study: StudyArgument,
    *,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="Number or digest of the old version; else what --to amends."),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option("--to", help="Number or digest of the new version; else the newest."),
    ] = None,
    lang: LanguageOption = "en",
    profile: ProfileOption = None,
    output: OutputOption = None,
    json: JsonOption = False,
) -> None:
    """Show what differs between two versions of a contract, and what of it loosens protection."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        current = federation.study(study)
        new = federation.study(study, to or current.versions[-1].contract_digest)
        old = new.predecessor if from_ is None else federation.study(study, from_)
        if old is None:
            raise InputError(
                "bad-input", f"Version {new.version} amends nothing; name another with --from."
            )
        changes, text = new.changes_from(old), new.render_changes_from(old, lang)
    data = {
        "from": old.digest,
        "to": new.digest,
        "changes": [change.to_json() for change in changes],
    }
    emit(data, text, json, output)


def study_json(study: Any) -> dict[str, Any]:
    """What ``--json`` prints of a study."""
    data: dict[str, Any] = study.info.to_json()
    data.pop("rendered", None)
    return data


def draft_json(drafted: Any) -> dict[str, Any]:
    """What ``--json`` prints of a draft."""
    return {
        "id": drafted.id,
        "status": "draft",
        "draft_digest": drafted.digest,
        "unfilled": {slot: sorted(who) for slot, who in drafted.unfilled.items()},
    }


@app.command()
@handle_errors
def report(
    study: StudyArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="report.html or report.pdf.",
            dir_okay=False,
            callback=folder_exists,
        ),
    ],
    lang: Annotated[str, typer.Option("--lang", help="Language of the report: en or zh.")] = "en",
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """All released results with methods, what was withheld, and the evidence, as HTML or PDF."""
    from cohortium.cli.run import as_language
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        made = federation.study(study).report(output, as_language(lang))
    data = {
        "file": str(output),
        "results": [result.run.id for result in made.results],
        "without_result": made.refused,
    }
    emit(data, f"Report: {output} ({len(made.results)} results)", json)


import_module("cohortium.cli.review").register(app)
import_module("cohortium.cli.study_life").register(app)
