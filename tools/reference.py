"""MkDocs hook: the reference pages that are written from the code, at every build.

Errors from the catalogue, commands from the Typer application, settings, documents and ledger
entries from the pydantic types and REST from the OpenAPI document, so that none of them can differ
from what the program does.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.docstrings import attributes
from tools.document_pages import documents_page, ledger_page

from cohortium.errors import CATALOGUE, FAMILIES

FETCHED = re.compile(
    r"<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?(?:https?:)?//"
)
CANONICAL = re.compile(r"<link[^>]*rel=[\"']?(?:canonical|alternate|next|prev)[^>]*>")

ERRORS_HEAD = """\
# Errors

*Written from the code at each build.*

Each error has a stable code and a message that says what to do next; it never holds patient data.
Over REST it is `{"error": {"family", "code", "message", "details"}}`.

| Family | Exit code | Meaning |
|---|---|---|
"""

CLI_HEAD = """\
# Command line

*Written from the code at each build.*

Every command has `--help`, and `--json` where it prints. Exit codes are those of the
[error families](errors.md); 0 is success.
"""

CONFIGURATION_HEAD = """\
# Configuration

*Written from the code at each build.*

Unknown settings are refused. Units stand in the names (`_s` is seconds).
"""

POLICY_HEAD = """
## policy.yaml

The site's own rules, in the node's folder. This is the file as `cohortium node join` writes it:

"""

REST_HEAD = """\
# REST

*Written from the code at each build.*

What the SDK and the command line speak to the hub. The hub serves the OpenAPI document itself at
`/api/v1/openapi.json`. Errors are those of the [catalogue](errors.md).

Requests of researchers carry `Authorization: Bearer` with a JWT (EdDSA) that the researcher's key
signs for this one request: it names the consortium (`aud`), method (`htm`), path with query (`htu`)
and the SHA-256 of the body (`bsh`), and lives for a minute.
"""

ENVIRONMENT = """
## Environment

Settings of `hub.toml` and `node.toml` can also be given as `COHORTIUM_HUB_` or `COHORTIUM_NODE_`
and the name in capitals, which goes before the file.

| Variable | |
|---|---|
| `COHORTIUM_HUB_DIR` | the hub's folder, where a command has `--dir` |
| `COHORTIUM_NODE_DIR` | the node's folder, where a command has `--dir` |
| `COHORTIUM_ENCLAVE_DIR` | the same of an enclave |
| `COHORTIUM_PROFILE` | the researcher's profile: a name or a file |
"""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages to the site."""
    for name, write in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=write()))
    return files


def on_post_page(output: str, page: Page, **_: Any) -> str:
    """Refuse a page that would fetch something from elsewhere: the site works without internet."""
    found = FETCHED.search(CANONICAL.sub("", output))
    if found:
        raise PluginError(f"{page.file.src_uri} fetches from elsewhere: {found.group()}")
    return output


def errors_page() -> str:
    """Families with exit codes, then every code of the catalogue."""
    lines = [ERRORS_HEAD]
    lines += [
        f"| `{name}` | {family.exit_code} | {_first_line(family.__doc__)} |\n"
        for name, family in FAMILIES.items()
    ]
    for name in FAMILIES:
        lines.append(f"\n## {name}\n\n| Code | HTTP status | Meaning |\n|---|---|---|\n")
        lines += [
            f"| `{code}` | {entry.http_status} | {_cell(entry.meaning)} |\n"
            for code, entry in CATALOGUE.items()
            if entry.family == name
        ]
    return "".join(lines)


def cli_page() -> str:
    """Every command with its arguments and options."""
    import typer

    from cohortium.cli.main import app

    return CLI_HEAD + "".join(_command(typer.main.get_command(app), ("cohortium",)))


