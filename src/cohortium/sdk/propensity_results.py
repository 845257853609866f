"""Weighting by the propensity score as it comes back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError
from cohortium.sdk.glm import GlmResult
from cohortium.sdk.language import Language, Words, require_language
from cohortium.sdk.publication import PrintedTable, from_frame, p_text
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.summary import Summary
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

TITLES: Mapping[str, Words] = {
    "effect": Words("effects", "效应"),
    "means": Words("weighted means of the outcome", "结局的加权均值"),
    "weights": Words("weights of the arms", "各组权重"),
    "balance": Words("balance of the covariates", "协变量均衡性"),
}
"""What each table is of."""

_EFFECT = ("value", "std_error", "low", "high", "statistic", "p_value")


@dataclass(frozen=True)
class Effect:
    """Of the treated against the controls, in the estimand's persons.

    Attributes:
        name: mean difference, risk difference, risk ratio or odds ratio.
        std_error: Of the difference, or of the logarithm of a ratio.
    """

    name: str
    value: float
    std_error: float
    low: float
    high: float
    statistic: float
    p_value: float

    @staticmethod
    def of(one: Mapping[str, Any]) -> Effect:
        """Read one of the hub's."""
        return Effect(str(one["name"]), *(_number(one[key]) for key in _EFFECT))

    @property
    def is_ratio(self) -> bool:
        """Whether no effect is 1."""
        return self.name.endswith("ratio")


