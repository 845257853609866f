"""The rules of the house that a reader would otherwise have to check by hand."""

from __future__ import annotations

import ast
import re
import subprocess
import sys

from tests.support.source import ROOT, SRC, modules, nodes, public_definitions

from cohortium.errors import CATALOGUE, FAMILIES

GENERIC_NAMES = re.compile(r"(manager|engine|context|helper|helpers|utils?)$", re.IGNORECASE)


def test_imports_follow_the_layers() -> None:
    """The contracts stand in pyproject.toml under ``tool.importlinter``."""
    # In a process of its own: it sets up logging, which switches every logger of this one off.
    program = "from importlinter.cli import lint_imports_command as lint; lint()"
    command = [sys.executable, "-c", program, "--no-cache", "--no-logo"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


def _raised_errors() -> list[tuple[str, int, str, str | None]]:
    """Module, line, family and code of every error built in the package."""
    found = []
    for name, node in nodes():
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        family = getattr(function, "id", None) or getattr(function, "attr", None)
        if family in FAMILIES and name != "errors.py":
            first = node.args[0] if node.args else None
            code = first.value if isinstance(first, ast.Constant) else None
            found.append((name, node.lineno, str(family), code if isinstance(code, str) else None))
    return found


def test_every_raised_error_is_in_the_catalogue_with_its_family() -> None:
    raised = _raised_errors()
    assert len(raised) > 20
    wrong = [
        f"{name}:{line}: {family}({code!r})"
        for name, line, family, code in raised
        if code is not None and (code not in CATALOGUE or CATALOGUE[code].family != family)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_catalogue_code_is_used_somewhere() -> None:
    constants = {
        node.value
        for name, node in nodes()
        if name != "errors.py" and isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert sorted(set(CATALOGUE) - constants) == []


def test_families_and_exit_codes_are_one_to_one() -> None:
    exit_codes = [family.exit_code for family in FAMILIES.values()]
    assert len(set(exit_codes)) == len(exit_codes)
    assert {entry.family for entry in CATALOGUE.values()} == set(FAMILIES)
    assert all(400 <= entry.http_status < 600 for entry in CATALOGUE.values())


def test_nothing_unpickles() -> None:
    unsafe = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
    found = []
    for name, node in nodes():
        imported: list[str] = []
        if isinstance(node, ast.Import):
            imported = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            imported = [node.module or ""]
        found += [f"{name}: {module}" for module in imported if module.split(".")[0] in unsafe]
        if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            allowed = not (isinstance(node.value, ast.Constant) and node.value.value is False)
            found += [f"{name}:{node.value.lineno}: allow_pickle"] if allowed else []
    assert not found


def test_no_bare_except_and_no_assert_in_the_package() -> None:
    found = [
        f"{name}:{node.lineno}"
        for name, node in nodes()
        if isinstance(node, ast.Assert) or (isinstance(node, ast.ExceptHandler) and not node.type)
    ]
    assert not found


def test_secrets_never_come_from_a_statistics_generator() -> None:
    found = []
    for name, node in nodes():
        if isinstance(node, ast.Import):
            found += [name for alias in node.names if alias.name in {"random", "numpy.random"}]
        if isinstance(node, ast.ImportFrom) and node.module in {"random", "numpy.random"}:
            found.append(name)
        if isinstance(node, ast.Attribute) and node.attr == "random":
            found += [name] if getattr(node.value, "id", "") in {"np", "numpy"} else []
    # A back-off's jitter is no secret; the link's client receives its source as a parameter.
    assert set(found) <= {"link/client.py", "node/main.py"}


def test_every_public_module_class_and_function_has_a_docstring() -> None:
    bare = [name for name, tree in modules().items() if tree.body and not ast.get_docstring(tree)]
    bare += [
        f"{name}: {path}"
        for name, tree in modules().items()
        for path, node in public_definitions(tree)
        if not ast.get_docstring(node)
    ]
    assert not bare, "\n".join(bare)


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert [name for name in modules() if GENERIC_NAMES.search(name.removesuffix(".py"))] == []


def test_no_package_is_empty() -> None:
    packages = {path.parent for path in SRC.rglob("__init__.py")}
    empty = [
        folder.name
        for folder in packages
        if not [path for path in folder.iterdir() if path.suffix == ".py" and path.stat().st_size]
    ]
    assert not empty


def test_every_test_file_holds_a_test() -> None:
    without = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [
            node.name
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        machines = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute) and node.attr == "TestCase"
        ]
        if not any(name.startswith("test") for name in names) and not machines:
            without.append(path.relative_to(ROOT).as_posix())
    assert not without


def test_no_file_names_a_path_of_a_machine() -> None:
    """Committed text never names a developer's folders."""
    home = re.compile(r"(?<![\w./}$~-])/(?:work|root|home/\w+)/")
    folders = ("src", "tests", "docs", "tools", "benchmarks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    found = [
        path.relative_to(ROOT).as_posix()
        for path in files
        if path.suffix in {".py", ".md", ".toml", ".yml", ".yaml", ".svg", ".proto", ""}
        and "__pycache__" not in path.parts
        and path.name != "test_architecture.py"
        and home.search(path.read_text(encoding="utf-8", errors="replace"))
    ]
    assert not found


def test_constraints_are_exact_versions_without_a_place() -> None:
    lines = [
        line.split("#")[0].strip()
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    ]
    pins = [line for line in lines if line]
    assert len(pins) > 100
    assert [p for p in pins if not re.fullmatch(r"[\w.-]+(==[\w.]+|<[\d.]+)", p)] == []
