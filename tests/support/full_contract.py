"""A contract in which every field has a value, and what becomes of it when one field changes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from tests.support.contracts import ADA, AGE, SEX, contract, key

from cohortium.contract.model import Contract
from cohortium.core.canonical import digest


def full_contract(**changes: Any) -> Contract:
    """Tasks, noise, custom code, environment, cohort and people, in a second version."""
    code = {"name": "trainer", "content_digest": digest("code"), "owner": "Vendor", "public": False}
    noise = {"unit": "institution", "epsilon": 1.5, "delta": 1e-6, "sums": 40, "clip": 2.5}
    terms: dict[str, Any] = {
        "version": 2,
        "amends": digest("version 1"),
        "purpose": "Survival by sex.\n\nAnd by age.",
        "contacts": ({"name": "Bo", "role": "data protection officer", "email": "bo@x.example"},),
        "cohort": {
            "include": ("age >= 18", "sex = '1'"),
            "exclude": ("wt_loss > 20",),
            "adjustable": ("age", "sex"),
        },
        "derived": ({"name": "old", "expression": "age > 70"},),
        "variables": (
            AGE.model_copy(update={"description": "At diagnosis", "missing": 3}),
            SEX.model_copy(update={"source": "geschlecht"}),
            {"name": "wt_loss", "type": "real", "decimals": 1, "unit": "kg"},
        ),
        "computations": (
            {
                "name": "glm",
                "variables": ("age", "sex"),
                "max_runs": 10,
                "limits": {"family": ("binomial", "poisson"), "alpha": (0.5, True)},
                "noise": {**noise, "colluders": 1, "multiplier": 7.25},
                "versions": {"glm": 3},
                "recipients": ("Ada",),
            },
            {"name": "own_model", "code": code},
            {"name": "stats.*", "versions": {"stats.describe": 1, "stats.table": 2}},
        ),
        "tasks": (
            {
                "name": "train",
                "code": code,
                "arguments": (
                    {"name": "epochs", "value": 10},
                    {"name": "seed", "required": False},
                ),
                "inputs": (
                    {
                        "name": "images",
                        "kind": "dataset",
                        "owners": ("Aarhus",),
                        "artefact": {
                            "name": "scans",
                            "content_digest": digest("scans"),
                            "owners": ("Aarhus",),
                            "dictionary_digest": digest("dictionary of scans"),
                        },
                    },
                    {"name": "start", "kind": "model", "owners": ("Vendor",), "required": False},
                ),
                "outputs": (
                    {
                        "name": "model",
                        "owners": ("Ada", "Aarhus"),
                        "recipients": ("Ada", "Eve"),
                        "joint": True,
                    },
                ),
                "max_runs": 2,
                "security_level": "L4",
                "executor": "gramine-sgx",
                "limits": {"memory_bytes": 1 << 30, "cpu_s": 600.0, "time_s": 900.0},
                "log_recipients": ("Ada", "Eve"),
            },
        ),
        "recipients": (ADA, {"name": "Eve", "key": key("Eve").public}),
        "owners": ({"name": "Vendor", "key": key("Vendor").public},),
        "security_level": "L2",
        "environment": {
            "executor": "bubblewrap",
            "enclaves": (
                {"name": "Kiel", "key": key("Kiel").public},
                {"name": "Lund", "key": key("Lund").public},
            ),
            "measurements": (
                {"kind": "mrenclave", "value": "ab" * 32},
                {"kind": "mrsigner", "value": "cd" * 32, "product": 4, "min_svn": 2},
            ),
            "tcb_states": ("UpToDate", "SWHardeningNeeded"),
            "allow_simulated": True,
        },
        "aggregation": "enclave",
        "disclosure": {
            "min_cell": 7,
            "floor": "total",
            "min_cohort": 20,
            "dominance": {"largest": 2, "percent": 70.0},
            "persons_per_parameter": 15,
            "residual_df": 12,
            "min_at_risk": 11,
            "quantile_tail": 9,
            "max_levels": 50,
            "rounding": 5,
            "by_site": True,
        },
    }
    made = contract(**(terms | changes))
    participants = made.participants
    if "participants" not in changes:
        first = participants[0].model_copy(update={"sources": {"wt_loss": "weightloss"}})
        made = made.model_copy(update={"participants": (first, *participants[1:])})
    return Contract.from_json(made.to_json())


@dataclass(frozen=True)
class Mutation:
    """A document with one field changed, perhaps to what no validation would let pass.

    Attributes:
        pattern: ``computations.*.max_runs``; items of lists and of mappings are ``*``.
    """

    pattern: str
    document: Any


def mutations(document: BaseModel, pattern: str = "") -> Iterator[Mutation]:
    """Each field changed, and each optional one left out."""
    for name, field in type(document).model_fields.items():
        place = f"{pattern}.{name}" if pattern else name
        present = getattr(document, name)
        for inner, changed in _changed(present, field.annotation, place):
            yield Mutation(inner, document.model_copy(update={name: changed}))
        if present is not None and type(None) in get_args(field.annotation):
            yield Mutation(place, document.model_copy(update={name: None}))


def _changed(value: Any, annotation: Any, place: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, BaseModel):
        yield from ((m.pattern, m.document) for m in mutations(value, place))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            for inner, other in _changed(item, None, f"{place}.*"):
                yield inner, (*value[:index], other, *value[index + 1 :])
        if value:
            yield place, value[:-1]
    elif isinstance(value, dict):
        for name in value:
            yield f"{place}.*", {k: v for k, v in value.items() if k != name}
            for inner, other in _changed(value[name], None, f"{place}.*"):
                yield inner, {**value, name: other}
    elif value is not None:
        yield from ((place, other) for other in _others(value, annotation))


def _others(value: Any, annotation: Any) -> Iterator[Any]:
    choices = [c for part in (annotation, *get_args(annotation)) for c in _literals(part)]
    if choices:
        yield from (choice for choice in choices if choice != value)
    elif isinstance(value, Enum):
        yield from (other for other in type(value) if other is not value)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int | float):
        yield value + 1
    elif isinstance(value, datetime):
        yield value + timedelta(seconds=1)
    elif isinstance(value, str):
        yield _other_text(value)


def _other_text(text: str) -> str:
    for prefix in ("sha256:", "ed25519:"):
        if text.startswith(prefix):
            return prefix + ("A" if text[len(prefix)] != "A" else "B") + text[len(prefix) + 1 :]
    return text + "x"


def _literals(annotation: Any) -> tuple[Any, ...]:
    return get_args(annotation) if get_origin(annotation) is Literal else ()


@dataclass(frozen=True)
class Field:
    """A field of a document or of one inside it.

    Attributes:
        documents: The documents that it holds, if it holds any.
        many: A list or mapping.
    """

    pattern: str
    annotation: Any
    optional: bool
    documents: tuple[type[BaseModel], ...]
    many: bool


def fields(document: type[BaseModel], pattern: str = "") -> Iterator[Field]:
    """Every field down to the values, with ``*`` for the items of lists and mappings."""
    for name, field in document.model_fields.items():
        place = f"{pattern}.{name}" if pattern else name
        parts = tuple(_parts(field.annotation))
        inner = tuple(
            dict.fromkeys(p for p in parts if isinstance(p, type) and issubclass(p, BaseModel))
        )
        many = bool({tuple, dict} & {get_origin(part) for part in parts})
        yield Field(place, field.annotation, type(None) in parts, inner, many)
        for one in inner:
            yield from fields(one, f"{place}.*" if many else place)


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    if get_origin(annotation) is not Literal:
        for part in get_args(annotation):
            yield from _parts(part)
