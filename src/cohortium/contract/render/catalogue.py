"""The catalogues by language."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cohortium.contract.render.chinese import CHINESE
from cohortium.contract.render.english import ENGLISH
from cohortium.contract.render.phrases import Language, Phrases
from cohortium.errors import InputError

CATALOGUES: Final[Mapping[Language, Phrases]] = {"en": ENGLISH, "zh": CHINESE}


def phrases(language: str) -> Phrases:
    """The catalogue of a language.

    Raises:
        InputError: ``bad-input`` where there is none.
    """
    for known, catalogue in CATALOGUES.items():
        if known == language:
            return catalogue
    raise InputError("bad-input", f"No text in {language!r}; there is {', '.join(CATALOGUES)}.")


__all__ = ["CATALOGUES", "phrases"]
