"""Names of results, computations and refusals in a language."""

from __future__ import annotations

import re

from cohortium.sdk.computations import COMPUTATIONS, METHODS
from cohortium.sdk.language import Language
from cohortium.sdk.terms import TERMS

_LIMIT = re.compile(r"^(?P<name>.+) (?P<end>low|high)$")


def say(name: str, lang: Language) -> str:
    """A name of a result in this language; one without a translation stays as it is."""
    if lang == "en":
        return name
    if (limit := _LIMIT.match(name)) is not None and limit["name"] in TERMS:
        return TERMS[limit["name"]] + ("下限" if limit["end"] == "low" else "上限")
    return TERMS.get(name, name)


def heading(computation: str, lang: Language) -> str:
    """What a computation is called in a heading."""
    words = COMPUTATIONS.get(computation)
    return computation if words is None else words.of(lang)


def method(computation: str, lang: Language) -> str | None:
    """How it computes, in one sentence; None where only its package knows."""
    words = METHODS.get(computation)
    return None if words is None else words.of(lang)


def withheld(reason: str, lang: Language) -> str:
    """One line of `Result.suppressed` in this language: a place, a colon, and the reason."""
    if lang == "en":
        return f"Not released: {reason}"
    place, colon, why = reason.rpartition(": ")
    if not colon:
        return f"未发布：{say(reason, lang)}"
    return f"未发布：{say(place, lang)}（{say(why, lang)}）"
