"""The command line of the built-in tasks, as their manifests write it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final

from .call import Call, Refused

MODULES: Final = {
    "intersection": "intersection",
    "join": "join",
    "join-compute": "join_compute",
    "statistics": "joined_statistics",
    "logistic-train": "logistic",
    "trees-train": "trees",
    "pca": "principal_components",
    "kmeans": "clusters",
    "predict": "predict",
}


def main(words: Sequence[str]) -> int:
    """Run the task that the first word names; 2 where it refuses, and says why."""
    name, call = parsed(words)
    try:
        import_module(f"{__package__}.{MODULES[name]}").run(call)
    except Refused as refusal:
        sys.stdout.write(f"Refused: {refusal}\n")
        return 2
    return 0


def parsed(words: Sequence[str]) -> tuple[str, Call]:
    """The task and what it is called with."""
    name, *rest = words
    tables: dict[str, Path] = {}
    outputs: dict[str, Path] = {}
    arguments: dict[str, str] = {}
    model = None
    following = iter(rest)
    for word in following:
        key, _, value = (next(following) if word.startswith("--") else word).partition("=")
        if word == "--table":
            tables[key] = Path(value)
        elif word == "--output":
            outputs[key] = Path(value)
        elif word == "--model":
            model = Path(value)
        else:
            arguments[key] = value
    return name, Call(tables, outputs, arguments, model)
