"""Tests and measures of a contingency table that is known in full; JSON values come out.

A number that is not defined (a ratio over nobody, limits of a ratio with an empty cell) is None.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

LEAST_EXPECTED = 5.0
"""Below it the chi-squared approximation is doubtful (Cochran 1954)."""

FAR = 60.0
"""Standard deviations beyond which a hypergeometric probability is not looked at."""

Line = dict[str, Any]


def without_empty(counts: Ints) -> Ints:
    """The table without the rows and columns in which nobody is."""
    return np.asarray(counts[counts.sum(axis=1) > 0][:, counts.sum(axis=0) > 0])


def expected(counts: Ints) -> Floats:
    """Counts under independence; zeros where the table is empty."""
    rows, columns = counts.sum(axis=1, dtype=float), counts.sum(axis=0, dtype=float)
    n = float(counts.sum())
    return np.outer(rows, columns) / n if n else np.zeros(counts.shape)


def standardised_residuals(counts: Ints) -> Floats:
    """(observed - expected) / its standard error; NaN where the table says nothing (Agresti)."""
    n = float(counts.sum())
    e = expected(counts)
    row, column = counts.sum(axis=1) / n, counts.sum(axis=0) / n
    variance = e * np.outer(1 - row, 1 - column)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(variance > 0, (counts - e) / np.sqrt(variance), np.nan)


def chi_square(counts: Ints, *, yates: bool = False) -> Line:
    """Pearson's chi-square test; `yates` moves each cell of a 2x2 by half a person at most."""
    e = expected(counts)
    away = np.abs(counts - e)
    if yates:
        away = away - min(0.5, float(away.min()))
    return _chi2_line(
        "chi-square-yates" if yates else "chi-square",
        "Chi-square test with Yates' correction" if yates else "Pearson's chi-square test",
        float((away**2 / e).sum()),
        counts,
    )


def likelihood_ratio(counts: Ints) -> Line:
    """The likelihood-ratio test of independence (G)."""
    e = expected(counts)
    some = counts > 0
    statistic = 2.0 * float((counts[some] * np.log(counts[some] / e[some])).sum())
    return _chi2_line("likelihood-ratio", "Likelihood-ratio test", max(0.0, statistic), counts)


def _chi2_line(test: str, title: str, statistic: float, counts: Ints) -> Line:
    df = (counts.shape[0] - 1) * (counts.shape[1] - 1)
    return {
        "test": test,
        "title": title,
        "statistic_name": "G" if test == "likelihood-ratio" else "chi2",
        "statistic": statistic,
        "df": df,
        "p_value": chi2_tail(statistic, df),
    }


def chi2_tail(statistic: float, df: int) -> float:
    """The probability of a chi-squared variable above `statistic`."""
    from scipy import special

    return float(special.chdtrc(df, statistic))


def fisher(counts: Ints, confidence: float) -> Line:
    """Fisher's exact test of a 2x2 table, as R does it.

    Two-sided: the probabilities of all tables with these margins that are not likelier than this
    one. The odds ratio is the conditional maximum-likelihood estimate, its limits exact.
    """
    (a, b), (c, d) = counts.tolist()
    row, column, n = a + b, a + c, a + b + c + d
    low, high = max(0, a - d), a + min(b, c)
    mean = row * column / n
    spread = mean * (n - row) * (n - column) / (n * max(1, n - 1))
    support = _around(round(mean), spread, low, high)
    density = np.exp(_log_hypergeometric(support, a + b, c + d, a + c))
    here = float(np.exp(_log_hypergeometric(np.array([a]), a + b, c + d, a + c))[0])
    line: Line = {
        "test": "fisher",
        "title": "Fisher's exact test",
        "statistic_name": "",
        "statistic": None,
        "df": None,
        "p_value": min(1.0, float(density[density <= here * (1 + 1e-7)].sum())),
    }
    near = _around(a, 1.0 / sum(1.0 / max(k, 1) for k in (a, b, c, d)), low, high)
    logs = _log_hypergeometric(near, a + b, c + d, a + c)
    return line | _conditional_odds(near, logs, a, (a == low, a == high), confidence)


def _around(centre: int, variance: float, low: int, high: int) -> Ints:
    """The whole numbers from `low` to `high` but those whose probability is nothing in float64."""
    reach = FAR * (math.sqrt(variance) + 1.0)
    return np.arange(max(low, math.floor(centre - reach)), min(high, math.ceil(centre + reach)) + 1)


