"""Missing values in plain words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cohortium.sdk.language import Language, require_language
from cohortium.sdk.words import MOST_TERMS, left_out, limits, number, p_words

if TYPE_CHECKING:
    from cohortium.sdk.missing_results import MiceResult, MissingResult

_WORDS = {
    "norm": ("linear regression", "线性回归"),
    "logreg": ("logistic regression", "logistic 回归"),
    "polyreg": ("multinomial regression", "多分类 logistic 回归"),
}
_RATIOS = {"logit": ("Odds ratio", "比值比"), "log": ("Rate ratio", "率比")}


def interpret_missing(result: MissingResult, lang: Language) -> str:
    """How much is missing, the commonest pattern, and what cannot be seen from it.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    zh = lang == "zh"
    most = result.most_missing()[:MOST_TERMS]
    listed = ("、" if zh else ", ").join(
        f"{name} {n:,}（{share:.1%}）" if zh else f"{name} {n:,} ({share:.1%})"
        for name, n, share in most
    )
    complete = result.n_complete
    if zh:
        head = f"共 {result.n:,} 人。" + (f"缺失：{listed}。" if most else "所发布的变量均无缺失。")
        if complete is not None:
            head += f"{'、'.join(result.together)} 均完整者 {complete:,} 人"
            head += f"（{complete / result.n:.1%}）。"
        return head + (
            "数据本身不能说明缺失的原因：若缺失与观测值有关，仅分析完整病例可能产生偏倚。"
        )
    head = f"{result.n:,} persons. " + (
        f"Missing: {listed}." if most else "Nobody lacks a variable that is told of."
    )
    if complete is not None:
        head += f" {complete:,} ({complete / result.n:.1%}) have all of "
        head += f"{', '.join(result.together)}."
    return head + (
        " Why values are missing cannot be seen from the data: where it depends on what was "
        "observed, an analysis of complete persons alone may be biased."
    )


def interpret_mice(result: MiceResult, lang: Language) -> str:
    """Each effect with its interval, how it was imputed, and under which assumption.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    at = 1 if lang == "zh" else 0
    low, high = result.conf_int()[0], result.conf_int()[1]
    turn = math.exp if result.is_ratio else float
    shown = []
    for term in [one for one in result.terms if one != "Intercept"][:MOST_TERMS]:
        ci = limits(turn(low[term]), turn(high[term]), 0.95, lang)
        p = p_words(float(result.pvalues[term]), lang)
        value = number(turn(result.params[term]))
        shown.append(f"{term} {value}（{ci}，{p}）" if at else f"{term} {value} ({ci}; {p})")
    how = [
        f"{name}（{missing:,} 人缺失，{_WORDS[method][1]}）"
        if at
        else f"{name} ({missing:,} missing, {_WORDS[method][0]})"
        for name, (method, missing) in result.imputed.items()
    ]
    outcome = result.formula.partition("~")[0].strip()
    effect = _RATIOS.get(result.link, ("Coefficient", "回归系数"))[at]
    worst = float(result.fmi.max())
    missing = left_out(result.n_missing, lang)
    if at:
        return (
            f"以 {outcome} 为因变量，对 {result.n_sites} 家机构共 {result.n:,} 人"
            f"（其中完整者 {result.n_complete:,} 人）{missing}以链式方程多重填补 {result.m} 次后"
            f"拟合模型，按 Rubin 规则合并。填补：{'、'.join(how)}。{effect}："
            f"{'；'.join(shown)}。缺失信息比例最大为 {worst:.1%}。"
            "假定缺失为随机缺失（给定所用变量）；未对模型外的变量及多重检验进行调整。"
        )
    return (
        f"Model of {outcome} on {result.n:,} persons of {result.n_sites} institutions, "
        f"{result.n_complete:,} of them complete{missing}; {result.m} imputations by chained "
        f"equations, pooled by Rubin's rules. Imputed: {', '.join(how)}. {effect}: "
        f"{'; '.join(shown)}. At most {worst:.1%} of the information is missing. Assumes that "
        "values are missing at random given the variables in use; not adjusted for variables "
        "outside the model or for multiple testing."
    )
