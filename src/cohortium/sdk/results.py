"""What a run gives back: typed, with its run attached."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError
from cohortium.sdk.html import result_html, text_html
from cohortium.sdk.run_info import RunInfo

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from cohortium.sdk.summary import Summary

Language = Literal["en", "zh"]


class Result:
    """The base of every result.

    Attributes:
        run: Which run gave it, under which contract, from which sites.
        suppressed: What was not released, and why; one line each.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        self.run = run
        self._data = data
        self._variables = variables
        self.suppressed: tuple[str, ...] = tuple(
            str(reason) for reason in data.get("suppressed") or ()
        )

    def to_json(self) -> dict[str, Any]:
        """The result as the hub released it, with its run."""
        return {"run": self.run.to_json(), "result": dict(self._data)}

    def to_frame(self) -> pd.DataFrame:
        """The result as a table of names and values."""
        import pandas as pd

        return pd.DataFrame({"value": pd.Series(dict(self._data), dtype=object)})

    def summary(self) -> Summary:
        """The result as a table of text, to print."""
        from cohortium.sdk.summary import Summary

        return Summary(self._text())

    def interpret(self, lang: Language = "en") -> str:
        """What the result says, in a sentence or two: estimate, interval, what is not adjusted for.

        Args:
            lang: ``en`` or ``zh``.
        """
        raise InputError("bad-input", f"There are no words for {self.run.computation}: {lang}.")

    def plot(self) -> alt.TopLevelMixin:
        """The result as an Altair chart."""
        raise InputError("bad-input", f"There is no chart for {self.run.computation}.")

    def save(self, path: str | Path) -> Path:
        """Write `plot` as ``.png``, ``.svg``, ``.html`` (works offline) or ``.json``.

        Raises:
            InputError: ``bad-input`` for another ending; ``missing-extra`` without vl-convert.
        """
        from cohortium.sdk.plots import save

        return save(self.plot(), Path(path))

    def _text(self) -> str:
        """What ``print`` shows."""
        return self.to_frame().to_string()

    def __repr__(self) -> str:
        return f"{self._text()}\n\n{self.run.line()}"

    def _repr_html_(self) -> str:
        return result_html(text_html(self._text()), self.run.line())
