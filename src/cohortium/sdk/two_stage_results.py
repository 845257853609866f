"""Two-stage meta-analyses of a study's institutions as they come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cohortium.analysis.pooling import Pooled
from cohortium.core.dictionary import Variable
from cohortium.errors import InputError
from cohortium.sdk.glm import SCALE_NAMES
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.meta_results import MetaAnalysis
from cohortium.sdk.publication import PrintedTable, from_frame
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.summary import Summary
from cohortium.sdk.vocabulary import say
from cohortium.sdk.words import MOST_TERMS, left_out, limits, number, p_words

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

INTERCEPT = "Intercept"


class TwoStageResult(Result):
    """Each institution's own estimates, and each coefficient combined over them.

    ``result["age"]`` is one coefficient's `MetaAnalysis`, with its forest plot, `leave_one_out` and
    `again` (by another method).

    Attributes:
        kind: glm, cox, or the effect between two groups.
        formula: Of a model; empty for an effect.
        effect: What the effect is called.
        ratio: Whether coefficients are logarithms of ratios.
        terms: Of the coefficients.
        method: Of the variance between institutions: REML or DL.
        n: Persons of the institutions that tell of their own; `n_missing` who lack a value there.
        n_events: For Cox, those with the event.
        n_sites: Institutions that tell of their own.
        withheld: Those that do not.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.kind = str(data["kind"])
        self.formula = _formula(data)
        self.ratio = bool(data["ratio"])
        self.effect = _effect(data)
        self.terms = tuple(str(term) for term in data["terms"])
        self.method = str(data["method"])
        self.confidence = float(data["confidence"])
        self.n, self.n_missing = int(data["n"]), int(data["n_missing"])
        self.n_events = int(data["n_events"])
        self.n_sites = int(data["n_sites_contributing"])
        self.withheld = tuple(
            str(one["site"]) for one in data["institutions"] if one["status"] == "withheld"
        )
        told = [one for one in data["institutions"] if one["status"] == "estimated"]
        self._names = tuple(str(one["site"]) for one in told)
        self._pooled = {
            term: self._analysis(term, body)
            for term, body in zip(self.terms, data["pooled"], strict=True)
        }

    def _analysis(self, term: str, body: Mapping[str, Any]) -> MetaAnalysis:
        of_scale = term != INTERCEPT
        return MetaAnalysis(
            **vars(Pooled.of_json(body)),
            names=self._names,
            ratio=self.ratio and of_scale,
            effect=self.effect if of_scale else "intercept",
            unit="institution",
        )

    def __getitem__(self, term: str) -> MetaAnalysis:
        if term not in self._pooled:
            raise InputError(
                "not-found", f"There is no term {term!r}; there are: {', '.join(self.terms)}."
            )
        return self._pooled[term]

    @property
    def slopes(self) -> tuple[str, ...]:
        """The terms without the intercept."""
        return tuple(term for term in self.terms if term != INTERCEPT) or self.terms

    @property
    def institutions(self) -> pd.DataFrame:
        """A row for each: whether it tells of its own, its persons, for Cox those with the event,
        and each coefficient with its standard error. Of one that withholds its own these are
        missing, and empty cells of printed tables.
        """
        import pandas as pd

        rows = []
        counts = ["n", "events"] if self.kind == "cox" else ["n"]
        for one in self._data["institutions"]:
            row: dict[str, Any] = {"site": str(one["site"]), "status": str(one["status"])}
            told = "params" in one
            row["n"] = int(one["n"]) if told else None
            if self.kind == "cox":
                row["events"] = int(one["n_events"]) if told else None
            for at, term in enumerate(self.terms):
                row[term] = float(one["params"][at]) if told else np.nan
                row[f"se({term})"] = float(one["bse"][at]) if told else np.nan
            rows.append(row)
        return pd.DataFrame(rows).set_index("site").astype(dict.fromkeys(counts, "Int64"))

    @property
    def joint(self) -> pd.DataFrame:
        """All coefficients together with a fixed effect, weighted by the inverse covariances of the
        institutions; empty where one of these has none.
        """
        import pandas as pd

        joint = self._data.get("joint") or {}
        columns = {"coefficient": joint.get("params", ()), "std_error": joint.get("bse", ())}
        terms = list(self.terms) if joint else []
        return pd.DataFrame(columns, index=pd.Index(terms, name="term"), dtype="float64")

    def to_frame(self) -> pd.DataFrame:
        """A row for each coefficient: mean effect, fixed effect, heterogeneity, prediction."""
        import pandas as pd

        rows = []
        for term in self.terms:
            found = self._pooled[term]
            low, high = found.prediction or (np.nan, np.nan)
            rows.append(
                {
                    "effect": found.random.estimate,
                    "std_error": found.random.standard_error,
                    "low": found.random.low,
                    "high": found.random.high,
                    "p": found.random.p_value,
                    "fixed": found.fixed.estimate,
                    "tau2": found.tau2,
                    "i2": found.i2,
                    "q": found.q,
                    "q_p": found.q_p_value,
                    "predicted_low": low,
                    "predicted_high": high,
                }
            )
        return pd.DataFrame(rows, index=pd.Index(self.terms, name="term"))

    def leave_one_out(self, term: str | None = None) -> pd.DataFrame:
        """The combined effect without each institution; see `MetaAnalysis.leave_one_out`.

        Args:
            term: By default the first that is no intercept.
        """
        return self[self.slopes[0] if term is None else term].leave_one_out()

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The combined coefficients, and the institutions with their own."""
        require_language(lang)
        heading = self.heading(lang)
        combined, own = self.to_frame(), self.institutions
        if lang == "zh":
            combined = combined.rename(columns={name: say(str(name), lang) for name in combined})
            combined = combined.rename_axis(index=say("term", lang))
            own = own.assign(status=[say(str(one), lang) for one in own["status"]])
            own = own.rename(columns={name: say(str(name), lang) for name in own})
            own = own.rename_axis(index=say("site", lang))
        return from_frame(heading, combined), from_frame(heading, own, notes=self.notes(lang))

    def summary(self) -> Summary:
        """What was combined, and the institutions, as text."""
        return Summary(self._text())

    def plot(self, term: str | None = None) -> alt.TopLevelMixin:
        """The forest plot of one coefficient over the institutions.

        Args:
            term: By default the only one; where there are several, a chart of all mean effects.

        Raises:
            InputError: ``not-found``.
        """
        from cohortium.sdk.meta_plot import forest_of_studies
        from cohortium.sdk.plots import forest

        slopes = self.slopes
        if term is not None or len(slopes) == 1:
            name = slopes[0] if term is None else term
            return forest_of_studies(self[name], title=name)
        frame = self.to_frame().loc[list(slopes)].reset_index()
        if self.ratio:
            frame[["effect", "low", "high"]] = np.exp(frame[["effect", "low", "high"]])
        return forest(
            frame,
            effect=self.effect,
            ratio=self.ratio,
            confidence=self.confidence,
            title=self.formula,
            subtitle=f"means over {self.n_sites} institutions, {self.method}",
        )

    def interpret(self, lang: Language = "en") -> str:
        """Each mean effect with its heterogeneity, in plain words.

        Raises:
            InputError: ``bad-input`` for another language.
        """
        require_language(lang)
        zh = lang == "zh"
        said = [_term(self[term], term, lang) for term in self.slopes[:MOST_TERMS]]
        missing = left_out(self.n_missing, lang)
        if len(self.slopes) == 1 and not self.formula:
            about = f"{self.n:,} 人" if zh else f"{self.n:,} persons{missing}"
            text = self[self.terms[0]].interpret(lang)
            head = f"{self.terms[0]}，{about}{missing}：" if zh else f"{self.terms[0]}, {about}: "
            return head + text + self._silent(lang)
        if zh:
            return (
                f"由 {self.n_sites} 家机构各自拟合模型 {self.formula}，共 {self.n:,} 人{missing}，"
                f"再以随机效应（{self.method}）合并。{say(self.effect, lang)}："
                f"{'；'.join(said)}。{self._silent(lang)}"
                "各系数已对模型中的其他项进行调整，未对机构间差异进行调整。"
            )
        return (
            f"Each of {self.n_sites} institutions fitted {self.formula} to its own persons, "
            f"{self.n:,} in all{missing}; combined with random effects ({self.method}). "
            f"Mean {self.effect}: {'; '.join(said)}.{self._silent(lang)} Adjusted for the model's "
            "other terms; not adjusted for what the institutions differ in or for multiple testing."
        )

    def _silent(self, lang: Language) -> str:
        if not self.withheld:
            return ""
        if lang == "zh":
            return f"{'、'.join(self.withheld)} 未提供本机构的估计。"
        return f" Withheld their own estimate: {', '.join(self.withheld)}."

    def _text(self) -> str:
        parts = [
            frame.astype(object).where(frame.notna(), "")
            for frame in (self.to_frame(), self.institutions)
        ]
        shown = [frame.to_string(float_format=lambda value: f"{value:.4f}") for frame in parts]
        head = f"{self.heading()} ({self.method}): {self.formula or self.effect}"
        return "\n\n".join([head, *shown])


class MetaModelResult(TwoStageResult):
    """A regression model that each institution fitted alone, combined."""


class MetaEffectResult(TwoStageResult):
    """An effect between two groups at each institution, combined.

    Attributes:
        variable: The number or outcome.
        by: The groups are levels of this; `groups` are the two, the first against the second.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.variable, self.by = str(data["variable"]), str(data["by"])
        first, second = (str(one) for one in data["groups"])
        self.groups = (first, second)


