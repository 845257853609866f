"""The package's own source as syntax trees, for the tests of its architecture and documentation."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SRC = ROOT / "src" / "cohortium"


@cache
def modules() -> dict[str, ast.Module]:
    """Syntax tree of every module of ours by path under ``src/cohortium``; generated code apart."""
    return {
        path.relative_to(SRC).as_posix(): ast.parse(path.read_text(encoding="utf-8"), str(path))
        for path in sorted(SRC.rglob("*.py"))
        if "_generated" not in path.parts
    }


def nodes() -> Iterator[tuple[str, ast.AST]]:
    """Every node of every module, with the module's path."""
    for name, tree in modules().items():
        for node in ast.walk(tree):
            yield name, node


def public_definitions(
    tree: ast.Module | ast.ClassDef, prefix: str = ""
) -> Iterator[tuple[str, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Classes, functions and methods without a leading underscore; a setter is its property's."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        setter = any(
            getattr(decorator, "attr", "") == "setter" for decorator in node.decorator_list
        )
        if node.name.startswith("_") or setter:
            continue
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from public_definitions(node, f"{prefix}{node.name}.")
