"""``cohortium run``: compute under a signed study.

cohortium run STUDY describe age wt_loss --by sex
cohortium run STUDY glm "died_1y ~ age + sex" --family binomial
cohortium run STUDY t-test age --by sex
cohortium run STUDY table-one age sex stage --by arm --output table1.docx
cohortium run STUDY describe bmi --include "age >= 18" --derive "bmi = weight / (height * height)"
cohortium run list STUDY
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

from cohortium.cli.commands.command import Command
from cohortium.cli.model_options import Family, Link, StandardErrors
from cohortium.cli.output import JsonOption, emit, folder_exists, handle_errors, note, table
from cohortium.cli.run_analyses import COMMANDS, register
from cohortium.cli.study import ProfileOption, StudyArgument
from cohortium.errors import InputError

if TYPE_CHECKING:
    from cohortium.sdk.cohort import Cohort
    from cohortium.sdk.results import Result
    from cohortium.sdk.run_info import RunInfo
    from cohortium.sdk.study import Study

COMPUTATIONS = frozenset({"describe", "glm", "submit", *(one.name for one in COMMANDS)})
INTERRUPTED = 130
CHARTS = frozenset({".png", ".svg"})
TABLES = frozenset({".xlsx", ".docx", ".tex", ".html"})


def result_file(path: Path | None) -> Path | None:
    """Before a run is spent on what cannot be written."""
    known = TABLES | CHARTS | {".json", ".csv", ".txt"}
    if path is not None and path.suffix.lower() not in known:
        raise typer.BadParameter(f"A result is written as {', '.join(sorted(known))}.")
    return folder_exists(path)


class StudyFirst(TyperGroup):
    """Takes ``run STUDY describe ...`` for ``run describe STUDY ...``: the study is named first."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Put the computation first."""
        if len(args) > 1 and args[0] not in COMPUTATIONS and args[1] in COMPUTATIONS:
            args = [args[1], args[0], *args[2:]]
        elif args[0] not in self.commands and not args[0].startswith("-"):
            named = ", ".join(sorted(COMPUTATIONS))
            ctx.fail(f"After the study {args[0]!r} comes a computation: {named}.")
        return super().resolve_command(ctx, args)

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """The order in which people write it."""
        formatter.write_usage(ctx.command_path, "STUDY COMPUTATION ... | COMMAND ...")


app = typer.Typer(
    cls=StudyFirst,
    add_completion=False,
    no_args_is_help=True,
    help="Compute under a signed study: cohortium run STUDY describe VARIABLE... or "
    "cohortium run STUDY glm FORMULA, tables and tests; look after runs: list, show, cancel, "
    "resume.",
)

ResultFile = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        dir_okay=False,
        callback=result_file,
        help="Write the result to a file: .json, .csv, .txt; a table for a paper: .xlsx, .docx, "
        ".tex, .html; a chart: .png, .svg.",
    ),
]
RunArgument = Annotated[
    str, typer.Argument(help="The run's id, or its first 8 characters.", show_default=False)
]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", help='Persons of whom this is true, several times: "age >= 18".'),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", help='Without persons of whom this is true: "time < 30".'),
]
Derive = Annotated[
    list[str] | None,
    typer.Option("--derive", help='A variable from others: "old = age > 70"; several times.'),
]
Fills = Annotated[
    list[str] | None,
    typer.Option("--fill", help="For missing values: chol=mean, sex=mode, age=50; several times."),
]
Language = Annotated[
    str, typer.Option("--lang", help="Language of a table for a paper and of the words: en or zh.")
]
Words = Annotated[bool, typer.Option("--words", help="Say the result in plain words.")]
Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait for the result, or print the run's id.")
]


def as_language(lang: str) -> Any:
    """The language of ``--lang``; the words are loaded only when they are needed."""
    from cohortium.sdk.language import require_language

    require_language(lang)
    return lang


@app.command()
@handle_errors
def describe(
    study: StudyArgument,
    variables: Annotated[list[str], typer.Argument(help="Variables.", show_default=False)],
    *,
    by: Annotated[str | None, typer.Option(help="Group by this category.")] = None,
    quantile: Annotated[
        list[float] | None,
        typer.Option("--quantile", "-q", help="A quantile, several times; default 0.25 0.5 0.75."),
    ] = None,
    include: Include = None,
    exclude: Exclude = None,
    derive: Derive = None,
    fill: Fills = None,
    lang: Language = "en",
    words: Words = False,
    wait: Wait = True,
    profile: ProfileOption = None,
    output: ResultFile = None,
    json: JsonOption = False,
) -> None:
    """n, missing, moments, quantiles and frequencies, overall or by groups."""
    params = {"variables": variables, "by": by, "quantiles": quantile or [0.25, 0.5, 0.75]}
    persons, shown = _Persons(include, exclude, derive, fill), _Shown(output, json, lang, words)
    _compute(study, "stats.describe", params, persons, shown, wait=wait, profile=profile)


