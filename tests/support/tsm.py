"""A machine whose kernel gives reports by configfs-tsm, without such a kernel."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cohortium.enclave import tsm


class FakeTsm:
    """Entries below a folder get their attributes when they are made, as configfs gives them.

    Attributes:
        asked: What was written to an entry, in order.
        writes: How many writes the kernel counts for one report; more than one is somebody else's.
    """

    def __init__(
        self,
        root: Path,
        monkeypatch: pytest.MonkeyPatch,
        provider: str,
        answer: Callable[[bytes], bytes],
        auxblob: bytes | None = None,
    ) -> None:
        self.folder = root / tsm.FOLDER
        self.folder.mkdir(parents=True)
        self.asked: list[bytes] = []
        self.writes = 1
        self._provider, self._answer, self._auxblob = provider, answer, auxblob
        make, remove = Path.mkdir, Path.rmdir

        def mkdir(path: Path, *args: Any, **kwargs: Any) -> None:
            make(path, *args, **kwargs)
            if path.parent == self.folder:
                self._entry(path)

        def rmdir(path: Path) -> None:
            # configfs takes an entry's attributes away with it.
            if path.parent == self.folder:
                with contextlib.suppress(OSError):
                    os.close(os.open(path / "inblob", os.O_WRONLY | os.O_NONBLOCK))
                shutil.rmtree(path)
            else:
                remove(path)

        monkeypatch.setattr(Path, "mkdir", mkdir)
        monkeypatch.setattr(Path, "rmdir", rmdir)

    def _entry(self, path: Path) -> None:
        (path / "provider").write_text(f"{self._provider}\n")
        (path / "generation").write_text("0\n")
        os.mkfifo(path / "inblob")
        os.mkfifo(path / "outblob")
        if self._auxblob is not None:
            (path / "auxblob").write_bytes(self._auxblob)
        threading.Thread(target=self._serve, args=(path,), daemon=True).start()

    def _serve(self, path: Path) -> None:
        try:
            asked = (path / "inblob").read_bytes()
        except FileNotFoundError:
            return
        if not asked:  # the entry was removed without a question
            return
        self.asked.append(asked)
        (path / "generation").write_text(f"{self.writes}\n")
        (path / "outblob").write_bytes(self._answer(self.asked[-1]))
