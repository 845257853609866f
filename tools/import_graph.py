"""Which modules can be loaded without running a line of a certain one."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

Edges = Mapping[str, frozenset[str]]
FOLDERS = ("src/cohortium", "tests/support")


def apart_from(file: str, tests: Iterable[str], root: Path) -> list[str]:
    """What tests load, down to the modules that do not load a file of the package.

    Args:
        file: The file, relative to the root.
        tests: Files of tests, relative to the root.
        root: Of the repository.

    Returns:
        Names of modules of the package and of tests.support, in order. Imports in functions, and
        such as are made from text, are not seen.
    """
    edges = _edges(root)
    users: dict[str, set[str]] = {}
    for module, loaded in edges.items():
        for other in loaded:
            users.setdefault(other, set()).add(module)
    wanted = {found for test in tests for found in _imports(root / test, "", edges)}
    return sorted(_closure(wanted, edges) - _closure([module_of(file)], users))


def module_of(file: str) -> str:
    """The module in a file of src, or of tests."""
    parts = Path(file.removeprefix("src/")).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def _edges(root: Path) -> Edges:
    """By module of src/cohortium and tests/support, what is loaded where it is."""
    found = (f for folder in FOLDERS for f in (root / folder).rglob("*.py"))
    files = {module_of(f.relative_to(root).as_posix()): f for f in found}
    edges = {}
    for name, path in files.items():
        package = name if path.stem == "__init__" else name.rpartition(".")[0]
        edges[name] = _imports(path, package, files) | (frozenset(_parents(name)) & set(files))
    return edges


def _imports(path: Path, package: str, known: Iterable[str]) -> frozenset[str]:
    """Those of the known modules that a file imports, with the packages that they are in."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set(_targets(tree, package))
    return frozenset(found | {p for name in found for p in _parents(name)}) & set(known)


def _parents(name: str) -> Iterator[str]:
    while name := name.rpartition(".")[0]:
        yield name


def _targets(node: ast.AST, package: str) -> Iterator[str]:
    """Names that may be modules in what is run when a file is loaded."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: 1 - node.level or None] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield from (base, *(f"{base}.{alias.name}" for alias in node.names))
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for statement in node.orelse:
            yield from _targets(statement, package)
    elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        for inner in ast.iter_child_nodes(node):
            if isinstance(inner, ast.stmt | ast.ExceptHandler):
                yield from _targets(inner, package)


def _closure(names: Iterable[str], edges: Mapping[str, Iterable[str]]) -> set[str]:
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting.extend(edges.get(name, ()))
    return found