def _log_hypergeometric(x: Ints, first: int, second: int, drawn: int) -> Floats:
    """Log-probabilities of x of `first`, when `drawn` of first and second together are drawn."""
    from scipy.special import gammaln

    def choose(n: int, k: Any) -> Any:
        return gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)

    logs = choose(first, x.astype(float)) + choose(second, drawn - x.astype(float))
    return np.asarray(logs - choose(first + second, float(drawn)), dtype=np.float64)


def _conditional_odds(
    support: Ints, logs: Floats, x: int, at_end: tuple[bool, bool], confidence: float
) -> Line:
    from scipy.optimize import brentq
    from scipy.special import logsumexp

    tail = (1.0 - confidence) / 2.0
    rest = support - x

    def weights(log_odds: float) -> Floats:
        shifted = logs + log_odds * rest
        return np.asarray(np.exp(shifted - logsumexp(shifted)), dtype=np.float64)

    def solve(excess: Any) -> float:
        """Where a function that rises with the odds is zero."""
        reach = 1.0
        while excess(-reach) > 0 or excess(reach) < 0:
            reach *= 2.0
        return math.exp(brentq(excess, -reach, reach, xtol=1e-12, rtol=1e-14))

    first, last = at_end
    return {
        "odds_ratio": None if last else 0.0 if first else solve(lambda t: float(weights(t) @ rest)),
        "low": 0.0 if first else solve(lambda t: float(weights(t)[rest >= 0].sum()) - tail),
        "high": None if last else solve(lambda t: tail - float(weights(t)[rest <= 0].sum())),
        "confidence": confidence,
    }


def cramers_v(counts: Ints) -> list[Line]:
    """Cramer's V, and with Bergsma's correction of its bias (2013)."""
    n = int(counts.sum())
    r, c = counts.shape
    phi2 = float(chi_square(counts)["statistic"]) / n
    lines: list[Line] = [{"name": "Cramer's V", "value": math.sqrt(phi2 / (min(r, c) - 1))}]
    if n > 1:
        r_, c_ = r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1)
        excess = max(0.0, phi2 - (r - 1) * (c - 1) / (n - 1))
        if min(r_, c_) > 1:
            value = math.sqrt(excess / (min(r_, c_) - 1))
            lines.append({"name": "Cramer's V (bias-corrected)", "value": value})
    return lines


def odds_ratio(counts: Ints, confidence: float) -> Line:
    """(a d) / (b c) with Woolf's limits: normal on the log scale."""
    (a, b), (c, d) = counts.tolist()
    value = (a * d) / (b * c) if b * c else None
    se = math.sqrt(sum(1 / k for k in (a, b, c, d))) if a * b * c * d else None
    return _ratio("odds ratio", "Woolf", value, se, confidence)


def risk_ratio(counts: Ints, confidence: float) -> Line:
    """The risk of the last column in the last row over that in the first; Katz' log limits."""
    (a, b), (c, d) = counts.tolist()
    value = (d / (c + d)) / (b / (a + b)) if b else None
    se = math.sqrt(max(0.0, 1 / d - 1 / (c + d) + 1 / b - 1 / (a + b))) if b * d else None
    return _ratio("risk ratio", "Katz", value, se, confidence)


def risk_difference(counts: Ints, confidence: float) -> Line:
    """The risk of the last column in the last row less that in the first; Wald limits."""
    (a, b), (c, d) = counts.tolist()
    first, last = b / (a + b), d / (c + d)
    se = math.sqrt(first * (1 - first) / (a + b) + last * (1 - last) / (c + d))
    half = normal_quantile(confidence) * se
    return {
        "name": "risk difference",
        "value": last - first,
        "low": last - first - half,
        "high": last - first + half,
        "confidence": confidence,
        "method": "Wald",
    }


def log_limits(
    value: float | None, se: float | None, confidence: float
) -> tuple[float, float] | tuple[None, None]:
    """The limits of a ratio whose logarithm has the standard error `se`."""
    if value is None or se is None or value <= 0:
        return None, None
    factor = math.exp(normal_quantile(confidence) * se)
    return value / factor, value * factor


def normal_quantile(confidence: float) -> float:
    """1.96 for 0.95."""
    from scipy import special

    return float(special.ndtri(0.5 + confidence / 2.0))


def _ratio(
    name: str, method: str, value: float | None, se: float | None, confidence: float
) -> Line:
    low, high = log_limits(value, se, confidence)
    return {
        "name": name,
        "value": value,
        "low": low,
        "high": high,
        "confidence": confidence,
        "method": method,
    }
