"""Cox models in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cohortium.sdk.language import Language, require_language
from cohortium.sdk.words import MOST_TERMS, left_out, limits, number, p_words, term_words

if TYPE_CHECKING:
    from cohortium.sdk.cox_results import CoxResult


def model_notes(fit: CoxResult, lang: Language) -> tuple[str, ...]:
    """Persons, the baseline, ties, steps of time."""
    zh = lang == "zh"
    unit = fit.unit or ("字典未声明" if zh else "not declared in the dictionary")
    notes = [
        f"{fit.nobs:,} 人，{fit.n_events:,} 例事件；因缺失未纳入 {fit.n_missing:,} 人。"
        f"时间单位：{unit}。"
        if zh
        else f"{fit.nobs:,} persons, {fit.n_events:,} events; {fit.n_missing:,} left out for "
        f"missing values. Time unit: {unit}.",
        _baseline(fit, lang),
    ]
    if fit.robust:
        notes.append(
            "标准误为 Lin-Wei 稳健（三明治）估计。"
            if zh
            else "Standard errors are robust (Lin and Wei's sandwich)."
        )
    if not fit.exact:
        notes.append(
            f"为使任一时间段内离开风险集的人数不至过少，{fit.event_times} 个事件时间合并为 "
            f"{fit.steps} 段，同段事件按结处理。"
            if zh
            else f"{fit.event_times} event times are taken together in {fit.steps} steps, so that "
            "no step is left by too few persons; events in a step are tied."
        )
    return tuple(notes)


def interpret_cox(fit: CoxResult, lang: Language) -> str:
    """A model in a few sentences: each hazard ratio, adjusted for the others.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    rows = fit.rows("hazard_ratio", "hazard_ratio_low", "hazard_ratio_high", "p_value")
    effects = [
        (
            term_words(term, fit.levels, lang),
            number(ratio),
            limits(low, high, 0.95, lang),
            p_words(p, lang),
        )
        for term, (ratio, low, high, p) in zip(fit.terms[:MOST_TERMS], rows, strict=False)
    ]
    more = len(fit.terms) - MOST_TERMS
    return (_zh if lang == "zh" else _en)(fit, effects, more)


def _en(fit: CoxResult, effects: list[tuple[str, str, str, str]], more: int) -> str:
    found = "; ".join(f"{term} {value} ({ci}; {p})" for term, value, ci, p in effects)
    each = ", each adjusted for the model's other terms" if len(effects) > 1 else ""
    rest = f"; and {more} more terms" if more > 0 else ""
    alone = "" if len(effects) > 1 else "Not adjusted for any other variable. "
    return (
        f"Cox model of the time to {fit.event} on {fit.nobs:,} persons with {fit.n_events:,} "
        f"events, of {fit.n_sites} sites{left_out(fit.n_missing, 'en')}. Hazard ratio{each}: "
        f"{found}{rest}. {_crossed(effects, 'en')}{_baseline(fit, 'en')} {_changes(fit, 'en')}"
        f"{alone}Not adjusted for variables outside the model or for multiple testing."
    )


def _zh(fit: CoxResult, effects: list[tuple[str, str, str, str]], more: int) -> str:
    found = "；".join(f"{term}：{value}（{ci}，{p}）" for term, value, ci, p in effects)
    each = "在调整模型中其他各项后，风险比分别为：" if len(effects) > 1 else "风险比："
    rest = f"；另有 {more} 项见表" if more > 0 else ""
    alone = "" if len(effects) > 1 else "结果未对其他变量进行调整。"
    return (
        f"以至 {fit.event} 的时间为结局，对 {fit.n_sites} 家机构共 {fit.nobs:,} 人"
        f"（{fit.n_events:,} 例事件）拟合 Cox 比例风险模型{left_out(fit.n_missing, 'zh')}。"
        f"{each}{found}{rest}。{_crossed(effects, 'zh')}{_baseline(fit, 'zh')}"
        f"{_changes(fit, 'zh')}{alone}未对模型之外的变量进行调整，也未作多重检验校正。"
    )


def _baseline(fit: CoxResult, lang: Language) -> str:
    """Who is compared with whom."""
    strata = [*fit.strata]
    if lang == "zh":
        names = "、".join(["机构", *strata] if fit.baseline == "site" else strata)
        return (
            f"基线风险按 {names} 分层，仅在层内比较。" if names else "各机构人员共用同一基线风险。"
        )
    names = " and ".join(["institution", *strata] if fit.baseline == "site" else strata)
    if names:
        return f"Persons are compared within the same {names} only (stratified baseline hazard)."
    return "All institutions share one baseline hazard."


def _changes(fit: CoxResult, lang: Language) -> str:
    """What the test of proportionality says."""
    frame = fit.proportionality()
    if frame.empty:
        return ""
    p = float(frame["p_value"].iloc[-1])
    terms = frame.index[:-1][frame["p_value"].iloc[:-1] < 0.05].tolist()
    if lang == "zh":
        if not terms and p >= 0.05:
            return f"未见比例风险假定不成立的证据（整体检验 {p_words(p, lang)}）。"
        about = f"，尤其是 {'、'.join(terms)}" if terms else ""
        return f"有证据表明效应随时间变化（整体检验 {p_words(p, lang)}）{about}，风险比为平均效应。"
    if not terms and p >= 0.05:
        return f"No sign that an effect changes with time (global test {p_words(p, lang)}). "
    about = f", that of {', '.join(terms)} above all" if terms else ""
    return (
        f"There are signs that effects change with time (global test {p_words(p, lang)}){about}: "
        "the hazard ratio is then an average. "
    )


def _crossed(effects: list[tuple[str, str, str, str]], lang: Language) -> str:
    if not any("×" in term for term, *_ in effects):
        return ""
    if lang == "zh":
        return "含 × 的项为交互作用项：其组成变量的主效应仅在另一变量取零或参照水平时成立。"
    return (
        "A term with × is an interaction: the effects of its parts hold where the other part is "
        "zero or at its reference level. "
    )