def _formula(data: Mapping[str, Any]) -> str:
    """As it is written; of Cox's model with its left side."""
    text = str(data.get("formula", ""))
    if data["kind"] != "cox":
        return text
    level = data.get("event_level")
    event = str(data["event_variable"]) + ("" if level is None else f' == "{level}"')
    times = [str(one) for one in (data.get("entry"), data["time"]) if one is not None]
    strata = [f"strata({name})" for name in data.get("strata") or ()]
    return f"Surv({', '.join([*times, event])}) ~ {' + '.join([text, *strata])}"


def _effect(data: Mapping[str, Any]) -> str:
    kind = str(data["kind"])
    if kind == "cox":
        return "hazard ratio"
    if kind == "glm":
        return SCALE_NAMES[str(data["family"]), str(data["link"])]
    return str(data["effect"])


def _term(found: MetaAnalysis, term: str, lang: Language) -> str:
    one = found.random
    ends = limits(found.shown(one.low), found.shown(one.high), found.confidence, lang)
    p, value, share = p_words(one.p_value, lang), number(found.shown(one.estimate)), found.i2
    if lang == "zh":
        return f"{term} {value}（{ends}，{p}，I2 = {100 * share:.1f}%）"
    return f"{term} {value} ({ends}; {p}; I2 = {100 * share:.1f}%)"
