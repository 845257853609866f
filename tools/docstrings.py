"""What docstrings say, for the reference pages and the JSON Schemas."""

from __future__ import annotations

import re


def attributes(docstring: str | None) -> dict[str, str]:
    """The ``Attributes:`` section of a docstring, one text for each name."""
    _, _, section = (docstring or "").partition("Attributes:")
    found: dict[str, str] = {}
    names: list[str] = []
    for line in section.splitlines():
        match = re.match(r"\s{8}([\w, ]+): (.*)", line)
        if match:
            names = [name.strip() for name in match.group(1).split(",")]
            found.update(dict.fromkeys(names, match.group(2)))
        elif names and line.startswith(" " * 12):
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
    return found


def summary(docstring: str | None) -> str:
    """What stands before the sections of a docstring, as one paragraph."""
    text = re.split(r"\n\s*(?:Attributes|Args|Raises|Returns):", docstring or "")[0]
    return " ".join(text.split())


__all__ = ["attributes", "summary"]