class PropensityResult(Result):
    """The effect of a treatment, weighted by the propensity score.

    Attributes:
        treatment: The variable; `treated` and `control` are its levels.
        estimand: ATE, ATT, ATC or ATO.
        weighting: IPTW or overlap weights.
        trim: Limits of the score; None where nobody was left out.
        n: Persons with a value of every variable; `n_missing` without.
        n_sites: Sites.
        outcome: The variable; None where the result is of weights and balance only.
        confidence: Of the intervals.
        errors: stacked (the score is estimated) or robust (it is taken for known).
        doubly_robust: Whether a model of the outcome augments the weights (AIPW).
        effects: A mean difference; or risk difference, risk ratio and odds ratio.
        crude: The same without weights.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.treatment = str(data["treatment"])
        self.control, self.treated = str(data["control"]), str(data["treated"])
        self.estimand = str(data["estimand"])
        self.weighting = str(data["weighting"])
        trim = data["trim"]
        self.trim = None if trim is None else (float(trim[0]), float(trim[1]))
        self.n, self.n_missing = int(data["n"]), int(data["n_missing"])
        self.n_sites = int(data["n_sites"])
        of: Mapping[str, Any] = data["outcome"] or {}
        self.outcome = str(of["variable"]) if of else None
        self.event: str | None = of.get("event")
        self.errors = str(of.get("errors", "stacked"))
        self.doubly_robust = bool(of.get("doubly_robust", False))
        self.confidence = float(of.get("confidence", 0.95))
        self.effects = tuple(Effect.of(one) for one in of.get("effects", ()))
        self.crude = tuple(Effect.of(one) for one in of.get("crude", ()))
        self._means = list(of.get("means", ()))
        if of and not (self.effects and self.crude and len(self._means) == 2):
            raise ValueError("an outcome without effects")
        self._read = (self.arms, self.balance, self.scores)  # what lacks something is refused here

    @property
    def model(self) -> GlmResult:
        """The model of the treatment: coefficients, and `predict` for rows that you hold."""
        return GlmResult(self.run, self._data["model"], self._variables)

    @property
    def effect(self) -> Effect:
        """The difference of the weighted means or risks.

        Raises:
            InputError: ``bad-input`` where no outcome was named.
        """
        if not self.effects:
            raise InputError(
                "bad-input", "There is no effect without an outcome: propensity(..., outcome=...)."
            )
        return self.effects[0]

    @property
    def arms(self) -> pd.DataFrame:
        """Of each arm persons, persons trimmed, the weights' sum, mean and coefficient of
        variation, and the effective number of persons.
        """
        import pandas as pd

        keys = ("n", "n_trimmed", "n_weighted", "weight_sum", "weight_mean", "weight_cv", "ess")
        rows = [{"group": str(one["level"])} | {k: one[k] for k in keys} for one in self._arms()]
        return pd.DataFrame(rows).set_index("group")

    def _arms(self) -> list[Mapping[str, Any]]:
        return list(self._data["arms"])

    @property
    def balance(self) -> pd.DataFrame:
        """A row for each number and level: means or shares of the arms and their standardised
        difference before and after weighting, and ratios of variances (treated over control).
        """
        import pandas as pd

        rows = []
        for one in self._data["balance"]:
            row = {"variable": str(one["variable"]), "level": one["level"], "kind": one["kind"]}
            for when in ("before", "after"):
                row[f"control_{when}"], row[f"treated_{when}"] = map(_number, one[when])
                row[f"smd_{when}"] = _number(one[f"smd_{when}"])
            for when in ("before", "after"):
                row[f"variance_ratio_{when}"] = _number(one[f"variance_ratio_{when}"])
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def scores(self) -> pd.DataFrame:
        """The distribution of the score: persons of each arm from one score to the next."""
        import pandas as pd

        edges, counts = self._data["scores"]["edges"], self._data["scores"]["counts"]
        return pd.DataFrame(
            {
                "low": [float(edge) for edge in edges[:-1]],
                "high": [float(edge) for edge in edges[1:]],
                "control": [int(count) for count in counts[0]],
                "treated": [int(count) for count in counts[1]],
            }
        )

    @property
    def means(self) -> pd.DataFrame:
        """The weighted mean (or risk) of the outcome in each arm, with its limits."""
        import pandas as pd

        rows = [
            {"group": str(one["level"])} | {k: _number(one[k]) for k in _EFFECT[:4]}
            for one in self._means
        ]
        return pd.DataFrame(rows, columns=["group", *_EFFECT[:4]]).set_index("group")

    @property
    def differences(self) -> dict[str, tuple[float, float]]:
        """The standardised difference of each number and level, before and after weighting."""
        return {
            _name(one["variable"], one["level"]): (
                _number(one["smd_before"]),
                _number(one["smd_after"]),
            )
            for one in self._data["balance"]
        }

    @property
    def worst(self) -> tuple[str, float, float]:
        """What is least balanced after weighting; the largest difference before, and after."""
        found = {n: pair for n, pair in self.differences.items() if not math.isnan(pair[1])}
        if not found:
            return "", 0.0, 0.0
        name = max(found, key=lambda one: abs(found[one][1]))
        return name, max(abs(pair[0]) for pair in found.values()), abs(found[name][1])

    def to_frame(self) -> pd.DataFrame:
        """A row for each effect, with and without weights; `balance` where there is no outcome."""
        import pandas as pd

        if not self.effects:
            return self.balance
        rows = [
            {"effect": one.name, "weighted": weighted} | {key: getattr(one, key) for key in _EFFECT}
            for weighted, many in ((True, self.effects), (False, self.crude))
            for one in many
        ]
        return pd.DataFrame(rows).set_index(["effect", "weighted"])

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """Effects and weighted means, the arms, and the balance of covariates."""
        require_language(lang)
        frames = {"weights": self.arms, "balance": _named(self.balance)}
        if self.effects:
            effects = self.to_frame().reset_index()
            weighted, plain = ("是", "否") if lang == "zh" else ("yes", "no")
            effects["weighted"] = [weighted if one else plain for one in effects["weighted"]]
            effects["effect"] = [say(str(name), lang) for name in effects["effect"]]
            effects["p_value"] = [p_text(float(p)) for p in effects["p_value"]]
            frames = {"effect": effects.set_index("effect"), "means": self.means, **frames}
        colon, last = ("：" if lang == "zh" else ": "), list(frames)[-1]
        return tuple(
            from_frame(
                f"{self.heading(lang)}{colon}{TITLES[name].of(lang)}",
                _say(frame, lang),
                notes=self.notes(lang) if name == last else (),
            )
            for name, frame in frames.items()
        )

    def summary(self) -> Summary:
        """Effects, arms and balance as text."""
        return Summary(self._text())

    def plot(self) -> alt.TopLevelMixin:
        """The love plot above the distribution of the score."""
        from cohortium.sdk.propensity_plots import both

        return both(self)

    def plot_balance(self) -> alt.TopLevelMixin:
        """The love plot: standardised differences before and after weighting."""
        from cohortium.sdk.propensity_plots import balance

        return balance(self)

    def plot_overlap(self) -> alt.TopLevelMixin:
        """The distribution of the score among treated and controls."""
        from cohortium.sdk.propensity_plots import overlap

        return overlap(self)

    def interpret(self, lang: Language = "en") -> str:
        """The effect with its interval, how well the arms are balanced, and what is assumed.

        Raises:
            InputError: ``bad-input`` for another language.
        """
        from cohortium.sdk.propensity_words import interpret

        return interpret(self, lang)

    def _text(self) -> str:
        def text(frame: pd.DataFrame) -> str:
            return frame.to_string(float_format=lambda value: f"{value:.4f}", na_rep="")

        limits = "" if self.trim is None else f", score from {self.trim[0]:g} to {self.trim[1]:g}"
        how = "AIPW" if self.doubly_robust else self.weighting
        head = (
            f"{self.heading()}: {self.treatment} = {self.treated} against {self.control}, "
            f"{self.estimand} ({how}){limits}\n{self.n} persons of {self.n_sites} sites"
        )
        parts = [head]
        if self.effects:
            parts += [f"Outcome: {self.outcome}\n{text(self.to_frame())}", text(self.means)]
        parts += [text(self.arms), text(_named(self.balance).drop(columns="kind"))]
        return "\n\n".join(parts)


def _named(balance: pd.DataFrame) -> pd.DataFrame:
    """With one name for a variable and its level, and without what is nowhere."""
    names = [_name(v, one) for v, one in zip(balance["variable"], balance["level"], strict=True)]
    named = balance.drop(columns=["variable", "level"]).set_axis(names, axis=0)
    return named.rename_axis(index="variable").dropna(axis="columns", how="all")


def _name(variable: object, level: object) -> str:
    return f"{variable} = {level}" if isinstance(level, str) else str(variable)


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _say(frame: pd.DataFrame, lang: Language) -> pd.DataFrame:
    renamed = frame.rename(columns={name: say(str(name), lang) for name in frame.columns})
    if "kind" in frame.columns and lang == "zh":
        kind = say("kind", lang)
        renamed[kind] = [say(str(one), lang) for one in renamed[kind]]
    return renamed.rename_axis(index=say(str(frame.index.name), lang))
