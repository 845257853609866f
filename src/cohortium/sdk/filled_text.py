"""What a request fills in, in one line."""

from __future__ import annotations

from cohortium.core.selection import Selection


def filled_text(selection: Selection) -> str:
    """``chol = 246, sex = f``; empty where nothing is filled."""
    shown = []
    for one in selection.filled or ():
        value = str(one.value)
        if isinstance(one.value, bool):
            value = value.lower()
        elif isinstance(one.value, float):
            value = f"{one.value:.12g}"
        shown.append(f"{one.variable} = {value}")
    return ", ".join(shown)
