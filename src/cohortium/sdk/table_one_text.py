"""The cells and footnotes of a Table 1, in English and Chinese."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from cohortium.sdk import vocabulary
from cohortium.sdk.balance import Group
from cohortium.sdk.characteristic import Characteristic, Share
from cohortium.sdk.describe import rounded
from cohortium.sdk.language import Language, Words
from cohortium.sdk.publication import PrintedTable, Row, clean
from cohortium.sdk.results import population, provenance

if TYPE_CHECKING:
    import pandas as pd

    from cohortium.sdk.table_one import TableOne

WITHHELD: Final = "—"

FORMS: Final = {
    "mean": Words("mean (SD)", "均值（标准差）"),
    "median": Words("median [IQR]", "中位数 [P25, P75]"),
    "binary": Words("n (%)", "例数（%）"),
    "category": Words("n (%)", "例数（%）"),
}
HEADS: Final = {
    "variable": Words("Characteristic", "特征"),
    "overall": Words("Overall", "合计"),
    "missing": Words("Missing", "缺失"),
    "p": Words("p", "P"),
    "smd": Words("SMD", "SMD"),
}
TESTS: Final = {
    "anova": Words("one-way analysis of variance", "单因素方差分析"),
    "welch": Words("Welch's analysis of variance", "Welch 方差分析"),
    "chi-square": Words(
        "the chi-square test (with Yates' correction for two by two)",
        "卡方检验（四格表采用 Yates 连续性校正）",
    ),
    "fisher": Words("Fisher's exact test", "Fisher 精确检验"),
    "kruskal": Words("the Kruskal-Wallis test", "Kruskal-Wallis 秩和检验"),
}


def p_cell(p: float | None) -> str:
    """Three decimals, as tables of characteristics have them."""
    if p is None:
        return ""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def smd_text(value: float | None) -> str:
    """Three decimals."""
    return "" if value is None else "<0.001" if 0 < value < 0.001 else f"{value:.3f}"


def numbers(found: object, decimals: int) -> str:
    """Mean (SD) or median [quartiles]; dates as they are."""
    if isinstance(found, Group):
        return f"{found.mean:.{decimals}f} ({found.sd:.{decimals}f})"
    if isinstance(found, tuple):
        low, middle, high = (
            one if isinstance(one, str) else f"{one:.{decimals}f}" for one in found
        )
        return f"{middle} [{low}, {high}]"
    return WITHHELD


def share(found: Share | None) -> str:
    """``137 (86.7)``."""
    if found is None:
        return WITHHELD
    return f"{found.count} ({found.count / found.n:.1%})".replace("%", "") if found.n else "0"


class Texts:
    """One table in one language."""

    def __init__(self, table: TableOne, lang: Language) -> None:
        self.of = table
        self.lang = lang
        self.columns = [HEADS["overall"].of(lang), *(clean(str(group)) for group in table.groups)]
        self.withheld = False

    def frame(self) -> pd.DataFrame:
        """Tidy: p and smd are numbers."""
        import pandas as pd

        rows = []
        for row in self.of.rows:
            cells = self._cells(row)
            first: dict[str, Any] = {"variable": row.name, "level": None, "missing": row.missing}
            last = {
                "p": row.p,
                "test": row.test or None,
                "smd": row.smd(self.of.options.over) if self.of.by is not None else None,
            }
            if row.kind == "category":
                rows.append(first | last)
                rows += [
                    {"variable": row.name, "level": level}
                    | dict(zip(self.columns, texts, strict=True))
                    for level, texts in zip(row.levels, cells, strict=True)
                ]
            else:
                first["level"] = row.levels[0] if row.levels else None
                rows.append(first | dict(zip(self.columns, cells[0], strict=True)) | last)
        heads = ["variable", "level", "missing", *self.columns]
        heads += ["p", "test", "smd"] if self.of.by is not None else []
        frame = pd.DataFrame(rows, columns=heads)
        frame["missing"] = frame["missing"].astype(pd.Int64Dtype())
        return frame

    def table(self) -> PrintedTable:
        """As printed: levels indented below their variable."""
        options = self.of.options
        missing = any(row.missing for row in self.of.rows)
        tail = [
            *([HEADS["missing"].of(self.lang)] if missing else []),
            *([HEADS["p"].of(self.lang)] if options.p else []),
            *([HEADS["smd"].of(self.lang)] if options.smd else []),
        ]
        rows = [self._persons(len(tail))]
        for row in self.of.rows:
            end = (
                *(("" if row.missing is None else str(row.missing),) if missing else ()),
                *((p_cell(row.p) + ("†" if row.sparse else ""),) if options.p else ()),
                *((smd_text(row.smd(options.over)),) if options.smd else ()),
            )
            cells = self._cells(row)
            if row.kind == "category":
                rows.append(Row((self._label(row), *[""] * len(self.columns), *end)))
                rows += [
                    Row((level, *texts, *[""] * len(tail)), indent=1)
                    for level, texts in zip(row.levels, cells, strict=True)
                ]
            else:
                rows.append(Row((self._label(row), *cells[0], *end)))
        self.withheld = any(WITHHELD in row.cells for row in rows)
        heads = (HEADS["variable"].of(self.lang), *self.columns, *tail)
        return PrintedTable(self.of.heading(self.lang), heads, tuple(rows), self.notes())

    def _persons(self, more: int) -> Row:
        known = [n for n in self.of.n.values() if n is not None]
        whole = str(sum(known)) if len(known) == len(self.of.n) else WITHHELD
        each = [WITHHELD if (n := self.of.n[g]) is None else str(n) for g in self.of.groups]
        return Row(("n", whole, *each, *[""] * more))

    def _label(self, row: Characteristic) -> str:
        name = self.of.options.labels.get(row.name, row.name)
        if row.kind == "binary":
            name = f"{name} = {row.levels[0]}" if row.name not in self.of.options.labels else name
        unit = self.of.unit(row.name)
        if unit:
            name = f"{name}（{unit}）" if self.lang == "zh" else f"{name} ({unit})"
        return f"{name}{'，' if self.lang == 'zh' else ', '}{FORMS[row.kind].of(self.lang)}"

    def _cells(self, row: Characteristic) -> list[list[str]]:
        """Texts by level (one for a number): overall, then the groups."""
        columns = [row.overall, *(row.groups if self.of.by is not None else ())]
        if row.kind in {"mean", "median"}:
            return [[numbers(one, self.of.options.decimals) for one in columns]]
        return [
            [share(one[at]) if isinstance(one, list) else WITHHELD for one in columns]
            for at in range(len(row.levels))
        ]

    def notes(self) -> tuple[str, ...]:
        """The footnotes, in order."""
        zh = self.lang == "zh"
        notes = [
            "SD：标准差；IQR：四分位数间距（P25, P75）；百分比以有值者为分母。"
            if zh
            else "SD: standard deviation; IQR: quartiles; percentages are of those with a value."
        ]
        if self.of.by is not None:
            notes.append(self._overall_note())
        if self.of.options.p:
            notes += self._test_notes()
        if self.of.options.smd:
            several = "maximum" if self.of.options.maximum else "average"
            notes.append(smd_note(self.lang, several if len(self.of.groups) > 2 else ""))
        if self.of.suppressed or self.withheld:
            notes.append(
                f"{WITHHELD} 未发布：人数少于最小单元格人数，或为防止推算而隐匿。"
                if zh
                else f"{WITHHELD} Not released: fewer persons than the minimum cell, or withheld "
                "so that a smaller cell does not follow."
            )
        notes += [vocabulary.withheld(why, self.lang) for why in self.of.suppressed]
        notes += rounded(self.of.rounding, self.lang)
        first = self.of.run
        more = [f"{one.run.id} ({one.run.computation})" for one in self.of.runs[1:]]
        if more:
            notes.append(("其他运行：" if zh else "Further runs: ") + ", ".join(more))
        return (*notes, *population(first, self.lang), provenance(first, self.lang))

    def _overall_note(self) -> str:
        by = self.of.by
        medians = [row.name for row in self.of.rows if row.kind == "median"]
        gone = [f"{by} = {group}" for group in self.of.without]
        if self.lang == "zh":
            text = f"合计为表中各组之和，不含 {by} 缺失者"
            text += f"及未发布的 {'、'.join(gone)}；检验与 SMD 亦然。" if gone else "。"
            return text + (f"{'、'.join(medians)} 的合计中位数取自全体人员。" if medians else "")
        text = f"Overall: the columns together; persons whose {by} is missing are not in it"
        text += (
            f", nor in the tests and SMD is {', '.join(gone)}, which was withheld." if gone else "."
        )
        if medians:
            text += f" The overall medians of {', '.join(medians)} are of all persons."
        return text

    def _test_notes(self) -> list[str]:
        zh = self.lang == "zh"
        parts = []
        for test, words in TESTS.items():
            names = [row.name for row in self.of.rows if row.test == test and row.p is not None]
            if names:
                joined = ("、" if zh else ", ").join(names)
                parts.append(
                    f"{words.of(self.lang)}（{joined}）"
                    if zh
                    else f"{words.of(self.lang)} ({joined})"
                )
        notes = []
        if parts:
            notes.append(
                f"P 值：{'；'.join(parts)}；未作多重检验校正。"
                if zh
                else f"p values: {'; '.join(parts)}; not adjusted for multiple testing."
            )
        sparse = [row.name for row in self.of.rows if row.sparse]
        if sparse:
            notes.append(
                "† 存在期望频数小于 5 的单元格，卡方近似可能不准确；"
                "Fisher 精确检验仅适用于四格表（exact 参数）。"
                if zh
                else "† An expected count is below 5: the chi-square approximation may be poor. "
                "Fisher's exact test is there for two by two only (exact=)."
            )
        notes += [
            self._no_rank_test(row) for row in self.of.rows if row.test.startswith("kruskal:")
        ]
        return notes

    def _no_rank_test(self, row: Characteristic) -> str:
        code = row.test.partition(": ")[2]
        if self.lang == "zh":
            return f"{row.name}：stats.kruskal 未能运行（{code}），故无 P 值。"
        return f"{row.name} has no p value: stats.kruskal was refused ({code})."


def smd_note(lang: Language, over: str = "") -> str:
    """What a standardised difference is; `over`: which of several pairs of groups."""
    if lang == "zh":
        which = {
            "": "",
            "average": "，为各组两两比较的平均值",
            "maximum": "，为各组两两比较的最大值",
        }
        return f"SMD：标准化均值差（绝对值；分类变量为 Yang 与 Dalton 定义的距离）{which[over]}。"
    which = {
        "": "",
        "average": ", the average over the pairs of groups",
        "maximum": ", the largest over the pairs of groups",
    }
    return (
        "SMD: absolute standardised mean difference (of categories: the distance of Yang and "
        f"Dalton){which[over]}."
    )


def words_of(table: TableOne, lang: Language) -> str:
    """Where the groups of a Table 1 differ most, in a few sentences."""
    known = [n for n in table.n.values() if n is not None]
    n = sum(known)
    if table.by is None:
        if lang == "zh":
            return f"{table.n_sites} 家机构共 {n:,} 人的基线特征，为描述性结果，未进行任何调整。"
        return (
            f"Characteristics of {n:,} persons of {table.n_sites} sites. Descriptive; nothing is "
            "adjusted for."
        )
    smd = sorted(
        ((value, name) for name, value in table.smd.items() if value is not None), reverse=True
    )
    low = [name for name, p in table.p.items() if p is not None and p < 0.05]
    return (_words_zh if lang == "zh" else _words_en)(table, n, smd, low)


def _words_en(table: TableOne, n: int, smd: Sequence[tuple[float, str]], low: Sequence[str]) -> str:
    text = (
        f"Characteristics of {n:,} persons of {table.n_sites} sites in {len(table.groups)} groups "
        f"of {table.by}."
    )
    if smd:
        over = [f"{name} ({smd_text(value)})" for value, name in smd if value > 0.1]
        text += (
            f" The standardised difference is above 0.1 for {', '.join(over)}."
            if over
            else " No standardised difference is above 0.1."
        )
    if any(p is not None for p in table.p.values()):
        text += f" p < 0.05 for {', '.join(low)}." if low else " No p value is below 0.05."
    return text + " Nothing is adjusted for, neither other variables nor the number of tests."


def _words_zh(table: TableOne, n: int, smd: Sequence[tuple[float, str]], low: Sequence[str]) -> str:
    text = f"{table.n_sites} 家机构共 {n:,} 人，按 {table.by} 分为 {len(table.groups)} 组。"
    if smd:
        over = [f"{name}（{smd_text(value)}）" for value, name in smd if value > 0.1]
        text += (
            f"标准化均值差超过 0.1 的有：{'、'.join(over)}。"
            if over
            else "各变量标准化均值差均不超过 0.1。"
        )
    if any(p is not None for p in table.p.values()):
        text += f"P < 0.05 的有：{'、'.join(low)}。" if low else "各变量 P 值均不小于 0.05。"
    return text + "结果未对其他变量进行调整，也未作多重检验校正。"
