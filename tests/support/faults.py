"""Faults that a test arms and a process of `tests.support.faulty` meets, by files they share.

A fault is an empty file in the process's folder, named after what is to happen and when:
``kill before round_request 2``. The process renames it before it acts, so that it acts once.
"""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "FAULTS_FOLDER"
"""Environment variable: the folder of all processes' faults."""
POLL_S = 0.01


@dataclass(frozen=True)
class Faults:
    """The faults of one process, ``hub`` or a site.

    Moments at a site, for each kind of request: ``before`` it is handled, ``after`` its answer was
    recorded and before it leaves, and when the answer was ``sent``. At the hub, for each step of
    the secure sum: before it will ``send`` the requests, when it ``got`` an answer, and when the
    round's sum is ``summed``.
    """

    folder: Path

    @classmethod
    def of(cls, root: Path, process: str) -> Faults:
        """The faults of a process below the shared folder."""
        folder = root / process
        folder.mkdir(parents=True, exist_ok=True)
        return cls(folder)

    # At the test

    def arm(self, *names: str) -> None:
        """Let something happen: ``kill MOMENT ROUND``, ``hold MOMENT ROUND [RUN]``, a word."""
        for name in names:
            (self.folder / name).touch()

    def disarm(self, *names: str) -> None:
        """Take back, or let go on, what was armed."""
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

    def seen(self, name: str, run_id: str = "*") -> int:
        """How many runs it was noted for: ``killed MOMENT ROUND``, ``held MOMENT ROUND``."""
        return len(list(self.folder.glob(f"{name} {run_id or '*'}")))

    def clear(self) -> None:
        """Neither armed nor seen."""
        for file in self.folder.iterdir():
            file.unlink()

    # At the process

    def armed(self, word: str) -> bool:
        """Whether a plain word is armed."""
        return (self.folder / word).exists()

    def note(self, name: str, run_id: str) -> None:
        """Tell the test."""
        (self.folder / f"{name} {run_id}").touch()

    def reach(self, moment: str, number: int, run_id: str) -> None:
        """The process is at this moment of round `number`."""
        name = f"{moment} {number}"
        if self.armed(f"kill {name}"):
            (self.folder / f"kill {name}").rename(self.folder / f"killed {name} {run_id}")
            os.kill(os.getpid(), signal.SIGKILL)
        holds = (f"hold {name}", f"hold {name} {run_id}")
        if any(map(self.armed, holds)):
            self.note(f"held {name}", run_id)
            while any(map(self.armed, holds)):
                time.sleep(POLL_S)
