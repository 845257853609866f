"""Takes one security check away at a time and shows which test notices.

    make mutants                      all of them
    make mutants ARGS="shamir -j 4"   those with `shamir` in their name or file, four at a time

The corpus is tests/mutants/*.toml, one file for each module of the package. The source is copied,
and the copy is changed: the working tree stays as it is.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import importlib.util
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from tools.import_graph import apart_from, module_of

ROOT = Path(__file__).parents[1]
CORPUS = ROOT / "tests" / "mutants"
LIMIT_S = 300.0
OPTIONS = (
    *("-x", "-q", "-p", "no:cacheprovider"),
    "--assert=plain",  # where CI is set, pytest shows the whole difference of two long messages
    *("-p", "pytest_asyncio.plugin", "-p", "pytest_timeout", "--timeout=60"),
)
BROKEN = ("ImportError", "IndentationError", "ModuleNotFoundError", "NameError", "SyntaxError")
"""What a mutant that is no program raises: no test has noticed anything."""


@dataclass(frozen=True)
class Mutant:
    """A check, and how to take it away.

    Attributes:
        name: Of the mutant: what the program does wrongly.
        check: What the program does otherwise, in a sentence.
        file: Relative to the root of the repository.
        old: Text that is once in the file.
        new: What stands there instead.
        tests: Node ids of pytest; one of them must fail.
        needs: Packages and programs without which these tests are skipped, and it is not tried.
    """

    name: str
    check: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    needs: tuple[str, ...] = ()

    @property
    def lacks(self) -> list[str]:
        """What of its needs is not on this machine."""
        return [name for name in self.needs if not (find_spec(name) or shutil.which(name))]

    def source(self, root: Path = ROOT) -> str:
        """The file without the check.

        Raises:
            ValueError: The corpus is out of date.
        """
        text = (root / self.file).read_text(encoding="utf-8")
        if (found := text.count(self.old)) != 1:
            raise ValueError(f"its `old` text is {found} times in {self.file}, not once")
        mutated = text.replace(self.old, self.new)
        if ast.dump(ast.parse(mutated)) == _tree(text):
            raise ValueError("it changes nothing")
        return mutated


@lru_cache(maxsize=4)  # the mutants of a file come one after another
def _tree(text: str) -> str:
    return ast.dump(ast.parse(text))


def load(folder: Path = CORPUS) -> list[Mutant]:
    """The corpus, by file."""
    mutants = []
    for path in sorted(folder.glob("*.toml")):
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        needs = tuple(document.get("needs", ()))
        for entry in document["mutant"]:
            tests = tuple(entry.pop("tests"))
            mutants.append(Mutant(file=document["file"], tests=tests, needs=needs, **entry))
    return mutants


@dataclass(frozen=True)
class Outcome:
    """How the tests ended.

    Attributes:
        passed: Every test was run and passed.
        noticed: A test ran to a failure of its own: not one that could not begin, hung, or met a
            program that is none.
        test: The first that did not pass.
        why: What it said.
    """

    passed: bool
    noticed: bool
    test: str = ""
    why: str = ""


class Sandbox:
    """A copy of the package in which the tests run, and a process that runs them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.copytree(ROOT / "src", folder / "src")
        compileall.compile_dir(folder / "src", quiet=2)
        # Not under the coverage, nor as the worker, of tests that try the corpus.
        inherited = ((k, v) for k, v in os.environ.items() if not k.startswith(("COV", "PYTEST")))
        self._environment = dict(inherited) | {
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTHONPATH": str(folder / "src"),
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "hypothesis"),
            "OPENBLAS_NUM_THREADS": "1",
        }
        self._host = subprocess.Popen(
            [sys.executable, "-m", "tools.mutant_host", str(LIMIT_S)],
            cwd=ROOT,
            env=self._environment,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        """The copy without one check."""
        path = self._folder / mutant.file
        before, compiled = path.read_bytes(), Path(importlib.util.cache_from_source(str(path)))
        compiled.unlink(missing_ok=True)
        path.write_text(mutant.source(self._folder), encoding="utf-8")
        try:
            yield
        finally:
            path.write_bytes(before)
            compiled.unlink(missing_ok=True)

    def run(self, tests: Iterable[str], file: str = "", load: Sequence[str] = ()) -> Outcome:
        """Run tests until the first fails.

        Args:
            file: Of the package, which is not loaded beforehand.
            load: Modules that are loaded once for all runs with this file.
        """
        report = self._folder / "report.xml"
        report.unlink(missing_ok=True)
        if self._host.stdin is None or self._host.stdout is None:
            raise RuntimeError("the host has no pipes")
        request = {
            "stem": module_of(file) if file else "",
            "load": list(load),
            "arguments": [*OPTIONS, f"--junitxml={report}", *tests],
        }
        print(json.dumps(request), file=self._host.stdin)
        self._host.stdin.flush()
        self._host.stdout.readline()
        return _read(report)

    def package(self) -> str:
        """Where the tests find the package."""
        return subprocess.run(
            [sys.executable, "-c", "import cohortium; print(cohortium.__file__)"],
            cwd=ROOT,
            env=self._environment,
            text=True,
            capture_output=True,
            check=True,
        ).stdout.strip()

    def close(self) -> None:
        """End the process."""
        os.killpg(self._host.pid, signal.SIGKILL)
        self._host.communicate()


def _read(report: Path) -> Outcome:
    """The first test that failed in a report of pytest's."""
    if not report.exists():
        return Outcome(passed=False, noticed=False, why="pytest did not end")
    cases = ET.parse(report).getroot().findall(".//testcase")
    for case in cases:
        for kind in ("failure", "error"):
            element = case.find(kind)
            if element is not None:
                why = element.get("message", "")
                program = not why.startswith(BROKEN) and "Timeout (>" not in why
                name = case.get("name", "")
                return Outcome(False, noticed=program and kind == "failure", test=name, why=why)
    if not cases:
        return Outcome(passed=False, noticed=False, why="no test was run")
    return Outcome(passed=True, noticed=False, why="all tests passed")


@contextmanager
def sandboxes(count: int) -> Iterator[queue.SimpleQueue[Sandbox]]:
    """So many copies to work in."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        free: queue.SimpleQueue[Sandbox] = queue.SimpleQueue()
        made = [Sandbox(Path(folder) / str(number)) for number in range(count)]
        for sandbox in made:
            free.put(sandbox)
        try:
            yield free
        finally:
            for sandbox in made:
                sandbox.close()


def check(mutants: Sequence[Mutant], jobs: int, *, green: bool = False) -> int:
    """Try all mutants and print a table; returns how many were not caught.

    Args:
        green: The tests are known to pass where no check is missing; they are not run once more.
    """
    by_file: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        if mutant.lacks:
            print(f"{mutant.name}: not tried, there is no {' and no '.join(mutant.lacks)}")
            continue
        by_file.setdefault(mutant.file, []).append(mutant)
    width = max(len(mutant.name) for mutant in mutants)
    files = max(len(_short(file)) for file in by_file)
    survivors = 0
    with sandboxes(jobs) as free, ThreadPoolExecutor(jobs) as pool:
        tried = [mutant for mutant in mutants if not mutant.lacks]
        _require_green([] if green else tried, free, pool, jobs)
        print(f"{'mutant':{width}}  {'file':{files}}  {'s':>5}  caught by")
        largest_first = sorted(by_file.values(), key=len, reverse=True)
        waiting = [pool.submit(_attempt, free, group) for group in largest_first]
        for done in as_completed(waiting):
            for mutant, outcome, seconds in done.result():
                survivors += not outcome.noticed
                caught = outcome.noticed
                told = _brief(outcome.test) if caught else f"NOT CAUGHT: {_reason(outcome)}"
                row = (
                    f"{mutant.name:{width}}  {_short(mutant.file):{files}}  {seconds:5.1f}  {told}"
                )
                print(row, flush=True)
    return survivors


def _attempt(
    free: queue.SimpleQueue[Sandbox], mutants: Sequence[Mutant]
) -> list[tuple[Mutant, Outcome, float]]:
    """Try the mutants of one file, one after another."""
    file, tests = mutants[0].file, {test for mutant in mutants for test in mutant.tests}
    test_files = {test.partition("::")[0] for test in tests} | {"tests/conftest.py"}
    load = apart_from(file, test_files, ROOT)
    sandbox = free.get()
    outcomes = []
    try:
        for mutant in mutants:
            began = time.monotonic()
            try:
                with sandbox.mutated(mutant):
                    outcome = sandbox.run(mutant.tests, file, load)
            except ValueError as error:
                outcome = Outcome(passed=False, noticed=False, why=f"out of date, {error}")
            outcomes.append((mutant, outcome, time.monotonic() - began))
    finally:
        free.put(sandbox)
    return outcomes


def _require_green(
    mutants: Sequence[Mutant],
    free: queue.SimpleQueue[Sandbox],
    pool: ThreadPoolExecutor,
    jobs: int,
) -> None:
    """The tests must pass, and import the copy, as long as no check is missing."""
    tests = sorted({test for mutant in mutants for test in mutant.tests})

    def run(share: list[str]) -> Outcome:
        sandbox = free.get()
        try:
            found = sandbox.package()
            if not Path(found).is_relative_to(tempfile.gettempdir()):
                why = f"the tests import {found}, not the copy"
                return Outcome(passed=False, noticed=False, why=why)
            return sandbox.run(share) if share else Outcome(passed=True, noticed=False)
        finally:
            free.put(sandbox)

    shares = [tests[number::jobs] for number in range(jobs)]
    for outcome in pool.map(run, shares):
        if not outcome.passed:
            raise SystemExit(f"without any mutant: {_reason(outcome)}")


def _reason(outcome: Outcome) -> str:
    return ": ".join([_brief(outcome.test), *outcome.why.splitlines()[:1]]).removeprefix(": ")


def _brief(test: str) -> str:
    """The name of a test, without parameters that are no text."""
    return test if test.isprintable() and "\\x" not in test else test.partition("[")[0]


def _short(file: str) -> str:
    return file.removeprefix("src/cohortium/")


def main() -> int:
    """Parse the command line and try the mutants."""
    parser = argparse.ArgumentParser(description="Take one security check away at a time.")
    parser.add_argument("only", nargs="*", help="parts of a mutant's name or file")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    only = options.only or [""]
    mutants = [m for m in load() if any(part in m.name or part in m.file for part in only)]
    if not mutants:
        raise SystemExit(f"no mutant has {' or '.join(only)} in its name or file")
    began = time.monotonic()
    survivors = check(mutants, max(1, options.jobs))
    seconds = time.monotonic() - began
    print(f"{len(mutants)} mutants, {survivors} not caught, {seconds:.0f} s")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
