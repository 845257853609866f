"""What a demonstration prints: its steps with their seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

WIDTH = 130


def new_console(quiet: bool) -> Console:
    """A console; its tables are whole where nobody's terminal limits them.

    Args:
        quiet: Print to the standard error stream only.
    """
    console = Console(stderr=quiet)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = WIDTH
    return console


@contextmanager
def step(console: Console, what: str) -> Iterator[None]:
    """Say what is done, and how long it took."""
    began = time.monotonic()
    with console.status(what):
        yield
    console.print(f"[green]done[/] {what} [dim]({time.monotonic() - began:.1f} s)[/]")
