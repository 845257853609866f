"""Models of a category in plain words, in English and Chinese."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cohortium.sdk.language import Language, require_language
from cohortium.sdk.vocabulary import say
from cohortium.sdk.words import (
    FAMILIES,
    MOST_TERMS,
    interpret_glm,
    left_out,
    limits,
    number,
    p_words,
    term_words,
)

if TYPE_CHECKING:
    from cohortium.sdk.category_results import CategoryResult, MultinomialResult, OrdinalResult


def interpret_multinomial(fit: MultinomialResult, lang: Language) -> str:
    """Each level against the reference, in a few sentences.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    zh, interval = lang == "zh", fit.conf_int()
    outcome = fit.formula.partition("~")[0].strip()
    parts, said = [], 0
    slopes = [term for term in fit.coefficients.index if term != "Intercept"]
    for level in fit.outcome_levels[1:]:
        found = []
        for term in slopes:
            name, said = f"{level}: {term}", said + 1
            if said > MOST_TERMS:
                continue
            ratio = number(float(np.exp(fit.params[name])))
            low, high = (float(np.exp(interval[side][name])) for side in (0, 1))
            ci, p = limits(low, high, 0.95, lang), p_words(float(fit.pvalues[name]), lang)
            words = term_words(term, fit.levels, lang)
            found.append(f"{words} {ratio}（{ci}，{p}）" if zh else f"{words} {ratio} ({ci}; {p})")
        if found:
            parts.append(
                f"{level} 对比 {fit.reference}：{'；'.join(found)}。"
                if zh
                else f"{level} against {fit.reference}: {'; '.join(found)}."
            )
    more = said - MOST_TERMS
    kind, who = FAMILIES[fit.family][zh], left_out(fit.n_missing, lang)
    if zh:
        start = f"以 {outcome} 为因变量（参照水平 {fit.reference}），对 {fit.n_sites} 家机构共 "
        start += f"{fit.nobs:,} 人拟合{kind}{who}。"
        rest = f"另有 {more} 项见表。" if more > 0 else ""
        ratios = f"{say(fit.ratio_name, lang)}：{''.join(parts)}" if parts else "模型仅含截距项。"
        end = "各项已对模型中的其他项进行调整，未对模型之外的变量进行调整，也未作多重检验校正。"
        return f"{start}{ratios}{rest}{_against_null(fit, lang)}{end}"
    start = f"{kind} of {outcome} (reference {fit.reference}) on {fit.nobs:,} persons of "
    start += f"{fit.n_sites} sites{who}."
    rest = f" And {more} more terms." if more > 0 else ""
    ratios = f"Relative risk ratios, {' '.join(parts)}" if parts else "It has only intercepts."
    return (
        f"{start} {ratios}{rest} {_against_null(fit, lang)}Each is adjusted for the model's other "
        "terms; not adjusted for variables outside the model or for multiple testing."
    )


def interpret_ordinal(fit: OrdinalResult, lang: Language) -> str:
    """As of a glm, with the order of levels and the test of proportional odds.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    text, zh = interpret_glm(fit, lang), lang == "zh"
    order = " < ".join(fit.outcome_levels)
    above = "1" if fit.is_ratio else "0"
    if zh:
        text += f"水平由低到高为 {order}；大于 {above} 表示趋向更高水平。{_against_null(fit, lang)}"
    else:
        text += f" Levels from low to high: {order}; above {above} means higher levels. "
        text += _against_null(fit, lang).rstrip()
    if fit.proportional_odds.empty:
        return text
    whole = fit.brant_test()
    found = f"chi-square = {number(whole.statistic or 0.0)}"
    df, p = number(whole.df[0]), p_words(whole.p_value, lang)
    if zh:
        return f"{text}{say(whole.title, lang)}：{found}（自由度 {df}），{p}。"
    return f"{text} {whole.title}: {found} (df {df}), {p}."


def _against_null(fit: CategoryResult, lang: Language) -> str:
    if not fit.llr_df:
        return ""
    found, p = number(fit.llr), p_words(fit.llr_pvalue, lang)
    if lang == "zh":
        return f"与无协变量模型相比：似然比 chi-square = {found}（自由度 {fit.llr_df}），{p}。"
    return (
        f"Against the model without covariates: likelihood-ratio chi-square = {found} (df "
        f"{fit.llr_df}), {p}. "
    )
