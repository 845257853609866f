"""Giving memory back: after large vectors the C library keeps what was freed."""

from __future__ import annotations

import ctypes

LARGE_BYTES = 8 * 1024 * 1024


def trim() -> None:
    """Return freed memory to the system, where the C library is one that can (glibc)."""
    release = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if release is not None:
        release(0)
