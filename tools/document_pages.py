"""Reference pages of the signed documents and of the ledger's entries, from their JSON Schemas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from tools.docstrings import summary
from tools.schemas import DOCUMENTS, schema

DOCUMENTS_HEAD: Final = """\
# Documents

*Written from the code at each build.*

What is signed, and what stands on the ledger, is JSON in
[RFC 8785](https://www.rfc-editor.org/rfc/rfc8785) form. Each document has a JSON Schema (draft
2020-12) of that form: a field without a value is left out, every other field is there. A digest is
`sha256:` and the SHA-256 of those bytes. A signed document is the payload of a
[DSSE](https://github.com/secure-systems-lab/dsse) envelope with one Ed25519 signature.

A schema cannot say everything. That names refer to something, that keys are distinct and that times
lie in order, Cohortium checks itself, and refuses what does not hold.

| Schema | Payload type | Meaning |
|---|---|---|
"""

LEDGER_HEAD: Final = """\
# Ledger entries

*Written from the code at each build.*

An entry is `{"schema_id", "at", "fact"}` in RFC 8785 form (see its
[JSON Schema](schemas/ledger-entry.json)); those bytes are the leaf of the log. `at` is when the hub
put it there, in UTC, and never before the `at` of the entry in front of it. `fact` has a `kind` and
the fields of that kind. No entry holds patient data or the values of a result.

| Kind | |
|---|---|
"""

_WORDS: Final = {
    "^sha256:[0-9a-f]{64}$": "digest",
    "^ed25519:[A-Za-z0-9_-]{43}$": "key",
    "^[0-9a-f]{32}$": "32 hex digits",
    r"^[^\x00-\x1f\x7f]+$": "name",
    "^[A-Za-z][A-Za-z0-9_]{0,63}$": "name",
    "^[a-z0-9][a-z0-9-]{0,62}$": "study",
    "^[a-z][a-z0-9-]{0,62}$": "[error code](errors.md)",
}


def documents_page() -> str:
    """The JSON Schemas, with what they are of."""
    page = DOCUMENTS_HEAD
    for name, document in DOCUMENTS.items():
        kind = getattr(document, "payload_type", None)
        cells = (
            f"[{name}](schemas/{name}.json)",
            "" if kind is None else f"`{kind}`",
            _cell(summary(document.__doc__)),
        )
        page += f"| {' | '.join(cells)} |\n"
    return page


def ledger_page() -> str:
    """Each kind of entry with its fields."""
    entry = schema(DOCUMENTS["ledger-entry"], "ledger-entry")
    parts = entry["$defs"]
    known = [parts[_name(choice["$ref"])] for choice in entry["properties"]["fact"]["oneOf"]]
    facts = {fact["properties"]["kind"]["const"]: fact for fact in known}
    page = LEDGER_HEAD
    page += "".join(
        f"| `{kind}` | {_cell(fact['description'])} |\n" for kind, fact in facts.items()
    )
    for kind, fact in facts.items():
        page += f"\n## {kind}\n\n{_cell(fact['description'])}\n\n"
        page += "| Field | Type | |\n|---|---|---|\n"
        page += "".join(_rows(fact, parts))
    return page


def _rows(part: dict[str, Any], parts: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """A row for each field; those of a document inside it follow it."""
    for name, field in part["properties"].items():
        if name == "kind" and not prefix:
            continue
        text, inner = _type(field, parts)
        if name not in part["required"]:
            text += ", or absent"
        yield f"| `{prefix}{name}` | {_cell(text)} | {_cell(field.get('description', ''))} |\n"
        if inner is not None:
            yield from _rows(inner, parts, f"{prefix}{name}.*.")


def _type(field: dict[str, Any], parts: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
    """A field's type in words, and the document that it holds."""
    if "$ref" in field:
        return "document", parts[_name(field["$ref"])]
    if "enum" in field:
        return ", ".join(f"`{choice}`" for choice in field["enum"]), None
    if field["type"] == "array":
        text, inner = _type(field["items"], parts)
        return f"list of {text}s", inner
    if field["type"] == "object":
        (held,) = field["patternProperties"].values()
        text, inner = _type(held, parts)
        return f"{text} by name", inner
    word = _WORDS.get(field.get("pattern", ""))
    return word or {"string": "text"}.get(field["type"], field["type"]), None


def _name(reference: str) -> str:
    return reference.rpartition("/")[2]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("``", "`")


__all__ = ["documents_page", "ledger_page"]
