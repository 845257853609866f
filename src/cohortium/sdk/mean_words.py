"""Tests of means, variances and normality in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cohortium.sdk.language import Language, require_language
from cohortium.sdk.words import interpret_test, not_adjusted, number

if TYPE_CHECKING:
    from cohortium.sdk.mean_results import LeveneResult, MeanTest, NormalityResult

MANY = 300
"""Persons from which on a test of normality finds what matters to nobody."""
FEW = 50
"""Persons below which it finds little."""
ALPHA = 0.05


def interpret_means(test: MeanTest, lang: Language) -> str:
    """The test, and the groups' means and standard deviations.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    said = _groups(test, lang) if test.by else ""
    if test.by and test.estimate is not None and len(test.groups) == 2:
        first, second = (_level(test, group) for group in test.groups)
        said += (
            f"差值为 {first} 减 {second}。"
            if lang == "zh"
            else f" The difference is {first} minus {second}."
        )
    return _before_the_end(test, said, lang)


def interpret_variances(test: LeveneResult, lang: Language) -> str:
    """The test, the groups, and between which values the medians are.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    zh = lang == "zh"
    said = _groups(test, lang)
    if test.medians_between:
        between = [
            f"{level}（{number(low)} 至 {number(high)}）"
            if zh
            else f"{level} ({number(low)} to {number(high)})"
            for level, (low, high) in test.medians_between.items()
        ]
        said += (
            f"以下各组的中位数仅确定到所示区间：{'、'.join(between)}。"
            if zh
            else f" Medians that are known to an interval only: {', '.join(between)}."
        )
    return _before_the_end(test, said, lang)


def interpret_normality(test: NormalityResult, lang: Language) -> str:
    """The test, and what it says about large samples.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    rejected = test.p_value is not None and test.p_value < ALPHA
    zh = lang == "zh"
    said = "正态分布的偏度与超额峰度均为 0。" if zh else " Both are 0 for a normal distribution."
    if rejected and test.n >= MANY:
        said += (
            "样本量较大时，任何检验都会拒绝无关紧要的偏离：请看偏度、峰度与直方图。"
            if zh
            else " With so many persons a test also rejects deviations that do not matter: look at "
            "skewness, kurtosis and the histogram."
        )
    if not rejected and test.n < FEW:
        said += (
            "样本量较小时，检验只能发现很大的偏离：未拒绝并不说明分布为正态。"
            if zh
            else " With so few persons a test finds only large deviations: that it finds none does "
            "not show that there are none."
        )
    return _before_the_end(test, said, lang)


def _groups(test: MeanTest | LeveneResult, lang: Language) -> str:
    if not test.groups:
        return ""
    if lang == "zh":
        rows = "；".join(f"{_level(test, g)} {_mean(g, lang)}" for g in test.groups)
        return f"各组均值（标准差）：{rows}。"
    rows = "; ".join(f"{_level(test, g)}: {_mean(g, lang)}" for g in test.groups)
    return f" Means (SD) of {test.variable}: {rows}."


def _level(test: MeanTest | LeveneResult, group: dict[str, Any]) -> str:
    return f"{test.by} = {group['level']}"


def _mean(group: dict[str, Any], lang: Language) -> str:
    mean, sd, n = number(group["mean"]), number(group["sd"]), f"{group['n']:,}"
    return f"{mean}（{sd}），{n} 人" if lang == "zh" else f"{mean} ({sd}), {n} persons"


def _before_the_end(
    test: MeanTest | LeveneResult | NormalityResult, said: str, lang: Language
) -> str:
    """The test in words, with more before what is not adjusted for."""
    require_language(lang)
    words = interpret_test(test, lang)
    last = not_adjusted(test.adjusted_for, lang)
    between = "" if lang == "zh" else " "
    return f"{words.removesuffix(last).rstrip()}{said}{between}{last}"
