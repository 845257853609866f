"""The text table of a fitted model."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING

from cohortium.sdk.html import text_html

if TYPE_CHECKING:
    from cohortium.sdk.glm import GlmResult

MIN_WIDTH = 78


class Summary(str):
    """Text that a notebook and a prompt show as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return text_html(str(self))


def glm_summary(fit: GlmResult) -> Summary:
    """Header with the fit's numbers, then a line a term."""
    limits = fit.conf_int()
    names = [*fit.terms]
    first = max([len(name) for name in names] + [4])
    width = max(MIN_WIDTH, first + 64)
    columns = (
        "coef",
        "std err",
        fit.statistic_name,
        f"P>|{fit.statistic_name}|",
        "[0.025",
        "0.975]",
    )
    lines = ["Generalized linear model over sites".center(width).rstrip(), "=" * width]
    lines += _facts(fit, width)
    lines += ["=" * width, " " * first + "".join(column.rjust(10) for column in columns)]
    lines.append("-" * width)
    for i, name in enumerate(names):
        numbers = (
            _fixed(fit.params.iloc[i], 4),
            _fixed(fit.bse.iloc[i], 4),
            _fixed(fit.tvalues.iloc[i], 3),
            _fixed(fit.pvalues.iloc[i], 3),
            _fixed(limits[0].iloc[i], 4),
            _fixed(limits[1].iloc[i], 4),
        )
        lines.append(name.ljust(first) + "".join(number.rjust(10) for number in numbers))
    lines.append("=" * width)
    return Summary("\n".join(lines))


def _facts(fit: GlmResult, width: int) -> list[str]:
    indent = " " * 15
    formula = textwrap.wrap(
        "Formula:".ljust(15) + fit.formula, width, subsequent_indent=indent, break_on_hyphens=False
    )
    pairs = [
        ("Family:", _family(fit), "No. Observations:", f"{fit.nobs}"),
        ("Link:", fit.link, "Left out (missing):", f"{fit.n_missing}"),
        ("Scale:", f"{fit.scale:.6g}", "Sites:", f"{fit.n_sites}"),
        ("Iterations:", f"{fit.iterations}", "Df Residuals:", f"{fit.df_resid}"),
        ("Deviance:", f"{fit.deviance:.6g}", "Df Model:", f"{fit.df_model}"),
        ("Null deviance:", f"{fit.null_deviance:.6g}", "Log-Likelihood:", f"{fit.llf:.6g}"),
        ("Run:", fit.run.id[:8], "AIC:", f"{fit.aic:.6g}"),
    ]
    half = width // 2 + 1
    return formula + [
        (left.ljust(15) + value).ljust(half) + right.ljust(20) + other.rjust(width - half - 20)
        for left, value, right, other in pairs
    ]


def _family(fit: GlmResult) -> str:
    """The family; of a category, which level is the event."""
    levels = fit.outcome.levels if fit.outcome is not None else None
    return fit.family if levels is None else f"{fit.family}, event {levels[-1]}"


def _fixed(value: float, digits: int) -> str:
    """Fixed point, or exponent where it would not fit or show nothing."""
    if math.isnan(value):
        return "nan"
    text = f"{value:.{digits}f}"
    tiny = digits == 4 and value != 0 and abs(value) < 0.001
    return f"{value:.2e}" if len(text) > 9 or tiny else text
