"""How well models predict, as it comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError
from cohortium.sdk.evaluate_frames import calibration
from cohortium.sdk.evaluated import AreaComparison, Measure, ModelEvaluation
from cohortium.sdk.hypothesis import as_number
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.publication import PrintedTable, Row, limits_text, p_text
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.summary import Summary
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Curve = Literal["roc", "pr", "calibration", "decision_curve", "thresholds"]
CURVES = ("roc", "pr", "calibration", "decision_curve", "thresholds")
BEST = ("youden", "f1", "accuracy", "closest")


class EvaluationResult(Result):
    """How well models predict a binary outcome.

    Attributes:
        outcome: The variable. event: Of a category, the level that is predicted.
        confidence: Of all limits.
        n, events: Persons, and those with the event. n_missing: Without a value that is needed.
        models: One each, in the order of the request.
        comparisons: Of every two models' areas.
        all_equal: Of three models or more: statistic, df and p_value of the test that all areas are
            equal.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.outcome = str(data["outcome"])
        self.event: str | None = data.get("event")
        self.confidence = float(data["confidence"])
        self.n, self.events = int(data["n"]), int(data["events"])
        self.n_missing, self.n_sites = int(data["n_missing"]), int(data["n_sites"])
        self.models = tuple(ModelEvaluation(one) for one in data["models"])
        self.comparisons = tuple(
            AreaComparison(
                (str(one["models"][0]), str(one["models"][1])),
                *(float(one[name]) for name in ("difference", "std_error", "low", "high")),
                *(as_number(one[name]) for name in ("correlation", "statistic", "p_value")),
            )
            for one in data["comparisons"]
        )
        self.all_equal: Mapping[str, Any] | None = data.get("all_equal")
        if not self.models:
            raise ValueError("an evaluation of no model")

    @property
    def outcome_name(self) -> str:
        """The outcome with its event: ``stage = late``."""
        return self.outcome if self.event is None else f"{self.outcome} = {self.event}"

    def model(self, name: str | None = None) -> ModelEvaluation:
        """One model; the only one needs no name.

        Raises:
            InputError: ``not-found``, ``bad-input``.
        """
        if name is None and len(self.models) == 1:
            return self.models[0]
        known = ", ".join(one.name for one in self.models)
        if name is None:
            raise InputError("bad-input", f"There are several models; say which: {known}.")
        for one in self.models:
            if one.name == name:
                return one
        raise InputError("not-found", f"There is no model {name!r}; there are: {known}.")

    @property
    def auc(self) -> float:
        """The area under the ROC curve of the one model; of several: ``model(name).auc``."""
        return self.model().auc.value

    def to_frame(self) -> pd.DataFrame:
        """A row for each model: its measures with their limits."""
        import pandas as pd

        names = ("auc", "average_precision", "brier", "brier_scaled", "log_loss")
        more = ("in_the_large", "intercept", "slope", "observed_to_expected")
        rows = []
        for one in self.models:
            row: dict[str, float | None] = {}
            for name in (*names, *more):
                found: Measure | None = getattr(one, name)
                row[name] = None if found is None else found.value
                row[f"{name}_low"] = None if found is None else found.low
                row[f"{name}_high"] = None if found is None else found.high
            rows.append(row)
        index = pd.Index([one.name for one in self.models], name="model")
        return pd.DataFrame(rows, index=index).astype(float)

    def roc(self, model: str | None = None) -> pd.DataFrame:
        """Released points of the ROC curve: threshold, false_positive_rate, sensitivity.

        Args:
            model: One of several; by default all, with a column for their names.
        """
        return self._frames(model, lambda one: one.cutoffs.roc())

    def pr(self, model: str | None = None) -> pd.DataFrame:
        """Released points of the precision-recall curve: threshold, recall, precision."""
        return self._frames(model, lambda one: one.cutoffs.pr())

    def thresholds(
        self, at: float | Sequence[float] | None = None, model: str | None = None
    ) -> pd.DataFrame:
        """What comes of each released cutoff: tp, fp, tn and fn, sensitivity, specificity, ppv, npv
        and accuracy with Wilson's limits, f1 and youden. Somebody at the cutoff is above it.

        Args:
            at: Only the cutoffs next to these; by default all that are released.
        """
        import numpy as np

        try:
            asked = None if at is None else np.ravel(np.asarray(at, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise InputError("bad-input", "at: thresholds are numbers.") from error

        def one_table(one: ModelEvaluation) -> pd.DataFrame:
            frame = one.cutoffs.measures(self._z)
            if asked is None or not len(frame):
                return frame
            away = np.abs(frame["threshold"].to_numpy()[None, :] - asked[:, None])
            near: pd.DataFrame = frame.iloc[away.argmin(axis=1)].reset_index(drop=True)
            near.insert(0, "asked", asked)
            return near

        return self._frames(model, one_table)

    def best(
        self,
        by: Literal["youden", "f1", "accuracy", "closest"] = "youden",
        model: str | None = None,
    ) -> pd.DataFrame:
        """The best released cutoff of each model: the row of `thresholds`.

        Args:
            by: Largest Youden index, F1 or accuracy; or closest to the corner of the ROC curve.

        Raises:
            InputError: ``bad-input``.
        """
        if by not in BEST:
            raise InputError("bad-input", f"The best cutoff is by {', '.join(BEST)}.")

        def best_row(one: ModelEvaluation) -> pd.DataFrame:
            frame = one.cutoffs.measures(self._z)
            if not len(frame):
                return frame
            if by == "closest":
                away = (1 - frame["sensitivity"]) ** 2 + (1 - frame["specificity"]) ** 2
                at = int(away.to_numpy().argmin())
            else:
                at = int(frame[by].to_numpy().argmax())
            return frame.iloc[[at]].reset_index(drop=True)

        return self._frames(model, best_row)

    def calibration(self, model: str | None = None) -> pd.DataFrame:
        """Groups of risk: n, events, expected, mean_risk, observed with Wilson's limits.

        Raises:
            InputError: ``bad-input`` where no model is a probability.
        """
        return self._frames(model, lambda one: calibration(one.groups, self._z), probability=True)

    def decision_curve(self, model: str | None = None) -> pd.DataFrame:
        """Net benefit at the released threshold probabilities, against treating all or nobody.

        Raises:
            InputError: ``bad-input`` where no model is a probability.
        """
        return self._frames(model, lambda one: one.cutoffs.net_benefit(self._z), probability=True)

    def _frames(
        self,
        name: str | None,
        made: Callable[[ModelEvaluation], pd.DataFrame],
        *,
        probability: bool = False,
    ) -> pd.DataFrame:
        import pandas as pd

        models = self.models if name is None else (self.model(name),)
        if probability:
            models = tuple(one for one in models if one.probability)
            if not models:
                raise InputError(
                    "bad-input",
                    "Only probabilities have calibration and net benefit: evaluate a fitted model, "
                    "a PublishedModel, or a variable with probability=True.",
                )
        frames = [made(one) for one in models]
        if name is None and len(self.models) > 1:
            for one, frame in zip(models, frames, strict=True):
                frame.insert(0, "model", one.name)
        return pd.concat(frames, ignore_index=True)

    @property
    def _z(self) -> float:
        from scipy.special import ndtri

        return float(ndtri((1 + self.confidence) / 2))

    def plot(self, curve: Curve = "roc") -> alt.TopLevelMixin:
        """A curve of all models.

        Args:
            curve: ``roc``, ``pr``, ``calibration``, ``decision_curve`` or ``thresholds``.

        Raises:
            InputError: ``bad-input``.
        """
        from cohortium.sdk import evaluate_plots

        if curve not in CURVES:
            raise InputError("bad-input", f"There are the curves {', '.join(CURVES)}.")
        chart: alt.TopLevelMixin = getattr(evaluate_plots, curve)(self)
        return chart

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """Measures by model; the comparisons where there are several."""
        require_language(lang)
        names = {
            "auc": "area under the ROC curve",
            "average_precision": "average precision",
            "brier": "Brier score",
            "brier_scaled": "scaled Brier score",
            "log_loss": "log loss",
            "in_the_large": "calibration in the large",
            "intercept": "calibration intercept",
            "slope": "calibration slope",
            "observed_to_expected": "observed to expected",
        }
        share = f"{self.confidence * 100:g}% CI"
        rows = []
        for one in self.models:
            if len(self.models) > 1:
                rows.append(Row((one.name, None, None)))
            for name, label in names.items():
                found: Measure | None = getattr(one, name)
                if found is None:
                    continue
                limits = None
                if found.low is not None and found.high is not None:
                    limits = limits_text(found.low, found.high, lang)
                indent = int(len(self.models) > 1)
                rows.append(Row((say(label, lang), found.value, limits), indent))
            rows += [
                Row((say(label, lang), p_text(p), None), int(len(self.models) > 1))
                for label, p in one.p_values().items()
                if p is not None
            ]
        last = not self.comparisons
        head = (say("measure", lang), say("estimate", lang), say(share, lang))
        tables = [
            PrintedTable(self.heading(lang), head, tuple(rows), self.notes(lang) if last else ())
        ]
        if self.comparisons:
            tables.append(self._compared(lang, say(share, lang)))
        return tuple(tables)

    def _compared(self, lang: Language, share: str) -> PrintedTable:
        against = " 对比 " if lang == "zh" else " versus "
        rows = [
            Row(
                (
                    against.join(one.models),
                    one.difference,
                    limits_text(one.low, one.high, lang),
                    one.statistic,
                    p_text(one.p_value),
                )
            )
            for one in self.comparisons
        ]
        head = ("models", "difference of areas", share, "z", "p")
        return PrintedTable(
            say("DeLong's test of areas under ROC curves", lang),
            tuple(say(one, lang) for one in head),
            tuple(rows),
            self.notes(lang),
        )

    def heading(self, lang: Language = "en") -> str:
        """What stands above the table."""
        of = "：" if lang == "zh" else ": "
        return f"{super().heading(lang)}{of}{self.outcome_name}"

    def notes(self, lang: Language = "en") -> tuple[str, ...]:
        """The footnotes; first whom the numbers are about."""
        from cohortium.sdk.evaluate_words import notes_of

        return (*notes_of(self, lang), *super().notes(lang))

    def summary(self) -> Summary:
        """The tables as text."""
        return Summary(self._text())

    def interpret(self, lang: Language = "en") -> str:
        """How well each model tells persons apart, how far its probabilities are right, and which
        model does better.

        Args:
            lang: ``en`` or ``zh``.

        Raises:
            InputError: ``bad-input`` for another language.
        """
        from cohortium.sdk.evaluate_words import interpret

        return interpret(self, lang)

    def _text(self) -> str:
        import textwrap

        from cohortium.sdk.evaluate_words import notes_of

        plain = [PrintedTable(t.title, t.columns, t.rows).text() for t in self.tables()]
        notes = [*notes_of(self, "en"), *(f"Not released: {why}" for why in self.suppressed)]
        return "\n".join([*plain, *(line for one in notes for line in textwrap.wrap(one, 90))])
