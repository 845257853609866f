"""Table 1: the characteristics of a cohort, overall and by groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError, PolicyRefusal
from cohortium.sdk.characteristic import Characteristic, characteristic, counts, test
from cohortium.sdk.describe import DescribeResult, VariableSummary, rounded
from cohortium.sdk.html import result_html, table_html
from cohortium.sdk.hypothesis import as_number
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.submission import Submits, as_type, listed, names_of, require_whole
from cohortium.sdk.table_one_text import Texts, smd_note, smd_text, words_of

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

QUARTILES = (0.25, 0.5, 0.75)
BALANCED = 0.1
"""A standardised difference up to which groups are usually called balanced (Austin 2009)."""


def run_words(run: RunInfo) -> str:
    """The line below a chart's title."""
    return f"run {run.id[:8]}, {len(run.participants)} sites"


class TableOne(Result):
    """Characteristics of persons, by groups where there are any.

    Composed from results that were released; making it asks the sites nothing.

    Attributes:
        by: The grouping variable.
        groups: Its levels that have a column; `without`: those that were withheld.
        n: Persons in each group; `rounding`: what they are rounded to multiples of.
        rows: One `Characteristic` a variable.
        runs: All results that it is made of, the description first.
    """

    def __init__(
        self,
        described: DescribeResult,
        rows: Sequence[Characteristic],
        *,
        options: TableOptions,
        variables: Mapping[str, Variable],
        runs: Sequence[Result] = (),
    ) -> None:
        super().__init__(described.run, described.to_json()["result"], variables)
        self.by = described.by
        self.n = {group: described.n[group] for group in _present(described)}
        self.groups = tuple(str(group) for group in self.n) if self.by is not None else ()
        self.without = tuple(str(group) for group, n in described.n.items() if n is None)
        self.n_sites = described.n_sites
        self.rounding = described.rounding
        self.rows = tuple(rows)
        self.runs: tuple[Result, ...] = (described, *runs)
        self.options = options
        self._described = described

    @property
    def p(self) -> dict[str, float | None]:
        """P values by variable; None where there is none."""
        return {row.name: row.p for row in self.rows}

    @property
    def smd(self) -> dict[str, float | None]:
        """Standardised mean differences by variable; of more than two groups, their average."""
        return {row.name: row.smd(self.options.over) for row in self.rows}

    def unit(self, name: str) -> str | None:
        """The unit of a variable, where its dictionary has one."""
        variable = self._variables.get(name)
        return None if variable is None else variable.unit

    def to_frame(self) -> pd.DataFrame:
        """The printed table as text: a row a variable and a row a level.

        Columns: variable, level, missing, Overall, one a group, p, test, smd (numbers).
        """
        return Texts(self, "en").frame()

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The table as journals print it."""
        require_language(lang)
        return (Texts(self, lang).table(),)

    def heading(self, lang: Language = "en") -> str:
        """The title above the table."""
        if self.options.title is not None:
            return self.options.title
        if self.by is None:
            return "基线特征" if lang == "zh" else "Characteristics"
        return f"按 {self.by} 分组的基线特征" if lang == "zh" else f"Characteristics by {self.by}"

    def notes(self, lang: Language = "en") -> tuple[str, ...]:
        """Methods, what was withheld, the runs and their contract."""
        return Texts(self, lang).notes()

    def interpret(self, lang: Language = "en") -> str:
        """Where the groups differ most; nothing is adjusted for."""
        require_language(lang)
        return words_of(self, lang)

    def plot(self) -> alt.TopLevelMixin:
        """Standardised differences, the largest above; without groups, the description's charts."""
        from cohortium.sdk.plots import love

        values = {name: value for name, value in self.smd.items() if value is not None}
        if not values:
            return self._described.plot()
        return love(
            values,
            BALANCED,
            title=self.heading(),
            subtitle=f"run {self.run.id[:8]}, {len(self.run.participants)} sites",
        )

    def to_json(self) -> dict[str, Any]:
        """The run of the description, all runs, and the table."""
        frame = self.to_frame()
        rows = frame.astype(object).where(frame.notna(), None).to_dict(orient="records")
        return {
            "run": self.run.to_json(),
            "runs": [result.run.id for result in self.runs],
            "result": {"by": self.by, "groups": self.n, "rows": rows, "notes": [*self.notes()]},
        }

    def _text(self) -> str:
        return Texts(self, "en").table().text()

    def _repr_html_(self) -> str:
        table = Texts(self, "en").table()
        rows = [
            ["\u2003" * row.indent + cells[0], *cells[1:]]
            for row, cells in zip(table.rows, table.texts(), strict=True)
        ]
        return result_html(table_html(table.columns, rows), " ".join(table.notes))