def _command(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    children = getattr(command, "commands", None)
    text = _plain_help(getattr(command, "help", None))
    if children is not None:
        if len(path) > 1:
            yield f"\n## {' '.join(path)}\n\n{text}\n"
        groups_last = sorted(children.items(), key=lambda item: hasattr(item[1], "commands"))
        for name, child in groups_last:
            if not child.hidden:
                yield from _command(child, (*path, name))
        return
    context = command.make_context(path[-1], [], resilient_parsing=True)
    pieces = [_argument(p) for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([*path, *pieces, "[OPTIONS]"])
    level = "###" if len(path) > 2 else "##"
    yield f"\n{level} {' '.join(path)}\n\n```text\n{usage}\n```\n\n{text}\n"
    records = [_record(param, context) for param in command.params if not param.hidden]
    if records:
        yield "\n| | |\n|---|---|\n"
        yield from (f"| `{_cell(left)}` | {_cell(right)} |\n" for left, right in records)


def _argument(param: Any) -> str:
    name = param.name.upper() + ("..." if param.nargs == -1 else "")
    return name if param.required else f"[{name}]"


def _record(param: Any, context: Any) -> tuple[str, str]:
    """Spelling and meaning of an argument or option."""
    if param.param_type_name == "argument":
        variable = f" [env var: {param.envvar}]" if param.envvar else ""
        record = (param.name.upper(), (param.help or "") + variable)
    else:
        record = param.get_help_record(context) or (param.opts[0], "")
    return record[0], record[1].replace("[", "\\[")


def configuration_page() -> str:
    """The settings of each process, the site's policy, and environment variables."""
    from cohortium.hub.config import HubConfig
    from cohortium.node.config import NodeConfig
    from cohortium.node.policy import TEMPLATE
    from cohortium.worker.folder import EnclaveConfig

    parts: list[tuple[str, str, type[BaseModel]]] = [
        ("hub.toml", "Of the hub, in its folder.", HubConfig),
        ("node.toml", "Of a node, in its folder.", NodeConfig),
        ("enclave.toml", "Of an enclave, in its folder.", EnclaveConfig),
    ]
    page = CONFIGURATION_HEAD
    for title, about, model in parts:
        page += f"\n## {title}\n\n{about}\n\n| Setting | Type | Default | |\n|---|---|---|---|\n"
        page += "".join(_setting_rows(model))
    return f"{page}{POLICY_HEAD}```yaml\n{TEMPLATE}```\n{ENVIRONMENT}"


def _setting_rows(model: type[BaseModel]) -> Iterator[str]:
    described = attributes(model.__doc__)
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{_default(field)}`"
        about = field.description or described.get(name, "")
        cells = (f"`{name}`", _type_name(field.annotation), default, about)
        yield f"| {' | '.join(_cell(cell) for cell in cells)} |\n"


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined or value is None:
        return "none"
    if isinstance(value, Enum):
        value = value.value
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type_name(annotation: Any) -> str:
    text = getattr(annotation, "__name__", None) if isinstance(annotation, type) else None
    text = text or re.sub(r"\b(?:typing|pathlib|datetime)\.", "", str(annotation))
    while "Annotated[" in text:
        shorter = re.sub(r"Annotated\[(\w+), [^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*\]", r"\1", text)
        if shorter == text:
            break
        text = shorter
    return text.replace("NoneType", "none").replace("None", "none")


def rest_page() -> str:
    """Every path of the hub's OpenAPI document."""
    document = _openapi()
    page = REST_HEAD
    for path, operations in sorted(document["paths"].items()):
        for method, operation in operations.items():
            page += f"\n## {method.upper()} {path}\n\n"
            page += (operation.get("description") or operation.get("summary", "")).strip() + "\n"
            parameters = operation.get("parameters", [])
            if parameters:
                page += "\n| Parameter | In | Type | |\n|---|---|---|---|\n"
            for parameter in parameters:
                kind = parameter.get("schema", {}).get("type", "string")
                needed = "required" if parameter.get("required") else "optional"
                page += f"| `{parameter['name']}` | {parameter['in']} | {kind} | {needed} |\n"
    return page


def _openapi() -> dict[str, Any]:
    from cohortium.core.rest import ConsortiumInfo
    from cohortium.hub.api import build_app
    from cohortium.hub.service import Hub
    from cohortium.hub.store import HubStore
    from cohortium.hub.thread_runner import ThreadRunner

    nobody = ConsortiumInfo(
        name="-", fingerprint=f"sha256:{'0' * 64}", ca_pem="", link_address="localhost:0"
    )
    store = HubStore("sqlite://")
    try:
        document: dict[str, Any] = build_app(
            Hub(store, consortium=nobody, runner=ThreadRunner())
        ).openapi()
    finally:
        store.close()
    return document


def _plain_help(text: str | None) -> str:
    """Help text as Markdown, without Click's paragraph markers and our docstrings' sections."""
    return re.split(r"\n\s*(?:Raises|Args|Returns):", (text or "").replace("\b", ""))[0].strip()


def _first_line(text: str | None) -> str:
    return (text or "").strip().splitlines()[0]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("``", "`")


PAGES: dict[str, Callable[[], str]] = {
    "errors": errors_page,
    "cli": cli_page,
    "configuration": configuration_page,
    "rest": rest_page,
    "documents": documents_page,
    "ledger": ledger_page,
}
