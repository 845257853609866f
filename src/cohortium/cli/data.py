"""``cohortium data``: a steward registers datasets at the institution's node."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from cohortium.cli.output import JsonOption, emit, handle_errors, note, table
from cohortium.node.datasets import Dataset, FolderDatasets

app = typer.Typer(no_args_is_help=True, help="Register an institution's datasets at its node.")

DirOption = Annotated[
    Path,
    typer.Option(
        "--dir",
        envvar="COHORTIUM_NODE_DIR",
        help="The node's folder.",
        file_okay=False,
        exists=True,
    ),
]
NameArgument = Annotated[str, typer.Argument(help="The dataset's name.")]


def _datasets(folder: Path) -> FolderDatasets:
    return FolderDatasets(folder / "datasets")


def _summary(dataset: Dataset) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "status": "confirmed" if dataset.confirmed else "draft",
        "digest": dataset.digest,
        "n_rows": dataset.n_rows,
        "n_variables": len(dataset.dictionary.variables),
        "source": dataset.source,
    }


def _details(dataset: Dataset) -> dict[str, Any]:
    return {**_summary(dataset), "dictionary": dataset.dictionary.to_json()}


@contextmanager
def _progress(task: str, shown: bool) -> Iterator[Callable[[int, float | None], None]]:
    """A bar on stderr; it is only seen when the work takes longer than a moment."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(
        *columns, console=console, transient=True, disable=not (shown and console.is_terminal)
    ) as bar:
        bar_id = bar.add_task(task, total=None)

        def update(n_rows: int, fraction: float | None) -> None:
            bar.update(
                bar_id,
                description=f"{task}: {n_rows:,} rows",
                total=None if fraction is None else 1.0,
                completed=fraction or 0.0,
            )

        yield update


@app.command()
@handle_errors
def add(
    name: NameArgument,
    source: Annotated[
        str,
        typer.Argument(
            help="A CSV, TSV, Parquet or Excel file, or a database's URL: duckdb:///path, "
            "sqlite:///path, postgres://user@host/database."
        ),
    ],
    *,
    folder: DirOption,
    from_table: Annotated[str | None, typer.Option("--table", help="The database's table.")] = None,
    query: Annotated[str | None, typer.Option(help="A SQL query instead of a table.")] = None,
    sheet: Annotated[str | None, typer.Option(help="The Excel sheet; default: the first.")] = None,
    encoding: Annotated[
        str | None, typer.Option(help="A text file's encoding; default: detected.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Confirm the inferred dictionary at once.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Register a dataset: infer its data dictionary for you to edit and confirm."""
    datasets = _datasets(folder)
    with _progress("Reading", not json) as update:
        dataset = datasets.add(
            name,
            source,
            table=from_table,
            query=query,
            sheet=sheet,
            encoding=encoding,
            on_progress=update,
        )
    if yes:
        with _progress("Converting", not json) as update:
            dataset = datasets.confirm(name, on_progress=update)
    path = datasets.dictionary_path(name)
    emit(
        {**_details(dataset), "dictionary_file": str(path)},
        _confirmed_text(dataset)
        if yes
        else f"{name}: {dataset.n_rows:,} rows, {len(dataset.dictionary.variables)} variables.\n"
        f"Now check {path}\nand then run: cohortium data confirm {name} --dir {folder}",
        json,
    )


def _confirmed_text(dataset: Dataset) -> str:
    return (
        f"{dataset.name} is confirmed: {dataset.n_rows:,} rows, "
        f"{len(dataset.dictionary.variables)} variables.\nDigest: {dataset.digest}"
    )


@app.command()
@handle_errors
def confirm(name: NameArgument, folder: DirOption, json: JsonOption = False) -> None:
    """Confirm an edited dictionary: convert the data and publish the dictionary, never values."""
    with _progress("Converting", not json) as update:
        dataset = _datasets(folder).confirm(name, on_progress=update)
    emit(_details(dataset), _confirmed_text(dataset), json)


def _short(cell: object) -> object:
    """A digest's beginning; `show` has all of it."""
    return f"{cell[:19]}..." if isinstance(cell, str) and cell.startswith("sha256:") else cell


@app.command("list")
@handle_errors
def list_datasets(folder: DirOption, json: JsonOption = False) -> None:
    """List the datasets of this node."""
    datasets = _datasets(folder)
    found = [_summary(datasets.get(name)) for name in datasets.names()]
    columns = ("name", "status", "n_rows", "n_variables", "source", "digest")
    rows = [[_short(item[column]) for column in columns] for item in found]
    text = table(None, [column.replace("n_", "") for column in columns], rows)
    emit(found, text if found else "No dataset is registered here.", json)


@app.command()
@handle_errors
def show(name: NameArgument, folder: DirOption, json: JsonOption = False) -> None:
    """Show a dataset's dictionary."""
    dataset = _datasets(folder).get(name)
    rows = [
        [
            variable.name,
            variable.type.value,
            variable.unit,
            ", ".join(variable.levels or ()),
            variable.decimals,
            variable.missing,
            variable.description,
        ]
        for variable in dataset.dictionary.variables
    ]
    columns = ("name", "type", "unit", "levels", "decimals", "missing", "description")
    state = dataset.digest if dataset.confirmed else "draft, not visible to the consortium"
    title = f"{name}: {dataset.n_rows:,} rows from {dataset.source}\n{state}"
    emit(_details(dataset), table(title, columns, rows), json)


@app.command()
@handle_errors
def remove(
    name: NameArgument,
    *,
    folder: DirOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete the node's copy of a dataset; studies that name it can no longer run here."""
    datasets = _datasets(folder)
    studies = _studies_using(folder, datasets.get(name))
    if studies:
        note(f"Signed here with {name}, and cannot run without it: {', '.join(studies)}.")
    if not yes and not typer.confirm(f"Delete the node's copy of {name}?", err=True):
        note("Nothing was deleted.")
        raise typer.Exit(1)
    datasets.remove(name)
    emit({"name": name, "removed": True, "studies": studies}, f"{name} is removed.", json)


def _studies_using(folder: Path, dataset: Dataset) -> list[str]:
    """Studies that this node has agreed to with the dataset's present content."""
    from cohortium.contract.model import Contract
    from cohortium.node.config import NodeDir
    from cohortium.node.store import NodeStore

    file = NodeDir(folder).store
    if dataset.digest is None or not file.exists():
        return []
    return [
        stored.study
        for stored in NodeStore(file).contracts()
        if stored.state in {"signed", "active", "suspended"}
        and any(
            participant.dataset_digest == dataset.digest
            for participant in Contract.from_bytes(stored.body).givers
        )
    ]