class TableOptions:
    """How a Table 1 is printed."""

    def __init__(
        self,
        *,
        p: bool,
        smd: bool | Literal["average", "maximum"],
        labels: Mapping[str, str] | None = None,
        title: str | None = None,
        decimals: int = 2,
    ) -> None:
        if smd not in (True, False, "average", "maximum"):
            raise InputError("bad-input", f"smd is average or maximum, not {smd!r}.")
        require_whole("decimals", decimals, 0, 6)
        if not isinstance(labels or {}, Mapping):
            raise InputError("bad-input", "labels are texts by variable: {'age': 'Age (years)'}.")
        self.p, self.smd = p, smd is not False
        self.maximum = smd == "maximum"
        self.labels = dict(labels or {})
        self.title = title
        self.decimals = decimals

    def over(self, values: Sequence[float]) -> float:
        """The differences of all pairs of groups as one number."""
        return max(values) if self.maximum else sum(values) / len(values)


class Differences(Result):
    """Standardised mean differences of variables between groups.

    Attributes:
        by: The grouping variable. groups: Its levels.
        rounding: What numbers of persons are rounded to multiples of; None: exact.
        pairs: By variable, the difference of each pair of levels; None where it was withheld.
    """

    def __init__(self, described: DescribeResult, rows: Sequence[Characteristic]) -> None:
        super().__init__(described.run, described.to_json()["result"], {})
        self.by = str(described.by)
        self.rounding = described.rounding
        self.groups = tuple(str(group) for group in _present(described))
        self.pairs = {
            row.name: {
                (self.groups[a], self.groups[b]): value for (a, b), value in row.differences.items()
            }
            for row in rows
        }

    def __getitem__(self, name: str) -> float | None:
        """The largest over the pairs; None where one was withheld."""
        if name not in self.pairs:
            raise InputError("not-found", f"There is no {name!r}; see {', '.join(self.pairs)}.")
        values = [value for value in self.pairs[name].values() if value is not None]
        return max(values) if values and len(values) == len(self.pairs[name]) else None

    def to_frame(self) -> pd.DataFrame:
        """One row a variable; a column a pair of levels, and the largest."""
        import pandas as pd

        rows = [
            {"variable": name}
            | {f"{a} / {b}": value for (a, b), value in found.items()}
            | {"largest": self[name]}
            for name, found in self.pairs.items()
        ]
        return pd.DataFrame(rows).set_index("variable").astype("float64")

    def heading(self, lang: Language = "en") -> str:
        """The title above the table."""
        if lang == "zh":
            return f"按 {self.by} 分组的标准化均值差"
        return f"Standardised mean differences by {self.by}"

    def notes(self, lang: Language = "en") -> tuple[str, ...]:
        """How it is defined, what was withheld, the run and its contract."""
        require_language(lang)
        return (smd_note(lang), *rounded(self.rounding, lang), *super().notes(lang)[1:])

    def interpret(self, lang: Language = "en") -> str:
        """Which variables are out of balance; nothing is adjusted for."""
        require_language(lang)
        known = {name: value for name in self.pairs if (value := self[name]) is not None}
        over = [f"{name} ({smd_text(v)})" for name, v in known.items() if v > BALANCED]
        if lang == "zh":
            found = f"超过 {BALANCED} 的有：{'、'.join(over)}" if over else f"均不超过 {BALANCED}"
            return f"{self.by} 各组之间的标准化均值差（绝对值）{found}。结果未进行任何调整。"
        found = f"above {BALANCED} for {', '.join(over)}" if over else f"not above {BALANCED}"
        return (
            f"Of {len(known)} variables compared between the groups of {self.by}, the absolute "
            f"standardised mean difference is {found}. Nothing is adjusted for."
        )

    def plot(self) -> alt.TopLevelMixin:
        """The largest difference of each variable."""
        from cohortium.sdk.plots import love

        values = {name: value for name in self.pairs if (value := self[name]) is not None}
        return love(
            values,
            BALANCED,
            title=self.heading(),
            subtitle=f"run {self.run.id[:8]}, {len(self.run.participants)} sites",
        )


