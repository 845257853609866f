"""JSON Schemas of the documents that are signed or put on the ledger, in docs/reference/schemas.

    python -m tools.schemas [--check]

They describe the canonical form: fields without a value are left out, all others are there. What a
schema cannot say (that names refer to something, that times lie in order) the program checks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from tools.docstrings import attributes, summary

from cohortium.audit.bundle import Bundle
from cohortium.contract.model import Contract, Draft, RunRequest
from cohortium.contract.statements import Assignment, Transition
from cohortium.crypto.signed import Envelope
from cohortium.enclave.exchange import Offer, Release, TaskOutcome
from cohortium.ledger.entry import Entry

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "docs" / "reference" / "schemas"

DOCUMENTS: Final[Mapping[str, type[BaseModel]]] = {
    "contract": Contract,
    "draft": Draft,
    "transition": Transition,
    "assignment": Assignment,
    "run-request": RunRequest,
    "enclave-offer": Offer,
    "key-release": Release,
    "task-outcome": TaskOutcome,
    "ledger-entry": Entry,
    "envelope": Envelope,
    "audit-bundle": Bundle,
}

_INSTANT: Final = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$",
}
"""UTC to the second (`cohortium.core.clock.Instant`)."""


def schema(document: type[BaseModel], name: str) -> dict[str, Any]:
    """The JSON Schema of a document's canonical form."""
    made: dict[str, Any] = _plain(document.model_json_schema())
    models = {model.__name__: model for model in _models(document)}
    _describe(made, document)
    for key, part in made.get("$defs", {}).items():
        if key in models:
            _describe(part, models[key])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:cohortium:schema:{name}",
        "title": document.__name__,
        **made,
    }


def _models(document: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield document
    for field in document.model_fields.values():
        for part in _parts(field.annotation):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _models(part)


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _plain(value: Any) -> Any:
    """Without generated titles, defaults and nulls, none of which a canonical document has."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("format") == "date-time":
        return dict(_INSTANT)
    choices = [choice for choice in value.get("anyOf", ()) if choice != {"type": "null"}]
    if len(choices) == 1:
        return _plain({k: v for k, v in value.items() if k != "anyOf"} | choices[0])
    left_out = {"default", "discriminator"}
    if isinstance(value.get("title"), str):
        left_out.add("title")
    kept = {k: _plain(v) for k, v in value.items() if k not in left_out}
    if "patternProperties" in kept:
        kept["additionalProperties"] = False
    return kept | ({"anyOf": _plain(choices)} if choices else {})


def _describe(part: dict[str, Any], model: type[BaseModel]) -> None:
    """Descriptions from the docstring, and which fields a canonical document always has."""
    if model.__doc__ is not None:
        part["description"] = summary(model.__doc__)
    described = {
        name: text
        for base in reversed(model.__mro__)
        for name, text in attributes(base.__doc__).items()
    }
    for name, field in part["properties"].items():
        if name in described:
            field["description"] = " ".join(described[name].split())
    part["required"] = [
        name
        for name, field in model.model_fields.items()
        if field.get_default(call_default_factory=True) is not None
        or field.get_default() is PydanticUndefined
    ]


def texts() -> dict[Path, str]:
    """The files' contents by path."""
    return {
        FOLDER / f"{name}.json": json.dumps(schema(document, name), indent=2, ensure_ascii=False)
        + "\n"
        for name, document in DOCUMENTS.items()
    }


def main() -> int:
    """Write the files; with ``--check`` only say which are not current."""
    stale = [
        path
        for path, text in texts().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        print(path.relative_to(ROOT))
        if "--check" not in sys.argv:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(texts()[path], encoding="utf-8")
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
