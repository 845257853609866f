"""What a run gives back: typed, with its run attached."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError
from cohortium.sdk import vocabulary
from cohortium.sdk.filled_text import filled_text
from cohortium.sdk.html import result_html, text_html
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, from_frame
from cohortium.sdk.run_info import RunInfo

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from cohortium.sdk.summary import Summary

__all__ = ["Language", "Result"]


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
        """What the result says, in plain words: estimate, interval, what is not adjusted for.

        Args:
            lang: ``en`` or ``zh``.

        Raises:
            InputError: ``bad-input`` for another language, or for a computation without words.
        """
        require_language(lang)
        raise InputError("bad-input", f"There are no words for {self.run.computation}.")

    def plot(self) -> alt.TopLevelMixin:
        """The result as an Altair chart."""
        why = " Withheld: " + "; ".join(self.suppressed) if self.suppressed else ""
        raise InputError(
            "bad-input",
            f"There is no chart of this result of {self.run.computation}; print it, or export "
            f"it as a table.{why}",
        )

    def save(self, path: str | Path) -> Path:
        """Write `plot` as ``.png``, ``.svg``, ``.html`` (works offline) or ``.json``.

        Raises:
            InputError: ``bad-input`` for another ending; ``missing-extra`` without vl-convert.
        """
        from cohortium.sdk.plots import save

        return save(self.plot(), Path(path))

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """What `export` and a study's report print: title, head, rows and footnotes.

        Here it is `to_frame`, with the names of its columns translated; a result overrides it
        where its table should look otherwise, and keeps `notes` as the last table's footnotes.
        """
        require_language(lang)
        frame = self.to_frame()
        if frame.index.name is None and not _is_numbered(frame):
            frame = frame.rename_axis(index="")
        names = {column: vocabulary.say(str(column), lang) for column in frame.columns}
        frame = frame.rename(columns=names)
        if frame.index.name is not None:
            frame = frame.rename_axis(index=vocabulary.say(str(frame.index.name), lang))
        return (from_frame(self.heading(lang), frame, self.notes(lang)),)

    def heading(self, lang: Language = "en") -> str:
        """What stands above the table."""
        return vocabulary.heading(self.run.computation, lang)

    def notes(self, lang: Language = "en") -> tuple[str, ...]:
        """The footnotes: the method, what was withheld, the run and its contract."""
        require_language(lang)
        method = vocabulary.method(self.run.computation, lang)
        return (
            *(() if method is None else (method,)),
            *population(self.run, lang),
            *(vocabulary.withheld(why, lang) for why in self.suppressed),
            provenance(self.run, lang),
        )

    def export(self, path: str | Path, lang: Language = "en") -> Path:
        """Write `tables` for a paper: ``.csv``, ``.xlsx``, ``.docx``, ``.tex`` or ``.html``.

        Args:
            path: The ending says the format; XLSX and DOCX need the extra ``report``.
            lang: Of the title, the heads and the footnotes.

        Raises:
            InputError: ``bad-input`` for another ending; ``missing-extra``.
        """
        from cohortium.sdk.export import export

        return export(self.tables(lang), Path(path), lang)

    def _text(self) -> str:
        """What ``print`` shows."""
        return self.to_frame().to_string()

    def __repr__(self) -> str:
        return f"{self._text()}\n\n{self.run.line()}"

    def _repr_html_(self) -> str:
        return result_html(text_html(self._text()), self.run.line())


def population(run: RunInfo, lang: Language) -> tuple[str, ...]:
    """The footnote with the researcher's criteria and derived variables; none for everybody."""
    if run.cohort is None:
        return ()
    filled = filled_text(run.cohort)
    derived = [f"{one.name} = {' '.join(one.expression.split())}" for one in run.cohort.derived]
    if lang == "zh":
        parts = [
            *(["纳入标准：" + "；".join(run.cohort.include)] if run.cohort.include else []),
            *(["排除标准：" + "；".join(run.cohort.exclude)] if run.cohort.exclude else []),
            *(["派生变量：" + "；".join(derived)] if derived else []),
            *([f"缺失值以单一值填补：{filled}，标准误因而偏小"] if filled else []),
        ]
        return ("。".join(parts) + "。",) if parts else ()
    persons = f"{run.persons[0].upper()}{run.persons[1:]}." if run.persons else ""
    if filled:
        persons += " Standard errors take what is filled in for observed, and are too small."
    computed = f"Derived: {'; '.join(derived)}." if derived else ""
    text = " ".join(part for part in (persons, computed) if part)
    return (text,) if text else ()


def provenance(run: RunInfo, lang: Language) -> str:
    """The footnote by which a table can be traced: run, sites and contract."""
    sites = ", ".join(run.participants)
    if lang == "zh":
        without = f"（缺 {'、'.join(run.absent)}）" if run.absent else ""
        sites = "、".join(run.participants)
        return f"运行 {run.id}；机构：{sites}{without}；合同 {run.contract_digest}。"
    without = f" (without {', '.join(run.absent)})" if run.absent else ""
    return f"Run {run.id}; sites: {sites}{without}; contract {run.contract_digest}."


def _is_numbered(frame: pd.DataFrame) -> bool:
    """Whether the index only counts the rows."""
    import pandas as pd

    return isinstance(frame.index, pd.RangeIndex)
