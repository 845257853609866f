"""Survival curves and tests of them in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cohortium.sdk.language import Language, require_language
from cohortium.sdk.words import interpret_test, left_out, limits, not_adjusted, number

if TYPE_CHECKING:
    from cohortium.sdk.incidence_results import CumulativeIncidenceResult
    from cohortium.sdk.survival_results import KaplanMeierResult, LogrankResult, SurvivalCurve


def point_notes(
    result: KaplanMeierResult | CumulativeIncidenceResult, lang: Language
) -> tuple[str, ...]:
    """Where the points of the curves are, and what lies between them."""
    zh = lang == "zh"
    unit = result.unit or ("字典未声明" if zh else "not declared in the dictionary")
    notes = [f"时间单位：{unit}。" if zh else f"Time unit: {unit}."]
    entry = getattr(result, "entry", None)
    if entry is not None:
        notes.append(
            f"自 {entry} 起计入在险人群（左截断）。"
            if zh
            else f"Persons are at risk from {entry} on (left truncation)."
        )
    if any(not one.every_time for one in result.curves):
        notes.append(
            "曲线各点等于汇总数据的估计值；为使任一区间内的事件或删失人数不至过少，"
            "相邻时间点已合并。方括号内为精确值所在的范围。"
            if zh
            else "Points are the pooled estimate; times are merged so that no interval has a "
            "small number of events or censored persons. Brackets hold what the exact value lies "
            "between."
        )
        notes.append(
            f"曲线止于在险人数少于 {result.min_at_risk} 人之前。"
            if zh
            else f"A curve ends before fewer than {result.min_at_risk} persons are at risk."
        )
    if not result.exact_times:
        notes.append(
            "时间未按固定小数位记录：极为接近的时间可能按相等处理。"
            if zh
            else "Times are not recorded on a grid: those very close together may count as equal."
        )
    return tuple(notes)


def interpret_curves(result: KaplanMeierResult, lang: Language) -> str:
    """Each curve's quantiles and survival at times.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    zh = lang == "zh"
    said = [_curve(result, one, lang) for one in result.curves]
    missing = left_out(result.n_missing, lang)
    if result.entry is not None:
        said.append(
            f"自 {result.entry} 起计入在险人群。"
            if zh
            else f"Persons are at risk from {result.entry} on."
        )
    if zh:
        text = f"对 {result.n_sites} 家机构共 {result.n:,} 人{missing}以 Kaplan-Meier 法估计未发生 "
        return f"{text}{result.event} 的概率。{''.join(said)}{not_adjusted((), lang)}"
    return (
        f"Kaplan-Meier estimate of the time to {result.event}, over {result.n:,} persons of "
        f"{result.n_sites} sites{missing}. {' '.join(said)} {not_adjusted((), lang)}"
    )


def _curve(result: KaplanMeierResult, one: SurvivalCurve, lang: Language) -> str:
    zh = lang == "zh"
    unit = "" if result.unit is None else f" {result.unit}"
    texts = []
    for q in one.quantiles:
        name = (
            ("中位时间" if zh else "median")
            if q.p == 0.5
            else (f"{q.p * 100:g}% 分位时间" if zh else f"{q.p * 100:g}% quantile")
        )
        if q.time is None:
            texts.append(f"{name}未达到或未发布" if zh else f"{name} not reached, or not released")
            continue
        interval = limits(q.low, q.high, result.confidence, lang)
        open_, close = ("（", "）") if zh else (" (", ")")
        about = "" if q.exact else ("约" if zh else "about ")
        texts.append(
            f"{name}{about if zh else ' ' + about}{number(q.time)}{unit}"
            + (f"{open_}{interval}{close}" if interval else "")
        )
    for at in one.at:
        if at.survival is not None:
            share = limits(at.low, at.high, result.confidence, lang)
            about = "" if at.exact else ("约" if zh else "about ")
            texts.append(
                f"时间 {number(at.time)}{unit} 时为{about} {number(at.survival)}（{share}）"
                if zh
                else f"{about}{number(at.survival)} at {number(at.time)}{unit} ({share})"
            )
    who = f"{one.n:,} 人" if zh else f"{one.n:,} persons"
    if one.events is not None:
        who += f"，{one.events:,} 例事件" if zh else f", {one.events:,} events"
    where = "全体" if zh else "Everybody"
    if one.level is not None:
        where = f"{result.by} = {one.level}"
    if zh:
        return f"{where}（{who}）：{'，'.join(texts)}。"
    return f"{where} ({who}): {'; '.join(texts)}."


def interpret_incidence(result: CumulativeIncidenceResult, lang: Language) -> str:
    """The incidence of each cause in each group.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    require_language(lang)
    zh = lang == "zh"
    unit = "" if result.unit is None else f" {result.unit}"
    texts = []
    for one in result.curves:
        who = one.cause if one.level is None else f"{result.by} = {one.level}, {one.cause}"
        if zh:
            who = who.replace(", ", "，")
        for at in result.said(one):
            if at.incidence is None or at.time == 0:
                continue
            share = limits(at.low, at.high, result.confidence, lang)
            about = "" if at.exact else ("约" if zh else "about ")
            found, when = number(at.incidence), number(at.time)
            texts.append(
                f"{who}：时间 {when}{unit} 时{about or '为'} {found}（{share}）"
                if zh
                else f"{who}: {about}{found} at {when}{unit} ({share})"
            )
    missing = left_out(result.n_missing, lang)
    if zh:
        found = "；".join(texts) or "未发布"
        return (
            f"以 Aalen-Johansen 法估计竞争事件 {result.event} 的累积发生率，"
            f"{result.n_sites} 家机构共 {result.n:,} 人{missing}。{found}。{not_adjusted((), lang)}"
        )
    found = "; ".join(texts) or "No point was released"
    return (
        f"Cumulative incidence of the competing events of {result.event}, over {result.n:,} "
        f"persons of {result.n_sites} sites{missing}. {found}. {not_adjusted((), lang)}"
    )


def interpret_logrank(test: LogrankResult, lang: Language) -> str:
    """The test, and whose hazard the ratio compares with whose.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    text = interpret_test(test, lang)
    if test.estimate is None or len(test.groups) != 2:
        return text
    first, second = (f"{test.by} = {group['level']}" for group in test.groups)
    end = not_adjusted(test.adjusted_for, lang)
    body = text.removesuffix(end).rstrip()
    if lang == "zh":
        return f"{body}风险比为 {second} 组相对于 {first} 组。{end}"
    return f"{body} The ratio is of {second} to {first}. {end}"
