"""The two languages of results, English and Chinese."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cohortium.errors import InputError

Language = Literal["en", "zh"]
LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Words:
    """A phrase in both languages."""

    en: str
    zh: str

    def of(self, lang: Language) -> str:
        """The phrase in this language."""
        return self.zh if lang == "zh" else self.en


def require_language(lang: str) -> None:
    """Refuse what is neither English nor Chinese.

    Raises:
        InputError: ``bad-input``.
    """
    if lang not in LANGUAGES:
        raise InputError("bad-input", f"Words are in en or zh, not {lang!r}.")
