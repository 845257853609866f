"""Starts a built-in task: ``python main.py NAME --table SLOT=PATH ... NAME=VALUE ...``.

The folder is a package of its own name wherever an executor shows it, so that what runs is what
the executor was given, and not what the environment has installed.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import TracebackType
from typing import Final

_PACKAGE: Final = "cohortium_tasks"


def package(folder: Path) -> str:
    """The name under which the modules of `folder` can be imported from now on."""
    spec = spec_from_file_location(
        _PACKAGE, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{folder} is no package")
    module = module_from_spec(spec)
    sys.modules[_PACKAGE] = module
    spec.loader.exec_module(module)
    return _PACKAGE


def told(kind: type[BaseException], _: BaseException, trace: TracebackType | None) -> None:
    """Where an unforeseen error arose; its message could hold data, and is not printed."""
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "" if trace is None else f" in {Path(trace.tb_frame.f_code.co_filename).name}"
    line = "" if trace is None else f", line {trace.tb_lineno}"
    sys.stdout.write(f"The task failed: {kind.__name__}{where}{line}.\n")


if __name__ == "__main__":
    sys.excepthook = told
    sys.exit(import_module(f"{package(Path(__file__).parent)}.command").main(sys.argv[1:]))
