"""Tests of ranks and correlations in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cohortium.sdk.language import Language, require_language
from cohortium.sdk.vocabulary import say
from cohortium.sdk.words import (
    interpret_test,
    left_out,
    limits,
    not_adjusted,
    number,
    p_words,
)

if TYPE_CHECKING:
    from cohortium.sdk.correlation_results import CorrelationResult
    from cohortium.sdk.rank_results import RankTestResult

MOST_PAIRS = 12
"""Pairs that a text goes through; the table has them all."""


def interpret_ranks(test: RankTestResult, lang: Language) -> str:
    """The test, the groups' medians, and how exact the statistic is.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    zh = lang == "zh"
    medians = [
        _median(test.by, group, lang) for group in test.groups if group.get("median") is not None
    ]
    said = ""
    if medians:
        said = f"中位数：{'、'.join(medians)}。" if zh else f" Medians: {', '.join(medians)}."
    if test.test == "mann-whitney" and test.estimate is not None and len(test.groups) == 2:
        first, second = (f"{test.by} = {group['level']}" for group in test.groups)
        said += (
            f"优势概率指 {first} 组的人取值大于 {second} 组的人的概率（相等按一半计）。"
            if zh
            else f" The effect size is how often a person with {first} has a greater value than "
            f"one with {second}, equal values counting half."
        )
    said += resolution_words(test, lang) if zh else _after_space(resolution_words(test, lang))
    text = interpret_test(test, lang)
    end = not_adjusted(test.adjusted_for, lang)
    body = text.removesuffix(end)
    return f"{body}{said}{end}" if zh else f"{body.rstrip()}{said} {end}"


def resolution_words(test: RankTestResult, lang: Language) -> str:
    """How exact the statistic is; empty where it is exact."""
    if test.resolution is None:
        return ""
    one = test.resolution
    low, high = (f"{end:.10g}" for end in (one.low, one.high))
    if lang == "zh":
        return (
            f"相差小于 {number(one.step)} 的取值可能按相等处理；"
            f"精确的 {test.statistic_name} 在 {low} 至 {high} 之间。"
        )
    return (
        f"Values less than {number(one.step)} apart may have been taken as equal; the exact "
        f"{test.statistic_name} lies between {low} and {high}."
    )


def interpret_correlation(result: CorrelationResult, lang: Language) -> str:
    """Each pair with its interval.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    zh = lang == "zh"
    pairs = [
        _pair(row, result, lang)
        for row in result.pairs().to_dict("records")
        if _known(row["r"]) is not None
    ]
    shown = ("；" if zh else "; ").join(pairs[:MOST_PAIRS])
    more = len(pairs) - MOST_PAIRS
    if more > 0:
        shown += f"；另有 {more} 对见表" if zh else f"; and {more} more pairs"
    missing = left_out(result.n_missing, lang) if result.missing == "complete" else ""
    name = say(result.title, lang)
    spaced = f" {name}" if name[0].isascii() else name
    exact = ""
    if result.resolution is not None:
        widest = number(result.widest)
        exact = (
            f"机构仅获知较大分组的人数，精确值与所示值相差不超过 {widest}。"
            if zh
            else f" The exact values are not further than {widest} from these."
        )
    end = not_adjusted(result.given, lang)
    if zh:
        return (
            f"{result.n_sites} 家机构共 {result.n:,} 人的{spaced}{missing}：{shown}。{exact}{end}"
        )
    return (
        f"{name} over {result.n:,} persons of {result.n_sites} sites{missing}: {shown}."
        f"{exact} {end}"
    )


def _pair(row: dict[Any, Any], result: CorrelationResult, lang: Language) -> str:
    interval = limits(_known(row["low"]), _known(row["high"]), result.confidence, lang)
    p = p_words(row["p"], lang)
    value = f"{'rho' if result.method == 'spearman' else 'r'} = {number(row['r'])}"
    if lang == "zh":
        within = f"{interval}，{p}" if interval else p
        return f"{row['first']} 与 {row['second']} {value}（{within}）"
    within = f"{interval}; {p}" if interval else p
    return f"{row['first']} and {row['second']} {value} ({within})"


def _known(value: float) -> float | None:
    return None if value != value else value  # noqa: PLR0124 - NaN


def _median(by: str | None, group: dict[str, Any], lang: Language) -> str:
    value = group["median"]
    shown = value if isinstance(value, str) else number(value)
    where = f"{by} = {group['level']}"
    return f"{where} 组 {shown}" if lang == "zh" else f"{shown} for {where}"


def _after_space(text: str) -> str:
    return f" {text}" if text else ""
