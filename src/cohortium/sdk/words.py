"""Results in plain words, in English and Chinese."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cohortium.errors import InputError
from cohortium.sdk.results import Language

if TYPE_CHECKING:
    from cohortium.sdk.hypothesis import HypothesisTest


def interpret_test(test: HypothesisTest, lang: Language) -> str:
    """A test in a sentence or two.

    Raises:
        InputError: ``bad-input`` for another language.
    """
    if lang == "en":
        return _english(test)
    if lang == "zh":
        return _chinese(test)
    raise InputError("bad-input", f"Words are in en or zh, not {lang!r}.")


def _english(test: HypothesisTest) -> str:
    about = test.variable or "the variables"
    by = f" between the levels of {test.by}" if test.by else ""
    found = ""
    if test.estimate is not None:
        one = test.estimate
        limits = (
            f" ({one.confidence or 0.95:.0%} CI {one.low:.4g} to {one.high:.4g})"
            if one.low is not None and one.high is not None
            else ""
        )
        found = f" The {one.name} is {one.value:.4g}{limits}."
    p = "was not released" if test.p_value is None else _p(test.p_value)
    return (
        f"{test.title} of {about}{by} over {test.n} persons of {test.n_sites} sites: p {p}."
        f"{found} Nothing was adjusted for, neither other variables nor the number of tests."
    )


def _chinese(test: HypothesisTest) -> str:
    about = test.variable or "各变量"
    by = f"在{test.by}各水平之间" if test.by else ""
    found = ""
    if test.estimate is not None:
        one = test.estimate
        limits = (
            f"({one.confidence or 0.95:.0%} 置信区间 {one.low:.4g} 至 {one.high:.4g})"
            if one.low is not None and one.high is not None
            else ""
        )
        found = f"估计值({one.name})为 {one.value:.4g}{limits}。"
    p = "未发布" if test.p_value is None else _p(test.p_value)
    return (
        f"{test.n_sites} 个机构的 {test.n} 人,{about}{by}的检验({test.title}):p {p}。"
        f"{found}未对其他变量作调整,也未作多重检验校正。"
    )


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"= {value:.3g}"
