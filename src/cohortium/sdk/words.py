"""Results in plain words, in English and Chinese.

Each text states what was found with its interval, on whom, and what was not adjusted for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import p_text
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    from cohortium.sdk.describe import DescribeResult, LevelShare, VariableSummary
    from cohortium.sdk.glm import GlmResult
    from cohortium.sdk.hypothesis import Estimate, HypothesisTest

MOST_TERMS = 12
"""Terms of a model that a text goes through; the table has them all."""

_LEVEL = re.compile(r"^(?P<name>[^\[\]:]+)\[T\.(?P<level>.*)\]$")

FAMILIES: Mapping[str, tuple[str, str]] = {
    "gamma": ("Gamma regression", "Gamma 回归"),
    "binomial": ("Logistic regression", "logistic 回归"),
    "gaussian": ("Linear regression", "线性回归"),
    "inverse_gaussian": ("Inverse Gaussian regression", "逆高斯回归"),
    "multinomial": ("Multinomial logistic regression", "多分类 logistic 回归"),
    "negative_binomial": ("Negative binomial regression", "负二项回归"),
    "ordinal": ("Ordinal regression", "有序分类回归"),
    "poisson": ("Poisson regression", "Poisson 回归"),
}


ERRORS = {
    **{kind: (f"robust ({kind})", f"稳健（{kind}）") for kind in ("HC0", "HC1", "HC2", "HC3")},
    "site": ("clustered by institution", "按机构聚类"),
}
"""What the standard errors of a model are called."""


def number(value: float) -> str:
    """Four digits, and no exponent where people would not use one."""
    text = f"{value:.4g}"
    return f"{value:,.0f}" if "e+" in text and abs(value) < 1e9 else text


def p_words(p: float | None, lang: Language) -> str:
    """``p = 0.012``, ``p < 0.001`` or that it was not released."""
    name = "P" if lang == "zh" else "p"
    if p is None or p != p:  # noqa: PLR0124 - NaN
        return f"{name} 值未发布" if lang == "zh" else "p was not released"
    text = p_text(p)
    return f"{name} < {text[1:]}" if text.startswith("<") else f"{name} = {text}"


def limits(low: float | None, high: float | None, confidence: float | None, lang: Language) -> str:
    """``95% CI 1.2 to 3.4``; empty where there are no limits."""
    if low is None or high is None:
        return ""
    share = f"{(confidence or 0.95) * 100:g}%"
    if lang == "zh":
        return f"{share} 置信区间 {number(low)} 至 {number(high)}"
    return f"{share} CI {number(low)} to {number(high)}"


def estimate_words(one: Estimate, lang: Language) -> str:
    """``the odds ratio is 1.5 (95% CI 1.2 to 1.9)``."""
    interval = limits(one.low, one.high, one.confidence, lang)
    if lang == "zh":
        within = f"（{interval}）" if interval else ""
        return f"{_is(say(one.name, lang))} {number(one.value)}{within}"
    bare = one.name[:1].isupper() or one.name.endswith("squared")
    name = one.name if bare else f"the {one.name}"
    return f"{name} is {number(one.value)}" + (f" ({interval})" if interval else "")


def _is(name: str) -> str:
    return f"{name} 为" if name[-1:].isascii() else f"{name}为"


def interpret_test(test: HypothesisTest, lang: Language) -> str:
    """A test in a few sentences.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    return _test_zh(test) if lang == "zh" else _test_en(test)


def _test_en(test: HypothesisTest) -> str:
    about = f" of {test.variable}" if test.variable else ""
    by = f" by {test.by}" if test.by else ""
    statistic = ""
    if test.statistic is not None and test.statistic_name:
        df = f" (df {', '.join(number(one) for one in test.df)})" if test.df else ""
        statistic = f"{test.statistic_name} = {number(test.statistic)}{df}, "
    side = "" if test.alternative == "two-sided" else f", one-sided ({test.alternative})"
    found = "".join(
        f" {text[0].upper()}{text[1:]}."
        for text in (estimate_words(one, "en") for one in test.estimates)
    )
    missing = left_out(test.n_missing, "en")
    return (
        f"{test.title}{about}{by}, over {test.n:,} persons of {test.n_sites} sites{missing}: "
        f"{statistic}{p_words(test.p_value, 'en')}{side}.{found} "
        f"{not_adjusted(test.adjusted_for, 'en')}"
    )


