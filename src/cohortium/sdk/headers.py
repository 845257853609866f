"""Variables that people name as the column's header was, before it had a legal name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError

_LEGAL: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


@contextmanager
def explained(variables: Mapping[str, Variable], *asked: Any) -> Iterator[None]:
    """Where what is asked is refused and has such a header in it, say what the variable is called.

    Args:
        variables: A study's; the description of one is the header.
        asked: Texts, and lists and mappings of them.

    Raises:
        InputError: ``not-found``, in place of the refusal.
    """
    try:
        yield
    except InputError as error:
        texts = list(_texts(asked))
        for variable in variables.values():
            header = variable.description or ""
            if header and header != variable.name and any(_is_in(header, text) for text in texts):
                raise InputError(
                    "not-found",
                    f"{header} is called {variable.name} in this study: use that name.",
                    variable=header[:80],
                ) from error
        raise


def _is_in(header: str, text: str) -> bool:
    """A header that would be a legal name is meant only where it is all there is."""
    return header == text or (not _LEGAL.fullmatch(header) and header in text)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