@app.command()
@handle_errors
def glm(
    study: StudyArgument,
    formula: Annotated[
        str, typer.Argument(help='An R formula: "died ~ age * sex".', show_default=False)
    ],
    *,
    family: Annotated[Family, typer.Option(help="The response's distribution.")] = Family.binomial,
    link: Annotated[Link | None, typer.Option(help="Of gamma and inverse_gaussian.")] = None,
    offset: Annotated[str | None, typer.Option(help="A number added to the predictor.")] = None,
    weights: Annotated[str | None, typer.Option(help="How many times each person counts.")] = None,
    errors: Annotated[
        StandardErrors | None, typer.Option(help="Robust, or clustered by site; default model.")
    ] = None,
    include: Include = None,
    exclude: Exclude = None,
    derive: Derive = None,
    fill: Fills = None,
    lang: Language = "en",
    words: Words = False,
    wait: Wait = True,
    profile: ProfileOption = None,
    output: ResultFile = None,
    json: JsonOption = False,
) -> None:
    """Logistic, linear, Poisson, gamma or inverse Gaussian regression: a linear model."""
    params: dict[str, Any] = {"formula": formula, "family": family.value}
    more = {"link": link, "offset": offset, "weights": weights, "errors": errors}
    params |= {name: str(value) for name, value in more.items() if value is not None}
    persons, shown = _Persons(include, exclude, derive, fill), _Shown(output, json, lang, words)
    _compute(study, "glm", params, persons, shown, wait=wait, profile=profile)


@app.command()
@handle_errors
def submit(
    study: StudyArgument,
    computation: Annotated[
        str, typer.Argument(help="A permitted computation.", show_default=False)
    ],
    *,
    params: Annotated[str, typer.Option(help="Its parameters as JSON.")] = "{}",
    include: Include = None,
    exclude: Exclude = None,
    derive: Derive = None,
    fill: Fills = None,
    lang: Language = "en",
    words: Words = False,
    wait: Wait = True,
    profile: ProfileOption = None,
    output: ResultFile = None,
    json: JsonOption = False,
) -> None:
    """Any other computation by its name, with parameters as JSON."""
    from cohortium.core.canonical import parse_json
    from cohortium.errors import ProtocolError

    try:
        values = parse_json(params.encode())
    except ProtocolError as error:
        raise InputError("bad-input", "--params is not JSON.") from error
    if not isinstance(values, dict):
        raise InputError("bad-input", '--params is a JSON object: {"name": value}.')
    persons, shown = _Persons(include, exclude, derive, fill), _Shown(output, json, lang, words)
    _compute(study, computation, values, persons, shown, wait=wait, profile=profile)


class _Persons(NamedTuple):
    """Whom a computation is about, as the options say."""

    include: list[str] | None
    exclude: list[str] | None
    derive: list[str] | None
    fill: list[str] | None = None

    def of(self, study: Study) -> Cohort:
        """The cohort of a study."""
        for definition in self.derive or ():
            study.derive(definition)
        cohort = study.cohort(include=self.include or (), exclude=self.exclude or ())
        fills = [text.partition("=") for text in self.fill or ()]
        if not all(name.strip() and sign and value.strip() for name, sign, value in fills):
            raise InputError("bad-input", "What is filled in is written as a name, = and a value.")
        values = {name.strip(): value.strip() for name, _, value in fills}
        return cohort.impute(values) if values else cohort


class _Shown(NamedTuple):
    """How a result is shown, as the options say."""

    output: Path | None
    json: bool
    lang: str
    words: bool

    def show(self, result: Result) -> None:
        """Write or print it."""
        lang = as_language(self.lang)
        if self.words:
            note(result.interpret(lang))
        _show(result, self.output, self.json, lang)