def _test_zh(test: HypothesisTest) -> str:
    about = test.variable or "所选变量"
    by = f"按 {test.by} 分组" if test.by else ""
    statistic = ""
    if test.statistic is not None and test.statistic_name:
        df = f"（自由度 {'、'.join(number(one) for one in test.df)}）" if test.df else ""
        statistic = f"{test.statistic_name} = {number(test.statistic)}{df}，"
    side = "" if test.alternative == "two-sided" else f"，{say(test.alternative, 'zh')}检验"
    found = "".join(f"{estimate_words(one, 'zh')}。" for one in test.estimates)
    missing = left_out(test.n_missing, "zh")
    return (
        f"对 {test.n_sites} 家机构共 {test.n:,} 人的 {about} {by}{_do(say(test.title, 'zh'))}"
        f"{missing}：{statistic}{p_words(test.p_value, 'zh')}{side}。{found}"
        f"{not_adjusted(test.adjusted_for, 'zh')}"
    )


def _do(name: str) -> str:
    return f"进行 {name}" if name[:1].isascii() else f"进行{name}"


def left_out(n_missing: int, lang: Language) -> str:
    """How many more persons lack a value, in brackets; empty where nobody does."""
    if not n_missing:
        return ""
    if lang == "zh":
        return f"（另有 {n_missing:,} 人因数值缺失未纳入）"
    return f" ({n_missing:,} more have a missing value and are left out)"


def not_adjusted(adjusted_for: Sequence[str], lang: Language) -> str:
    """The sentence on what a number was adjusted for, and what not."""
    if lang == "zh":
        if not adjusted_for:
            return "结果未对其他变量进行调整，也未作多重检验校正。"
        names = "、".join("机构" if name == "institution" else name for name in adjusted_for)
        return f"结果已对{names}进行调整，但未对其他变量进行调整，也未作多重检验校正。"
    if not adjusted_for:
        return "Not adjusted for other variables or for multiple testing."
    return (
        f"Adjusted for {', '.join(adjusted_for)}; not adjusted for other variables or for "
        "multiple testing."
    )


def interpret_glm(fit: GlmResult, lang: Language) -> str:
    """A model in a few sentences: each term's effect, adjusted for the others.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    import numpy as np

    ratio = fit.is_ratio
    scale = np.exp if ratio else float
    interval = fit.conf_int()
    effects = [
        (
            term_words(term, fit.levels, lang),
            number(float(scale(fit.params[term]))),
            limits(float(scale(interval[0][term])), float(scale(interval[1][term])), 0.95, lang),
            p_words(float(fit.pvalues[term]), lang),
        )
        for term in fit.terms
        if term != "Intercept"
    ]
    more = len(effects) - MOST_TERMS
    return (_glm_zh if lang == "zh" else _glm_en)(fit, effects[:MOST_TERMS], more)


def _glm_en(fit: GlmResult, effects: Sequence[tuple[str, str, str, str]], more: int) -> str:
    outcome = fit.formula.partition("~")[0].strip()
    name = "difference of the mean" if fit.link == "identity" else fit.ratio_name
    start = (
        f"{FAMILIES.get(fit.family, (fit.family, ''))[0]} of {outcome} on {fit.nobs:,} persons of "
        f"{fit.n_sites} sites{left_out(fit.n_missing, 'en')}."
    )
    if not effects:
        return f"{start} The model has no term but the intercept. Not adjusted for anything."
    found = "; ".join(f"{term} {value} ({ci}; {p})" for term, value, ci, p in effects)
    each = ", each adjusted for the model's other terms" if len(effects) > 1 else ""
    rest = f"; and {more} more terms" if more > 0 else ""
    alone = "" if len(effects) > 1 else "Not adjusted for any other variable. "
    crossed = (
        "A term with × is an interaction: the effects of its parts hold where the other part is "
        "zero or at its reference level. "
        if any("×" in term for term, *_ in effects)
        else ""
    )
    return (
        f"{start} {name[0].upper()}{name[1:]}{each}: {found}{rest}. "
        f"{''.join(f'{text} ' for text in more_words(fit, 'en'))}{crossed}{alone}"
        "Not adjusted for variables outside the model or for multiple testing."
    )


def _glm_zh(fit: GlmResult, effects: Sequence[tuple[str, str, str, str]], more: int) -> str:
    outcome = fit.formula.partition("~")[0].strip()
    name = "均值差" if fit.link == "identity" else say(fit.ratio_name, "zh")
    kind = FAMILIES.get(fit.family, ("", fit.family))[1]
    start = (
        f"以 {outcome} 为因变量，对 {fit.n_sites} 家机构共 {fit.nobs:,} 人拟合 {kind}"
        f"{left_out(fit.n_missing, 'zh')}。"
    )
    if not effects:
        return f"{start}模型仅含截距项，未对任何变量进行调整。"
    found = "；".join(f"{_is(term)} {value}（{ci}，{p}）" for term, value, ci, p in effects)
    each = f"在调整模型中其他各项后，{name}分别为：" if len(effects) > 1 else f"{name}:"
    rest = f"；另有 {more} 项见表" if more > 0 else ""
    alone = "" if len(effects) > 1 else "结果未对其他变量进行调整。"
    crossed = (
        "含 × 的项为交互作用项：其组成变量的主效应仅在另一变量取零或参照水平时成立。"
        if any("×" in term for term, *_ in effects)
        else ""
    )
    outside = "未对模型之外的变量进行调整，也未作多重检验校正。"
    return f"{start}{each}{found}{rest}。{''.join(more_words(fit, 'zh'))}{crossed}{alone}{outside}"


def more_words(fit: GlmResult, lang: Language) -> tuple[str, ...]:
    """Sentences on offset, weights and standard errors that are not the model's."""
    zh, said = lang == "zh", []
    if fit.offset is not None:
        said.append(f"偏移量：{fit.offset}。" if zh else f"Offset: {fit.offset}.")
    if fit.weights is not None:
        said.append(f"频数权重：{fit.weights}。" if zh else f"Frequency weights: {fit.weights}.")
    if fit.errors != "model":
        kind = ERRORS[fit.errors][zh]
        said.append(f"标准误：{kind}。" if zh else f"Standard errors: {kind}.")
    return tuple(said)


