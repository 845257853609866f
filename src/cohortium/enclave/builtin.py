"""Built-in tasks: programs of this release, known by name and version instead of by their code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cohortium.contract.task import Scalar, SlotKind
from cohortium.core.canonical import digest as digest_of
from cohortium.enclave.manifest import Manifest
from cohortium.errors import InputError

PREFIX: Final = "builtin:"
FOLDER: Final = Path(__file__).parent / "tasks"
MODEL: Final = "model"
# One thread, so that sums have one order and a run can be repeated to the last digit.
_ENVIRONMENT: Final = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class BuiltIn:
    """A built-in task.

    Attributes:
        version: Changes whenever its outputs may.
        outputs: Slots.
        arguments: Their values where a run gives none; None: a run must give one.
        fewest_tables: Its tables may have any names.
        model: Whether it takes one.
    """

    name: str
    version: int
    outputs: tuple[str, ...]
    arguments: Mapping[str, Scalar | None] = field(default_factory=dict)
    fewest_tables: int = 1
    model: bool = False

    @property
    def digest(self) -> str:
        """What a contract binds."""
        return digest_of({"builtin": self.name, "version": self.version})

    def manifest(self, inputs: Iterable[str]) -> Manifest:
        """How it is started on inputs of these names.

        Raises:
            InputError: ``bad-input`` where there are too few tables, or the model is missing.
        """
        named = list(inputs)
        tables = [name for name in named if not (self.model and name == MODEL)]
        if len(tables) < self.fewest_tables or (self.model and MODEL not in named):
            raise InputError(
                "bad-input",
                f"{PREFIX}{self.name} needs {self.fewest_tables} or more tables of any names"
                f"{f', and {MODEL}' if self.model else ''}: --input NAME=PATH for each.",
            )
        slots: dict[str, SlotKind] = dict.fromkeys(tables, "dataset")
        command = ["{python}", "-I", "-B", "{code}/main.py", self.name]
        for name in tables:
            command += ["--table", f"{name}={{inputs.{name}}}"]
        if self.model:
            slots[MODEL] = "model"
            command += ["--model", f"{MODEL}={{inputs.{MODEL}}}"]
        for name in self.outputs:
            command += ["--output", f"{name}={{outputs.{name}}}"]
        command += [f"{name}={{arguments.{name}}}" for name in self.arguments]
        return Manifest(
            command=tuple(command),
            inputs=slots,
            outputs=self.outputs,
            arguments=dict(self.arguments),
            environment=_ENVIRONMENT,
        )


_JOINED: Final[dict[str, Scalar | None]] = {
    "id": None,
    "repeated": "refuse",
    "missing": "refuse",
    "min_cell": 10,
}
_TRAINED: Final[dict[str, Scalar | None]] = {
    **_JOINED,
    "target": None,
    "features": "",
    "holdout": 0.0,
    "seed": 0,
}
_NAMED: Final[dict[str, Scalar | None]] = {"describe": "", "correlation": "", "crosstab": ""}
_MADE: Final = (MODEL, "report")
_ALL: Final = (
    BuiltIn("intersection", 1, ("counts", "ids"), {**_JOINED, "release": False}, 2),
    BuiltIn("join", 1, ("counts", "table"), {**_JOINED, "columns": "", "format": "csv"}, 2),
    BuiltIn("join-compute", 1, ("groups",), {**_JOINED, "value": None, "group": ""}, 2),
    BuiltIn("statistics", 1, ("statistics",), {**_JOINED, **_NAMED}),
    BuiltIn("logistic-train", 1, _MADE, {**_TRAINED, "penalty": 1.0}),
    BuiltIn(
        "trees-train",
        1,
        _MADE,
        {**_TRAINED, "trees": 100, "leaves": 31, "rate": 0.1, "penalty": 0.0},
    ),
    BuiltIn("pca", 1, _MADE, {**_JOINED, "features": "", "components": 2}),
    BuiltIn("kmeans", 1, _MADE, {**_JOINED, "features": "", "clusters": 3, "seed": 0}),
    BuiltIn("predict", 1, ("predictions",), _JOINED, model=True),
)
BUILTIN: Final[Mapping[str, BuiltIn]] = {one.name: one for one in _ALL}


def find(name: str) -> BuiltIn:
    """A built-in task by its name, with or without the prefix.

    Raises:
        InputError: ``not-found``.
    """
    found = BUILTIN.get(name.removeprefix(PREFIX))
    if found is None:
        raise InputError(
            "not-found", f"There is no built-in task {name[:80]!r}; there are {', '.join(BUILTIN)}."
        )
    return found
