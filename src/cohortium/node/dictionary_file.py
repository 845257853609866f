"""``dictionary.yaml``: the inferred data dictionary as the steward edits and confirms it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from cohortium.core.dictionary import Dictionary
from cohortium.core.model import explain
from cohortium.errors import InputError
from cohortium.node.infer import InferredColumn

_HEAD = """\
Data dictionary of the dataset {name}: {n_rows} rows from {source}

1. Check each entry. Its name, type, unit, levels, decimals, missing and description become visible
   to the consortium when you confirm; comments, `source` paths and `recode` stay here.
2. Delete an entry to leave its column out. Delete `missing` to keep that number private.
3. Types: integer, real, boolean, category, date, datetime, text. A category lists its levels; the
   first is the reference level. Without `levels`, a category takes the values that are found.
4. `recode` replaces values before they are read: `recode: {{"-9": null, Asian: other}}`.
   null makes a value missing.
5. `decimals` of a real: digits after the point to which it was recorded. Quantiles are found to
   this resolution. Leave it empty where values are continuous.
6. Then run: cohortium data confirm {name}
"""

LevelsOf = Callable[[str, Mapping[str, str | None]], Sequence[str]]
"""The values found in a source column, after recoding."""


@dataclass(frozen=True)
class DeclaredDictionary:
    """What the steward declared.

    Attributes:
        recode: Replaced values by variable name; None for missing.
    """

    dictionary: Dictionary
    recode: Mapping[str, Mapping[str, str | None]]


def write_dictionary(
    name: str, source: str, n_rows: int, columns: Sequence[InferredColumn]
) -> bytes:
    """The YAML of an inferred dictionary, with notes as comments."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    entries = CommentedSeq()
    for place, column in enumerate(columns):
        variable = column.variable
        entry = CommentedMap(name=variable.name)
        if variable.source is not None:
            entry["source"] = variable.source
        entry["type"] = variable.type.value
        if variable.levels is not None:
            entry["levels"] = CommentedSeq(variable.levels)
            entry["levels"].fa.set_flow_style()
        if variable.decimals is not None:
            entry["decimals"] = variable.decimals
        entry["unit"] = None
        entry["missing"] = variable.missing
        entry["description"] = None
        entries.append(entry)
        notes = "\n".join(_one_line(note) for note in column.notes)
        entries.yaml_set_comment_before_after_key(place, before="\n" + notes if notes else "\n")
    document = CommentedMap(variables=entries)
    document.yaml_set_start_comment(
        _HEAD.format(name=name, n_rows=n_rows, source=_one_line(source))
    )
    text = io.StringIO()
    _yaml().dump(document, text)
    return text.getvalue().encode()


def read_dictionary(text: bytes, levels_of: LevelsOf) -> DeclaredDictionary:
    """Parse an edited dictionary.

    Raises:
        InputError: ``bad-data``, with the line or the entry at fault.
    """
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        document = _yaml(safe=True).load(text.decode("utf-8"))
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
        raise _bad(f"line {line}: {error.problem}", line=line) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise _bad("it is not valid YAML in UTF-8") from error
    if not isinstance(document, dict) or set(document) != {"variables"}:
        raise _bad("it must have one key, `variables`")
    if not isinstance(document["variables"], list):
        raise _bad("`variables` must be a list of entries")
    recode: dict[str, dict[str, str | None]] = {}
    entries = [_entry(number, given, recode) for number, given in enumerate(document["variables"])]
    for entry in entries:
        if entry.get("type") == "category" and entry.get("levels") is None:
            header = entry.get("source") or entry["name"]
            entry["levels"] = list(levels_of(header, recode.get(entry["name"], {})))
    try:
        dictionary = Dictionary.model_validate({"variables": entries})
    except ValidationError as error:
        named = re.sub(
            r"\bvariables\.(\d+)", lambda at: entries[int(at[1])]["name"], explain(error)
        )
        raise _bad(named) from error
    return DeclaredDictionary(dictionary, recode)


def _entry(number: int, given: Any, recode: dict[str, dict[str, str | None]]) -> dict[str, Any]:
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise _bad(f"entry {number + 1} has no `name`")
    entry = dict(given)
    name = entry["name"]
    replaced = entry.pop("recode", None)
    if replaced is not None:
        if not isinstance(replaced, dict):
            raise _bad(f"{name}: `recode` must map values to values")
        recode[name] = {
            _text(old): None if new is None else _text(new) for old, new in replaced.items()
        }
    if isinstance(entry.get("levels"), list):
        entry["levels"] = [_text(level) for level in entry["levels"]]
    return entry


def _text(scalar: Any) -> str:
    """A YAML scalar as it is written in the data: ``levels: [0, 1]`` means the texts 0 and 1."""
    return str(scalar).lower() if isinstance(scalar, bool) else str(scalar)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _yaml(*, safe: bool = False) -> Any:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True) if safe else YAML()
    yaml.width = 10_000
    yaml.allow_unicode = True
    yaml.indent(mapping=2, sequence=2, offset=0)
    return yaml


def _bad(message: str, **details: Any) -> InputError:
    return InputError("bad-data", f"dictionary.yaml: {message}.", **details)