def term_words(term: str, levels: Mapping[str, Sequence[str]], lang: Language) -> str:
    """A term as people say it: ``sex: male versus female``, ``age, per unit``."""
    parts = [_part_words(part, levels, lang) for part in term.split(":")]
    if len(parts) > 1:
        return " × ".join(parts)
    if _LEVEL.match(term) is None and lang == "zh":
        return f"{term} 每增加一个单位"
    return parts[0] if _LEVEL.match(term) else f"{term} (per unit)"


def _part_words(part: str, levels: Mapping[str, Sequence[str]], lang: Language) -> str:
    found = _LEVEL.match(part)
    if found is None:
        return part
    name, level = found["name"], found["level"]
    known = levels.get(name)
    if not known:
        return f"{name} = {level}"
    return (
        f"{name} {level} 对比 {known[0]}" if lang == "zh" else f"{name} {level} versus {known[0]}"
    )


def interpret_describe(result: DescribeResult, lang: Language) -> str:
    """The numbers of each variable, overall or group by group.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    zh = lang == "zh"
    by_group: dict[str | None, list[str]] = {group: [] for group in result.groups}
    for group, one in result.summaries():
        by_group[group].append(_summary_words(one, lang))
    parts = []
    for group, texts in by_group.items():
        n = result.n[group]
        if n is None:
            parts.append(
                f"{result.by} = {group} 组未发布" if zh else f"{result.by} = {group} is withheld"
            )
            continue
        who = f"{n:,} 人" if zh else f"{n:,} persons"
        if group is not None:
            who = f"{result.by} = {group}（{who}）" if zh else f"{result.by} = {group} ({who})"
        parts.append(f"{who}：{'；'.join(texts)}" if zh else f"{who}: {'; '.join(texts)}")
    if zh:
        start = f"{result.n_sites} 家机构汇总数据的描述性统计。"
        return f"{start}{'。'.join(parts)}。以上结果未进行任何调整，也未作组间检验。"
    start = f"Descriptive statistics of the pooled data of {result.n_sites} sites."
    return f"{start} {'. '.join(parts)}. Nothing is adjusted for, and groups are not tested."


def _cell_words(cell: LevelShare, lang: Language) -> str:
    if cell.count is None or cell.share is None:
        return f"{cell.level} {'隐匿' if lang == 'zh' else 'withheld'}"
    open_, close = ("（", "）") if lang == "zh" else (" (", ")")
    return f"{cell.level} {cell.count:,}{open_}{cell.share:.1%}{close}"


def _summary_words(one: VariableSummary, lang: Language) -> str:
    zh = lang == "zh"
    if one.n is None:
        return f"{one.name} 未发布" if zh else f"{one.name} is withheld"
    missing = ""
    if one.missing:
        missing = f"（缺失 {one.missing:,} 人）" if zh else f" ({one.missing:,} missing)"
    if one.levels:
        cells = [_cell_words(cell, lang) for cell in one.levels]
        return f"{one.name} {('、' if zh else ', ').join(cells)}{missing}"
    texts = []
    if one.mean is not None:
        sd = (
            ""
            if one.sd is None
            else (f"（标准差 {number(one.sd)}）" if zh else f" (SD {number(one.sd)})")
        )
        texts.append(f"均值 {number(one.mean)}{sd}" if zh else f"mean {number(one.mean)}{sd}")
    median: object = next((q.value for q in one.quantiles if q.q == 0.5), None)
    if median is not None:
        shown = number(median) if isinstance(median, float) else str(median)
        texts.append(f"中位数 {shown}" if zh else f"median {shown}")
    if not texts:
        texts.append("未发布" if zh else "withheld")
    return f"{one.name} {('，' if zh else ', ').join(texts)}{missing}"