class TableOneMethods(Submits):
    """Table 1 and standardised differences."""

    def table_one(
        self,
        variables: Sequence[str],
        by: str | None = None,
        nonnormal: Sequence[str] = (),
        *,
        p: bool = True,
        smd: bool | Literal["average", "maximum"] = True,
        equal_var: bool = True,
        exact: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        title: str | None = None,
        decimals: int = 2,
    ) -> TableOne:
        """Characteristics of the pooled persons, overall and by groups, for a paper.

        Mean (SD), median [quartiles] for `nonnormal`, and n (%). One run of ``stats.describe``;
        the overall column is the sum of the groups, so that it discloses nothing more and leaves
        out persons whose group is missing. A group that is withheld has no column and is in no
        test. Overall medians need a second run, and p values of
        `nonnormal` variables one of ``stats.kruskal`` each.

        Args:
            by: A category or boolean.
            nonnormal: Described by median and quartiles, compared by ranks.
            p: Tests: equal means (analysis of variance), chi-square, Kruskal-Wallis.
            smd: Standardised mean differences; over more than two groups the ``average`` (or the
                ``maximum``) of the pairs.
            equal_var: As R's ``oneway.test(var.equal = TRUE)``; False: Welch's test.
            exact: Binary variables that Fisher's exact test is for (two groups).
            labels: What to print in place of a variable's name.
            decimals: Of means and medians.

        Raises:
            InputError: An unknown variable or option.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        options = TableOptions(
            p=p and by is not None,
            smd=smd if by is not None else False,
            labels=labels,
            title=title,
            decimals=decimals,
        )
        names, medians_of = names_of("variables", variables), names_of("nonnormal", nonnormal)
        for about in (medians_of, names_of("exact", exact), list(options.labels)):
            _require_named(about, names)
        described = self._described(names, by)
        rows = _rows(described, medians_of)
        extra: list[Result] = []
        persons = [described.n[group] for group in _present(described)]
        medians = [row for row in rows if row.kind == "median"]
        if by is not None and medians:
            extra.append(self._overall_medians(medians))
        for row in rows if options.p else ():
            if row.name in exact:
                _require_two_by_two(row, persons)
            test(row, persons, equal_var=equal_var, exact=row.name in exact)
        for row in medians if options.p else ():
            extra += self._kruskal(row, str(by))
        return TableOne(described, rows, options=options, variables=self.variables, runs=extra)

    def smd(self, variables: Sequence[str], by: str) -> Differences:
        """Standardised mean differences of variables between groups, for each pair of them.

        Raises:
            InputError: An unknown variable; no groups.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        if not by:
            raise InputError("bad-input", "Differences are between groups: name them with `by`.")
        described = self._described(variables, by)
        return Differences(described, _rows(described, ()))

    def _described(self, variables: Sequence[str], by: str | None) -> DescribeResult:
        if by is not None and by in names_of("variables", variables):
            raise InputError(
                "bad-input",
                f"{by} makes the groups: leave it out of the variables that they differ in.",
            )
        params = {"variables": listed(variables), "by": by, "quantiles": list(QUARTILES)}
        return as_type(DescribeResult, self.submit("stats.describe", params).result())

    def _overall_medians(self, rows: Sequence[Characteristic]) -> DescribeResult:
        whole = self._described([row.name for row in rows], None)
        for row in rows:
            summary = whole[row.name]
            row.overall = characteristic(
                row.name, [summary], nonnormal=True, persons=[whole.n[None]]
            ).overall
        return whole

    def _kruskal(self, row: Characteristic, by: str) -> list[Result]:
        """The rank test where contract and sites let it run; else the row says why not."""
        row.test = "kruskal"
        try:
            found = self.submit("stats.kruskal", {"variable": row.name, "by": by}).result()
        except PolicyRefusal as refusal:
            row.test = f"kruskal: {refusal.code}"
            return []
        except InputError as error:
            row.test = f"kruskal: {error.code}"
            return []
        row.p = as_number(found.to_json()["result"].get("p_value"))
        return [found]


def _present(described: DescribeResult) -> list[str | None]:
    """The groups that were released and have anybody in them; all where there is none."""
    return [group for group, n in described.n.items() if n] or list(described.n)


def _rows(described: DescribeResult, nonnormal: Sequence[str]) -> list[Characteristic]:
    summaries: dict[str, dict[str | None, VariableSummary]] = {}
    for group, one in described.summaries():
        summaries.setdefault(one.name, {})[group] = one
    names = [str(name) for name in described.run.params.get("variables", ())]
    groups = _present(described)
    persons = [described.n[group] for group in groups]
    return [
        characteristic(
            name,
            [summaries[name].get(group) for group in groups],
            nonnormal=name in nonnormal,
            persons=persons,
        )
        for name in names
        if name in summaries
    ]


def _require_named(about: Sequence[str], names: Sequence[str]) -> None:
    unknown = [name for name in about if name not in names]
    if unknown:
        raise InputError(
            "not-found",
            f"{', '.join(map(str, unknown))} is not one of the variables: {', '.join(names)}.",
        )


def _require_two_by_two(row: Characteristic, persons: Sequence[int | None]) -> None:
    table = counts(row, [at for at, n in enumerate(persons) if n != 0])
    if row.kind not in {"binary", "category"} or (table is not None and table.shape != (2, 2)):
        raise InputError(
            "bad-input",
            f"Fisher's exact test is for two levels in two groups; {row.name} has more. "
            "Leave it out of `exact` for the chi-square test.",
        )
