"""Contingency tables in plain words, in English and Chinese."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cohortium.sdk.language import Language, require_language
from cohortium.sdk.vocabulary import say
from cohortium.sdk.words import (
    estimate_words,
    left_out,
    not_adjusted,
    number,
    p_words,
)

if TYPE_CHECKING:
    from cohortium.sdk.table_results import CmhResult, McNemarResult, TableResult


def interpret_table(table: TableResult, lang: Language) -> str:
    """A table in a few sentences.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    zh = lang == "zh"
    missing = left_out(table.n_missing, lang)
    about = " × ".join(name for name in (table.variable, table.by) if name)
    start = (
        f"{table.n_sites} 家机构共 {table.n:,} 人的 {about} 频数表{missing}。"
        if zh
        else f"{about}, over {table.n:,} persons of {table.n_sites} sites{missing}."
    )
    parts = [start, _shares(table, lang), _test(table, lang)]
    if table.suppressed:
        parts.append("部分单元格或检验未发布。" if zh else "Some cells or tests were not released.")
    parts.append(not_adjusted((), lang))
    return ("" if zh else " ").join(part for part in parts if part)


def interpret_pairs(pairs: McNemarResult, lang: Language) -> str:
    """Changes in a few sentences.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    first, second = pairs.levels[0]
    up, down = pairs.cell(first, second), pairs.cell(second, first)
    test = _test(pairs, lang)
    missing = left_out(pairs.n_missing, lang)
    rest = not_adjusted((), lang)
    if lang == "zh":
        changed = (
            "变化人数未发布。"
            if up is None or down is None
            else f"{up:,} 人由 {first} 变为 {second}，{down:,} 人由 {second} 变为 {first}。"
        )
        who = f"{pairs.n_sites} 家机构共 {pairs.n:,} 人{missing}"
        return f"{who}，{pairs.variable} 与 {pairs.by} 比较：{changed}{test}{rest}"
    changed = (
        "the numbers of those who changed were not released."
        if up is None or down is None
        else f"{up:,} changed from {first} to {second} and {down:,} from {second} to {first}."
    )
    who = f"From {pairs.variable} to {pairs.by}, over {pairs.n:,} persons of {pairs.n_sites} sites"
    return " ".join(part for part in (f"{who}{missing}: {changed}", test, rest) if part)


def _shares(table: TableResult, lang: Language) -> str:
    """For one variable the share of each level; for two, of the last column in each row."""
    zh = lang == "zh"
    column = table.levels[1][-1] if table.two_way else None
    told = []
    for level in table.levels[0]:
        count, share = table.cell(level, column), table.share(level, column)
        if count is None or share is None:
            continue
        if not table.two_way:
            told.append(f"{level} {count:,} ({share:.1%})")
            continue
        told.append(
            f"{table.variable} = {level} 者中 {count:,} 人（{share:.1%}）"
            if zh
            else f"{count:,} ({share:.1%}) of those with {table.variable} = {level}"
        )
    if not told:
        return ""
    if not table.two_way:
        return f"{'，'.join(told)}。" if zh else f"{', '.join(told)}."
    if zh:
        return f"{table.by} = {column} 的比例：{'，'.join(told)}。"
    return f"{table.by} = {column}: {', '.join(told)}."


def _test(table: TableResult, lang: Language) -> str:
    if not table.two_way or table.p_value is None:
        return ""
    statistic = ""
    if table.statistic is not None:
        found = f"{table.statistic_name} = {number(table.statistic)}"
        if lang == "zh":
            statistic = f"（{found}，自由度 {table.df[0]:g}）" if table.df else f"（{found}）"
        else:
            statistic = f" ({found}, df {table.df[0]:g})" if table.df else f" ({found})"
    test = f"{say(table.title, lang)}{statistic}: {p_words(table.p_value, lang)}"
    # The corrected measure says the same again.
    told = [one for one in table.estimates if "corrected" not in one.name]
    measures = [estimate_words(one, lang) for one in told]
    whose = [] if table.contrast is None else [contrast_words(table, table.contrast, lang)]
    if lang == "zh":
        return f"{test.replace(': ', '：')}。" + "".join(
            [*(f"{one}。" for one in measures), *whose]
        )
    return " ".join([f"{test}.", *(f"{one[0].upper()}{one[1:]}." for one in measures), *whose])


def contrast_words(table: TableResult, contrast: dict[str, str], lang: Language) -> str:
    """Whose odds and risks a 2x2 table compares."""
    row, column = table.variable, table.by
    outcome, level, against = contrast["outcome"], contrast["level"], contrast["against"]
    if lang == "zh":
        return f"比值与率均指 {column} = {outcome}，{row} = {level} 对比 {against}。"
    return f"Odds and risks are of {column} = {outcome}, with {row} = {level} against {against}."


def homogeneity_words(result: CmhResult, lang: Language) -> str:
    """Whether the strata seem to have one odds ratio."""
    even = result.homogeneity.get("breslow-day")
    if even is None:
        return ""
    p = p_words(even.p_value, lang)
    if lang == "zh":
        return f"各层比值比是否相同（Breslow-Day 检验）：{p}。"
    return f" Whether the odds ratio is the same in all strata (Breslow-Day): {p}."
