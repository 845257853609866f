"""``cohortium node policy``: this site's own rules."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from cohortium.cli.output import JsonOption, emit, handle_errors

app = typer.Typer(no_args_is_help=True, help="This site's own rules; edit policy.yaml to change.")

DirOption = Annotated[
    Path,
    typer.Option(
        "--dir", envvar="COHORTIUM_NODE_DIR", help="The node's folder.", show_default=False
    ),
]


class Language(StrEnum):
    """Languages of the explanation."""

    en = "en"
    zh = "zh"


@app.command()
@handle_errors
def show(dir: DirOption, json: JsonOption = False) -> None:  # noqa: A002
    """The rules as this node reads them."""
    from cohortium.node.config import NodeDir
    from cohortium.node.policy import PolicyFile

    file = NodeDir(dir).policy
    rules = PolicyFile(file)().model_dump(mode="json")
    lines = [str(file), *(f"  {name}: {value}" for name, value in rules.items())]
    emit(rules, "\n".join(lines), json)


@app.command()
@handle_errors
def explain(
    dir: DirOption,  # noqa: A002
    lang: Annotated[Language, typer.Option(help="The language.")] = Language.en,
    json: JsonOption = False,
) -> None:
    """What the rules mean, in sentences."""
    from cohortium.node import policy_text
    from cohortium.node.config import NodeDir
    from cohortium.node.policy import PolicyFile

    sentences = policy_text.explain(PolicyFile(NodeDir(dir).policy)(), lang.value)
    emit({"sentences": [one.strip(" -") for one in sentences]}, "\n".join(sentences), json)
