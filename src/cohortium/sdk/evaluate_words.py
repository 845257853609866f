"""How well models predict, in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cohortium.sdk.language import Language, require_language
from cohortium.sdk.words import left_out, limits, number, p_words

if TYPE_CHECKING:
    from cohortium.sdk.evaluate_results import EvaluationResult
    from cohortium.sdk.evaluated import Measure, ModelEvaluation


def notes_of(result: EvaluationResult, lang: Language) -> tuple[str, ...]:
    """Whom it is about, and what the points are."""
    zh = lang == "zh"
    missing = left_out(result.n_missing, lang)
    notes = [
        f"{result.n:,} 人，其中 {result.events:,} 例结局事件{missing}。"
        if zh
        else f"{result.n:,} persons, {result.events:,} with the event{missing}."
    ]
    if result.all_equal is not None:
        chi2, df = float(result.all_equal["statistic"]), int(result.all_equal["df"])
        p = p_words(float(result.all_equal["p_value"]), lang)
        notes.append(
            f"所有曲线下面积相等的检验：χ² = {number(chi2)}，自由度 {df}，{p}。"
            if zh
            else f"Test that all areas are equal: chi-square {number(chi2)}, df {df}, {p}."
        )
    if any(one.probability for one in result.models):
        notes.append(
            "对数优势四舍五入至 0.001，所有指标均按舍入后的评分对汇总人群计算。"
            if zh
            else "Log odds are rounded to 0.001; every measure is that of the pooled persons with "
            "the rounded scores."
        )
    notes.append(
        "曲线各点为汇总人群的精确值；为避免发布小频数，相邻评分已合并。"
        if zh
        else "Points of curves are exact; neighbouring scores are merged so that no small number "
        "of persons with or without the event lies between two."
    )
    return tuple(notes)


def interpret(result: EvaluationResult, lang: Language) -> str:
    """Each model's discrimination and calibration, and the comparisons.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    zh = lang == "zh"
    models = [(_model_zh if zh else _model_en)(result, one) for one in result.models]
    compared = [_compared(result, at, lang) for at in range(len(result.comparisons))]
    if result.all_equal is not None:
        p = p_words(float(result.all_equal["p_value"]), lang)
        compared.append(
            f"所有曲线下面积相等的检验：{p}。" if zh else f"Test that all areas are equal: {p}."
        )
    missing = left_out(result.n_missing, lang)
    if zh:
        return (
            f"对 {result.n_sites} 家机构共 {result.n:,} 人（{result.events:,} 例事件）{missing}"
            f"评价 {result.outcome_name} 的预测。{''.join(models)}{''.join(compared)}"
            "用于建模的人群会高估模型表现；结果未作多重检验校正。"
        )
    return (
        f"Prediction of {result.outcome_name} in {result.n:,} persons of {result.n_sites} sites, "
        f"{result.events:,} with the event{missing}. {' '.join([*models, *compared])} "
        "Persons to whom a model was fitted flatter it. Not adjusted for multiple testing."
    )


def _found(result: EvaluationResult, one: Measure, lang: Language) -> str:
    low, high = (None if end is None else _rounded(end) for end in (one.low, one.high))
    value = number(_rounded(one.value))
    interval = limits(low, high, result.confidence, lang)
    if not interval:
        return value
    return f"{value}（{interval}）" if lang == "zh" else f"{value} ({interval})"


def _rounded(value: float) -> float:
    """To four decimals: what is next to nothing is 0."""
    return round(value, 4) + 0.0


def _model_en(result: EvaluationResult, one: ModelEvaluation) -> str:
    text = (
        f"{one.name}: a person with the event has the higher score with probability "
        f"{_found(result, one.auc, 'en')}, the area under the ROC curve; average precision "
        f"{_found(result, one.average_precision, 'en')}, of {number(result.events / result.n)} by "
        "chance."
    )
    if one.brier is None or one.brier_scaled is None:
        return text
    text += (
        f" Brier score {_found(result, one.brier, 'en')}, scaled {number(one.brier_scaled.value)}."
    )
    if one.observed_to_expected is not None:
        ratio = _found(result, one.observed_to_expected, "en")
        text += f" Events observed to expected {ratio}."
    if one.slope is not None and one.in_the_large is not None:
        text += (
            f" Calibration slope {_found(result, one.slope, 'en')}: {_slope(one.slope, 'en')}; "
            f"in the large {_found(result, one.in_the_large, 'en')}."
        )
    return text


def _model_zh(result: EvaluationResult, one: ModelEvaluation) -> str:
    text = (
        f"{one.name}：发生事件者评分更高的概率（ROC 曲线下面积）为 "
        f"{_found(result, one.auc, 'zh')}，平均精确率 {_found(result, one.average_precision, 'zh')}"
        f"（随机水平为 {number(result.events / result.n)}）。"
    )
    if one.brier is None or one.brier_scaled is None:
        return text
    scaled = number(one.brier_scaled.value)
    text += f"Brier 评分 {_found(result, one.brier, 'zh')}，标化值 {scaled}。"
    if one.observed_to_expected is not None:
        text += f"观察与期望事件数之比 {_found(result, one.observed_to_expected, 'zh')}。"
    if one.slope is not None and one.in_the_large is not None:
        text += (
            f"校准斜率 {_found(result, one.slope, 'zh')}，{_slope(one.slope, 'zh')}；"
            f"总体校准 {_found(result, one.in_the_large, 'zh')}。"
        )
    return text


def _slope(slope: Measure, lang: Language) -> str:
    zh = lang == "zh"
    if slope.high is not None and slope.high < 1:
        return "预测过于极端" if zh else "predictions are too extreme"
    if slope.low is not None and slope.low > 1:
        return "预测过于保守" if zh else "predictions are too moderate"
    return "与 1 无明显差异" if zh else "1 is within its limits"


def _compared(result: EvaluationResult, at: int, lang: Language) -> str:
    one = result.comparisons[at]
    interval = limits(one.low, one.high, result.confidence, lang)
    first, second = one.models
    p = "" if one.p_value is None else p_words(one.p_value, lang)
    if lang == "zh":
        end = f"，DeLong 检验 {p}" if p else ""
        return f"{first} 与 {second} 的面积之差为 {number(one.difference)}（{interval}{end}）。"
    end = f"; DeLong's test {p}" if p else ""
    return (
        f"The area of {first} less that of {second} is {number(one.difference)} ({interval}{end})."
    )
