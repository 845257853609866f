"""What a built-in task is called with: its files and arguments."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class Refused(Exception):
    """The task cannot, or must not, compute this; the message holds no value of the data."""


@dataclass(frozen=True)
class Call:
    """A run of a task.

    Attributes:
        tables: A file, or a folder with one, for each owner's table.
        model: The same, of a model that an earlier task wrote.
        outputs: A folder for each output.
        arguments: As text.
    """

    tables: Mapping[str, Path]
    outputs: Mapping[str, Path]
    arguments: Mapping[str, str]
    model: Path | None = None

    def text(self, name: str) -> str:
        """An argument; "" where it may be left empty."""
        if name not in self.arguments:
            raise Refused(f"The argument {name} is missing.")
        return self.arguments[name].strip()

    def choice(self, name: str, among: Sequence[str]) -> str:
        """One of these words."""
        if (value := self.text(name)) not in among:
            raise Refused(f"The argument {name} is {' or '.join(among)}, not {value[:80]!r}.")
        return value

    def flag(self, name: str) -> bool:
        """True or false."""
        value = self.text(name).lower()
        if value not in {"true", "false"}:
            raise Refused(f"The argument {name} is true or false, not {value[:80]!r}.")
        return value == "true"

    def integer(self, name: str, least: int, most: int) -> int:
        """A whole number within these bounds."""
        text = self.text(name)
        digits = text.removeprefix("-")
        value = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 19 else None
        if value is None or not least <= value <= most:
            raise Refused(
                f"The argument {name} is a whole number from {least} to {most}, not {text[:80]!r}."
            )
        return value

    def number(self, name: str, least: float, most: float) -> float:
        """A number within these bounds."""
        text = self.text(name)
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most:
            raise Refused(
                f"The argument {name} is a number from {least:g} to {most:g}, not {text[:80]!r}."
            )
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """Names with commas between them; none where it is empty."""
        found = tuple(part.strip() for part in self.text(name).split(",") if part.strip())
        if len(set(found)) != len(found):
            raise Refused(f"The argument {name} names a column twice.")
        return found

    @property
    def min_cell(self) -> int:
        """Fewest rows that anything given out may rest on."""
        return self.integer("min_cell", 1, 1_000_000)

    @property
    def seed(self) -> int:
        """Of all that is drawn by chance."""
        return self.integer("seed", 0, 2**32 - 1)

    def write(self, output: str, name: str, document: Mapping[str, Any]) -> None:
        """A JSON file of an output; numbers that are not finite are refused."""
        try:
            text = json.dumps(document, allow_nan=False, indent=1, ensure_ascii=False)
        except ValueError as error:
            raise Refused(f"A number of {output} is not finite.") from error
        (self.outputs[output] / name).write_text(text + "\n", encoding="utf-8")