def _compute(
    study: str,
    computation: str,
    params: dict[str, Any],
    persons: _Persons,
    shown: _Shown,
    *,
    wait: bool,
    profile: str | None,
) -> None:
    from cohortium.sdk.federation import connect

    as_language(shown.lang)  # before a run is spent
    with connect(profile=profile) as federation:
        run = persons.of(federation.study(study)).submit(computation, params)
        if not wait:
            text = f"Submitted; see: cohortium run show {run.id}"
            emit(run.info.to_json(), text, shown.json, shown.output)
            return
        try:
            result = run.result()
        except KeyboardInterrupt:
            note(
                f"Run {run.id[:8]} goes on at the hub. Its result: cohortium run show "
                f"{run.id[:8]}; to stop it: cohortium run cancel {run.id[:8]}"
            )
            raise typer.Exit(INTERRUPTED) from None
        shown.show(result)


def _analyse(
    command: Command,
    values: dict[str, Any],
    study: StudyArgument,
    *,
    include: Include = None,
    exclude: Exclude = None,
    derive: Derive = None,
    fill: Fills = None,
    lang: Language = "en",
    words: Words = False,
    profile: ProfileOption = None,
    output: ResultFile = None,
    json: JsonOption = False,
) -> None:
    """What every command of `run_analyses` does; it waits."""
    from cohortium.sdk.federation import connect

    as_language(lang)  # before a run is spent
    with connect(profile=profile) as federation:
        persons = _Persons(include, exclude, derive, fill).of(federation.study(study))
        try:
            result = getattr(persons, command.method)(**values)
        except KeyboardInterrupt:
            note(f"What was submitted goes on at the hub: cohortium run list {study}")
            raise typer.Exit(INTERRUPTED) from None
        _Shown(output, json, lang, words).show(result)


register(app, handle_errors(_analyse))


def _show(result: Result, output: Path | None, json: bool, lang: Any = "en") -> None:
    ending = "" if output is None else output.suffix.lower()
    if output is not None and ending in TABLES:
        result.export(output, lang)
        note(f"Table: {output}")
        output = None
    elif output is not None and ending in CHARTS:
        result.save(output)
        note(f"Chart: {output}")
        output = None
    elif output is not None and ending == ".csv":
        from cohortium.sdk.export import frame_csv

        output.write_bytes(frame_csv(result.to_frame()))
        note(f"Table: {output}")
        output = None
    emit(result.to_json(), repr(result), json or ending == ".json", output)


@app.command("list")
@handle_errors
def list_runs(
    study: Annotated[str | None, typer.Argument(help="Of this study only.")] = None,
    profile: ProfileOption = None,
    json: JsonOption = False,
) -> None:
    """List runs."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        infos = [run.info for run in federation.runs(study)]
    rows = [
        (
            info.id[:8],
            info.study,
            info.computation.removeprefix("stats."),  # as the command line names it
            info.status,
            f"{info.submitted_at:%Y-%m-%d %H:%M}",
            f"{info.seconds:.2f}",
        )
        for info in infos
    ]
    header = ("run", "study", "computation", "status", "submitted", "seconds")
    emit([info.to_json() for info in infos], table(None, header, rows), json)


@app.command()
@handle_errors
def show(
    run: RunArgument,
    *,
    lang: Language = "en",
    words: Words = False,
    profile: ProfileOption = None,
    output: ResultFile = None,
    json: JsonOption = False,
) -> None:
    """Show a run's record, and its result where it succeeded."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        found = federation.run(run)
        if found.status == "succeeded":
            _Shown(output, json, lang, words).show(found.result())
            return
    _show_record(found.info, output, json)


@app.command()
@handle_errors
def cancel(run: RunArgument, profile: ProfileOption = None, json: JsonOption = False) -> None:
    """Stop a run."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        info = federation.run(run).cancel()
    _show_record(info, None, json)


@app.command()
@handle_errors
def resume(
    run: RunArgument,
    *,
    lang: Language = "en",
    words: Words = False,
    wait: Wait = True,
    profile: ProfileOption = None,
    output: ResultFile = None,
    json: JsonOption = False,
) -> None:
    """Let a run that failed because a site was away go on where it stopped."""
    from cohortium.sdk.federation import connect

    with connect(profile=profile) as federation:
        found = federation.run(run)
        info = found.resume()
        if wait:
            _Shown(output, json, lang, words).show(found.result())
            return
    _show_record(info, None, json)


def _show_record(info: RunInfo, output: Path | None, json: bool) -> None:
    lines = [info.line()]
    if info.error is not None:
        lines.append(f"Error ({info.error.get('code')}): {info.error.get('message')}")
    if info.message and not info.finished:
        lines.append(f"{info.progress:.0%} {info.message}")
    emit({"run": info.to_json()}, "\n".join(lines), json, output)
