"""Missing values, and models of incomplete data, as they come back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from cohortium.core.dictionary import Variable
from cohortium.errors import InputError
from cohortium.sdk.coefficients import Coefficients
from cohortium.sdk.language import Language, require_language
from cohortium.sdk.missing_words import interpret_mice, interpret_missing
from cohortium.sdk.publication import PrintedTable, from_frame
from cohortium.sdk.results import Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.summary import Summary
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

METHODS = {
    "norm": "Bayesian linear regression",
    "logreg": "logistic regression",
    "polyreg": "multinomial regression",
}
RATIOS = {"logit": "odds ratio", "log": "rate ratio"}


class MissingResult(Result):
    """How much is missing, and what is missing together.

    Attributes:
        n: Persons.
        n_complete: Persons with every variable of `together`; None where it is not released.
        together: The variables of the patterns; none where they were not asked for.
        other: Persons of patterns that are not released one by one.
        by: The grouping variable.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.n = int(data["n"])
        self.n_complete: int | None = data.get("n_complete")
        self.together = tuple(str(name) for name in data.get("together") or ())
        self.other = int(data.get("other") or 0)
        self.by: str | None = data.get("by")
        self.rounding: int | None = data.get("rounding")
        self._patterns = [
            (tuple(str(name) for name in one["missing"]), int(one["n"]))
            for one in data.get("patterns") or ()
        ]
        self._rows = [(str(o["variable"]), o["n_missing"], o["share"]) for o in data["variables"]]
        self._groups = list(data.get("groups") or ())

    def to_frame(self) -> pd.DataFrame:
        """A row for each variable, or for each variable and group: n, missing, share."""
        import pandas as pd

        if not self._groups:
            frame = pd.DataFrame(self._rows, columns=["variable", "missing", "share"])
            frame["n"] = self.n
            out = frame.set_index("variable")[["n", "missing", "share"]]
        else:
            rows = [
                {"variable": o["variable"], "group": o["level"], "n": o["n"]}
                | {"missing": o["n_missing"], "share": o["share"]}
                for o in sorted(self._groups, key=lambda o: self._order(o["variable"]))
            ]
            out = pd.DataFrame(rows).set_index(["variable", "group"])
        out["n"], out["missing"] = out["n"].astype("Int64"), out["missing"].astype("Int64")
        out["share"] = out["share"].astype("float64")
        return out

    @property
    def patterns(self) -> pd.DataFrame:
        """As R's ``md.pattern``: a row a pattern, 1 where there is a value, 0 where there is none.

        Raises:
            InputError: ``bad-input`` where they were not asked for.
        """
        import pandas as pd

        if "patterns" not in self._data:
            if self.run.params.get("patterns", True):
                raise InputError(
                    "bad-input",
                    "The patterns are not released: beside those of an earlier result they would "
                    "tell of fewer persons than the minimum cell size.",
                )
            raise InputError(
                "bad-input", "Patterns were not asked for: name up to 8 variables, patterns=True."
            )
        rows = [
            {name: int(name not in missing) for name in self.together}
            | {"missing": len(missing), "n": n}
            for missing, n in self._patterns
        ]
        return pd.DataFrame(rows, columns=[*self.together, "missing", "n"])

    def plot(self) -> alt.TopLevelMixin:
        """Shares that are missing, and above each other the patterns."""
        from cohortium.sdk.missing_plot import missing

        return missing(self._rows, self._patterns, self.together, self.n, f"{self.n:,} persons")

    def interpret(self, lang: Language = "en") -> str:
        """What is missing, in plain words."""
        return interpret_missing(self, lang)

    def most_missing(self) -> list[tuple[str, int, float]]:
        """The variables with missing values that are released, the most first."""
        told = [(name, int(n), float(share)) for name, n, share in self._rows if n]
        return sorted(told, key=lambda one: -one[1])

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The variables, and the patterns."""
        require_language(lang)
        heading, notes = self.heading(lang), self.notes(lang)
        frame = self.to_frame()
        frames = [frame if self.by is None else frame.reset_index()]
        if self._patterns:
            frames.append(self.patterns)
        said = [_say(frame, lang) for frame in frames]
        last = len(said) - 1
        return tuple(
            from_frame(heading, frame, notes=notes if at == last else ())
            for at, frame in enumerate(said)
        )

    def _order(self, name: str) -> int:
        return [row[0] for row in self._rows].index(name)

    def _text(self) -> str:
        frame = self.to_frame()
        text = frame.to_string(
            na_rep="—",
            formatters={"share": lambda share: "—" if share != share else f"{share:.1%}"},  # noqa: PLR0124
        )
        lines = [f"{self.heading()}: {self.n} persons", text]
        if self._patterns:
            lines += ["", "Patterns (1: there, 0: missing)", self.patterns.to_string(index=False)]
        if self.other:
            lines.append(f"{self.other} persons of patterns that are too small to be shown apart")
        if self.suppressed:
            lines += ["", *(f"Not released: {why}" for why in self.suppressed)]
        return "\n".join(lines)


class MiceResult(Coefficients):
    """A generalised linear model of multiply imputed data, pooled by Rubin's rules.

    Attributes:
        formula, family, link: The model's.
        terms: The coefficients' names.
        m, iterations, seed: As asked.
        n: Persons; `n_missing` left out for what is not imputed; `n_complete` lack nothing.
        imputed: Of each imputed variable its method and how many lacked it.
        df_complete: Residual degrees of freedom, had nothing been missing.
    """

    def __init__(
        self, run: RunInfo, data: Mapping[str, Any], variables: Mapping[str, Variable]
    ) -> None:
        super().__init__(run, data, variables)
        self.formula, self.family = str(data["formula"]), str(data["family"])
        self.link = str(data["link"])
        self.terms = tuple(str(term) for term in data["terms"])
        self.m, self.iterations, self.seed = (int(data[k]) for k in ("m", "iterations", "seed"))
        self.n, self.n_missing = int(data["n"]), int(data["n_missing"])
        self.n_complete = int(data["n_complete"])
        self.n_sites = int(data["n_sites_contributing"])
        self.df_complete = int(data["df_complete"])
        self.imputed: dict[str, tuple[str, int]] = {
            str(one["variable"]): (str(one["method"]), int(one["missing"]))
            for one in data["imputed"]
        }
        self._trace = {
            str(one["variable"]): (
                np.array(one["mean"], dtype=np.float64),
                np.array(one["sd"], dtype=np.float64),
            )
            for one in data["trace"]
        }
        for key in ("params", "bse", "pvalues", "conf_low", "conf_high", "df", "fmi", "riv"):
            self._series(key)

    @property
    def df(self) -> pd.Series[float]:
        """Degrees of freedom of each coefficient's test (Barnard & Rubin 1999)."""
        return self._series("df")

    @property
    def fmi(self) -> pd.Series[float]:
        """Fraction of missing information of each coefficient."""
        return self._series("fmi")

    @property
    def riv(self) -> pd.Series[float]:
        """Relative increase in variance due to the missing values."""
        return self._series("riv")

    @property
    def is_ratio(self) -> bool:
        """Whether effects are shown as exp(coefficient)."""
        return self.link in RATIOS

    def conf_int(self, alpha: float = 0.05) -> pd.DataFrame:
        """Limits of the coefficients, level 1 - alpha; columns 0 and 1 as in statsmodels."""
        import pandas as pd
        from scipy import stats

        if not 0 < alpha < 1:
            raise InputError("bad-input", f"alpha must lie between 0 and 1, not {alpha}.")
        half = stats.t.ppf(1 - alpha / 2, self.df.to_numpy()) * self.bse
        return pd.DataFrame({0: self.params - half, 1: self.params + half})

    def to_frame(self) -> pd.DataFrame:
        """One row a term: estimate, error, t, df, p, limits, fmi, riv; and the ratio."""
        import pandas as pd

        frame = pd.DataFrame(
            {
                "estimate": self.params,
                "std_error": self.bse,
                "statistic": self.tvalues,
                "df": self.df,
                "p_value": self.pvalues,
                "conf_low": self._series("conf_low"),
                "conf_high": self._series("conf_high"),
                "fmi": self.fmi,
                "riv": self.riv,
            }
        )
        if self.is_ratio:
            name = RATIOS[self.link].replace(" ", "_")
            frame[name] = np.exp(self.params)
            frame[f"{name}_low"] = np.exp(frame["conf_low"])
            frame[f"{name}_high"] = np.exp(frame["conf_high"])
        frame.index.name = "term"
        return frame

    @property
    def trace(self) -> pd.DataFrame:
        """Mean and sd of what was imputed: columns variable, iteration, chain, mean, sd.

        Of a category they are of its codes, 0 for the first level.
        """
        import pandas as pd

        rows = [
            {"variable": name, "iteration": t + 1, "chain": k + 1}
            | {"mean": float(mean[t, k]), "sd": float(sd[t, k])}
            for name, (mean, sd) in self._trace.items()
            for t in range(mean.shape[0])
            for k in range(mean.shape[1])
        ]
        return pd.DataFrame(rows)

    def plot(self, kind: str = "trace") -> alt.TopLevelMixin:
        """``trace``: what was imputed in each iteration, a line a chain, which should mingle and
        not drift; ``fmi``: fractions of missing information; ``effects``: a forest plot.

        Raises:
            InputError: ``bad-input`` for another kind.
        """
        from cohortium.sdk import missing_plot
        from cohortium.sdk.plots import forest

        if kind == "trace":
            return missing_plot.trace(self.trace)
        if kind == "fmi":
            return missing_plot.fmi(
                dict(self.fmi), self.formula, f"{self.n:,} persons, m = {self.m}"
            )
        if kind != "effects":
            raise InputError("bad-input", f"A picture is trace, fmi or effects, not {kind!r}.")
        frame = self.to_frame().drop(index="Intercept", errors="ignore").reset_index()
        low, high, effect = "conf_low", "conf_high", "estimate"
        if self.is_ratio:
            effect = RATIOS[self.link].replace(" ", "_")
            low, high = f"{effect}_low", f"{effect}_high"
        shown = frame[["term", effect, low, high, "p_value"]]
        shown.columns = ["term", "effect", "low", "high", "p"]
        return forest(
            shown,
            effect=RATIOS.get(self.link, "coefficient").capitalize(),
            ratio=self.is_ratio,
            title=self.formula,
            subtitle=self.run.line(),
        )

    def summary(self) -> Summary:
        """The pooled model as text."""
        return Summary(self._text())

    def interpret(self, lang: Language = "en") -> str:
        """Each effect with its interval, and what was imputed and how."""
        return interpret_mice(self, lang)

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """The coefficients, and what was imputed."""
        import pandas as pd

        require_language(lang)
        heading = f"{self.heading(lang)}: {self.formula}"
        rows = [
            {"variable": name, "method": say(METHODS[method], lang), "missing": missing}
            for name, (method, missing) in self.imputed.items()
        ]
        imputed = pd.DataFrame(rows).set_index("variable")
        return (
            from_frame(heading, _say(self.to_frame(), lang)),
            from_frame(heading, _say(imputed, lang), notes=self.notes(lang)),
        )

    def _text(self) -> str:
        frame = self.to_frame().to_string(float_format=lambda value: f"{value:.4f}")
        how = "\n".join(
            f"  {name}: {missing} missing, {METHODS[method]}"
            for name, (method, missing) in self.imputed.items()
        )
        return (
            f"{self.heading()}: {self.formula} ({self.family}, {self.link})\n{self.n} persons of "
            f"{self.n_sites} institutions, {self.n_complete} complete; m = {self.m}, "
            f"{self.iterations} iterations, seed {self.seed}\nImputed:\n{how}\n\n{frame}"
        )


def _say(frame: pd.DataFrame, lang: Language) -> pd.DataFrame:
    renamed = frame.rename(columns={name: say(str(name), lang) for name in frame.columns})
    names = [None if name is None else say(str(name), lang) for name in frame.index.names]
    renamed.index = renamed.index.set_names(names)
    return renamed
