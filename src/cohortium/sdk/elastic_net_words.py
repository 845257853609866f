"""Penalised models in plain words, in English and Chinese."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cohortium.sdk.language import Language, Words
from cohortium.sdk.words import left_out, number, term_words

if TYPE_CHECKING:
    from cohortium.sdk.elastic_net_results import ElasticNetResult

HEADINGS: Mapping[str, Words] = {
    "lasso": Words("Lasso", "Lasso 回归"),
    "ridge": Words("Ridge regression", "岭回归"),
    "elastic net": Words("Elastic net", "弹性网络回归"),
}
_FAMILIES: Mapping[str, Words] = {
    "binomial": Words("logistic", "logistic "),
    "gaussian": Words("linear", "线性"),
    "poisson": Words("Poisson", "Poisson "),
}
_MEASURES: Mapping[str, Words] = {
    "deviance": Words("deviance per person", "人均偏差"),
    "mean squared error": Words("mean squared error", "均方误差"),
}
_MOST_TERMS = 12


def interpret(fit: ElasticNetResult, lang: Language) -> str:
    """Which terms are kept and how well they predict."""
    return _zh(fit) if lang == "zh" else _en(fit)


def _kept(fit: ElasticNetResult, lambda_: float, lang: Language) -> str:
    beta = fit.coef(lambda_)
    kept = fit.selected(lambda_)
    zh = lang == "zh"
    if not kept:
        return "无" if zh else "none"
    named = [
        f"{term_words(term, fit.levels, lang)} {number(float(beta[term]))}"
        for term in kept[:_MOST_TERMS]
    ]
    if len(kept) > _MOST_TERMS:
        more = len(kept) - _MOST_TERMS
        named.append(f"另有 {more} 项见表" if zh else f"and {more} more")
    return ("；" if zh else "; ").join(named)


def _en(fit: ElasticNetResult) -> str:
    outcome, terms = fit.formula.partition("~")[0].strip(), len(fit.terms) - 1
    start = (
        f"{HEADINGS[fit.kind].en} ({_FAMILIES[fit.family].en} model) of {outcome} on "
        f"{fit.nobs:,} persons of {fit.n_sites} sites{left_out(fit.n_missing, 'en')}."
    )
    end = (
        "Coefficients are shrunk towards zero and come without intervals or p values: terms were "
        "selected in the same persons. A term that is left out may still be related to the outcome."
    )
    if not fit.folds or fit.lambda_min is None or fit.lambda_1se is None:
        last = float(fit.lambdas[-1])
        return (
            f"{start} At the smallest penalty, lambda {number(last)}, {len(fit.selected(last))} of "
            f"{terms} terms have a coefficient: {_kept(fit, last, 'en')}. No cross-validation was "
            f"asked for. {end}"
        )
    best = fit.quality("min")
    measure = _MEASURES[str(fit.measure)].en
    return (
        f"{start} By {fit.folds}-fold cross-validation the least {measure} is "
        f"{number(best['cv_error'])} (standard error {number(best['cv_se'])}), at "
        f"lambda {number(fit.lambda_min)}, where {len(fit.selected('min'))} of {terms} terms have "
        f"a coefficient and {100 * best['deviance_ratio']:.1f}% of the deviance is explained: "
        f"{_kept(fit, fit.lambda_min, 'en')}. The simplest model within one standard error, at "
        f"lambda {number(fit.lambda_1se)}, keeps {len(fit.selected('1se'))}: "
        f"{_kept(fit, fit.lambda_1se, 'en')}. {end}"
    )


def _zh(fit: ElasticNetResult) -> str:
    outcome, terms = fit.formula.partition("~")[0].strip(), len(fit.terms) - 1
    space = " " if fit.kind == "lasso" else ""
    start = (
        f"以 {outcome} 为因变量，对 {fit.n_sites} 家机构共 {fit.nobs:,} 人拟合{space}"
        f"{HEADINGS[fit.kind].zh}（{_FAMILIES[fit.family].zh}模型）"
        f"{left_out(fit.n_missing, 'zh')}。"
    )
    end = (
        "系数向零收缩，不提供置信区间与 P 值：变量选择与估计使用的是同一批人。"
        "未入选的变量仍可能与结局有关。"
    )
    if not fit.folds or fit.lambda_min is None or fit.lambda_1se is None:
        last = float(fit.lambdas[-1])
        return (
            f"{start}在最小惩罚 λ = {number(last)} 时，{terms} 项中有 {len(fit.selected(last))} "
            f"项系数非零：{_kept(fit, last, 'zh')}。未作交叉验证。{end}"
        )
    best = fit.quality("min")
    measure = _MEASURES[str(fit.measure)].zh
    return (
        f"{start}{fit.folds} 折交叉验证的最小{measure}为 {number(best['cv_error'])}"
        f"（标准误 {number(best['cv_se'])}），对应 λ = {number(fit.lambda_min)}，"
        f"{terms} 项中有 {len(fit.selected('min'))} 项系数非零，解释偏差的 "
        f"{100 * best['deviance_ratio']:.1f}%：{_kept(fit, fit.lambda_min, 'zh')}。"
        f"一倍标准误内最简单的模型（λ = {number(fit.lambda_1se)}）保留 "
        f"{len(fit.selected('1se'))} 项：{_kept(fit, fit.lambda_1se, 'zh')}。{end}"
    )
