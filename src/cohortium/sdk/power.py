"""Sample size and power: of two means, two proportions, two survival curves.

Pure functions of what one assumes; nothing is asked of any site.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, Literal

from cohortium.errors import InputError
from cohortium.sdk.power_results import Alternative, PowerAnalysis

__all__ = ["power_logrank", "power_means", "power_proportions"]

Means = Literal["two-sample", "paired", "one-sample"]
Proportions = Literal["normal", "arcsine"]
Events = Literal["schoenfeld", "freedman"]

_MOST: Final = 1e7
_TITLES: Final = {
    "two-sample": "two-sample t-test",
    "paired": "paired t-test",
    "one-sample": "one-sample t-test",
}


def power_means(
    *,
    difference: float | None = None,
    sd: float = 1.0,
    n: float | None = None,
    power: float | None = None,
    alpha: float = 0.05,
    kind: Means = "two-sample",
    alternative: Alternative = "two-sided",
    ratio: float = 1.0,
) -> PowerAnalysis:
    """The power, the sample size or the least difference of a t-test.

    Give two of `difference`, `n` and `power`; the third is found. The distribution is the
    noncentral t, with both tails of a two-sided test, as in statsmodels and in R's
    ``power.t.test(strict = TRUE)``.

    Args:
        difference: Of the means; of the mean from its null value; of the mean difference from 0.
        sd: Within a group; of the differences where `kind` is ``paired``.
        n: Persons in the first group; pairs; persons.
        power: Chance to find the difference.
        alpha: Chance to find one that is not there.
        kind: ``two-sample``, ``paired`` or ``one-sample``.
        alternative: ``two-sided`` or ``one-sided``.
        ratio: Persons of the second group for each of the first.

    Raises:
        InputError: ``bad-input`` where not exactly one of the three is left open, or a number
            cannot be; ``no-convergence`` where none up to ten million persons is enough.

    Reference: Cohen 1988, ch. 2.
    """
    if kind not in _TITLES:
        raise InputError("bad-input", f"Kinds are {', '.join(_TITLES)}, not {kind!r}.")
    if kind != "two-sample" and ratio != 1:
        raise InputError("bad-input", "A ratio is of the two groups of a two-sample test.")
    open_one = _open(difference=difference, n=n, power=power)
    _check(alpha=alpha, power=power, ratio=ratio, alternative=alternative)
    _positive(sd=sd, n=n, difference=None if difference is None else abs(difference))
    two = kind == "two-sample"
    tail = _tail(alpha, alternative)
    both = alternative == "two-sided"

    def power_of(n: float, d: float) -> float:
        df = n * (1 + ratio) - 2 if two else n - 1
        return _t_power(d * math.sqrt(n * ratio / (1 + ratio) if two else n), df, tail, both=both)

    least = 2.0 / min(1.0, ratio) if two else 2.0
    if n is not None and n < least:
        raise InputError("bad-input", "A t-test needs two persons in a group.")
    d = None if difference is None else abs(difference) / sd
    if power is None:
        power = power_of(_given(n), _given(d))
    elif n is None:
        effect, wanted = _given(d), power
        n = _root(lambda size: power_of(size, effect) - wanted, least, "n")
    else:
        size, wanted = n, power
        d = _root(lambda effect: power_of(size, effect) - wanted, 1e-10, "difference")
        difference = d * sd
    return PowerAnalysis(
        title=_TITLES[kind],
        found=open_one,
        n1=_given(n),
        n2=_given(n) * ratio if two else None,
        power=power,
        alpha=alpha,
        alternative=alternative,
        effects={"difference": _given(difference), "sd": sd, "Cohen's d": _given(difference) / sd},
        unit="pairs" if kind == "paired" else "persons",
    )


def power_proportions(
    p1: float,
    p2: float | None = None,
    *,
    n: float | None = None,
    power: float | None = None,
    alpha: float = 0.05,
    method: Proportions = "normal",
    alternative: Alternative = "two-sided",
    ratio: float = 1.0,
) -> PowerAnalysis:
    """The power, the sample size or the second proportion of a comparison of two proportions.

    Give two of `p2`, `n` and `power`. ``normal``: pooled variance under the null hypothesis,
    separate ones under the alternative, as R's ``power.prop.test(strict = TRUE)`` and
    ``power_proportions_2indep`` of statsmodels, without continuity correction. ``arcsine``:
    Cohen's h, as ``NormalIndPower`` of statsmodels and R's ``pwr``.

    Args:
        p1: Proportion in the first group.
        p2: In the second; where it is looked for, the least that is above `p1`.
        n: Persons in the first group.
        power: Chance to find the difference.
        alpha: Chance to find one that is not there.
        method: ``normal`` or ``arcsine``.
        alternative: ``two-sided`` or ``one-sided``.
        ratio: Persons of the second group for each of the first.

    Raises:
        InputError: As `power_means`.

    Reference: Fleiss, Levin & Paik 2003, ch. 4; Cohen 1988, ch. 6.
    """
    if method not in {"normal", "arcsine"}:
        raise InputError("bad-input", f"Methods are normal and arcsine, not {method!r}.")
    open_one = _open(p2=p2, n=n, power=power)
    _check(alpha=alpha, power=power, ratio=ratio, alternative=alternative, p1=p1, p2=p2)
    _positive(n=n)
    if p2 == p1:
        raise InputError("bad-input", "The two proportions are equal.")
    tail = _tail(alpha, alternative)
    both = alternative == "two-sided"

    def power_of(n: float, second: float) -> float:
        mean, spread = _proportion_shift(p1, second, ratio, method)
        return _normal_power(mean * math.sqrt(n), spread, tail, both=both)

    if power is None:
        power = power_of(_given(n), _given(p2))
    elif n is None:
        second, wanted = _given(p2), power
        n = _root(lambda size: power_of(size, second) - wanted, 1e-3, "n")
    else:
        size, wanted = n, power
        p2 = _root(lambda at: power_of(size, at) - wanted, p1 + 1e-12, "p2", 1 - 1e-12)
    return PowerAnalysis(
        title=f"two proportions ({method})",
        found=open_one,
        n1=_given(n),
        n2=_given(n) * ratio,
        power=power,
        alpha=alpha,
        alternative=alternative,
        effects={"p1": p1, "p2": _given(p2), "difference": _given(p2) - p1},
    )


def power_logrank(
    hazard_ratio: float,
    *,
    events: float | None = None,
    n: float | None = None,
    power: float | None = None,
    alpha: float = 0.05,
    method: Events = "schoenfeld",
    alternative: Alternative = "two-sided",
    ratio: float = 1.0,
    event_rates: Sequence[float] | None = None,
    median: float | None = None,
    accrual: float = 0.0,
    follow_up: float | None = None,
    loss: float = 0.0,
) -> PowerAnalysis:
    """The power, the events or the sample size of a log-rank test of two groups.

    Give `power`, and events (and persons) are found; or `events` or `n`, and the power is. How
    many persons give so many events follows from `event_rates`, or from the exponential survival
    with `median` in the first group, uniform `accrual` and `follow_up` after it.

    Args:
        hazard_ratio: Of the second group to the first.
        events: In both groups together.
        n: Persons in the first group; needs event rates, or a median and times.
        power: Chance to find the difference.
        alpha: Chance to find one that is not there.
        method: ``schoenfeld`` or ``freedman``.
        alternative: ``two-sided`` or ``one-sided``.
        ratio: Persons of the second group for each of the first.
        event_rates: Share of persons with the event, in the first and in the second group.
        median: Median survival of the first group.
        accrual: How long persons enter, evenly.
        follow_up: From the last entry to the end, in the unit of `median`.
        loss: Hazard of being lost to follow-up, per unit of time.

    Raises:
        InputError: ``bad-input`` where what is given is too much, too little or cannot be.

    Reference: Schoenfeld 1981; Freedman 1982; Lachin & Foulkes 1986 (accrual and loss).
    """
    if method not in {"schoenfeld", "freedman"}:
        raise InputError("bad-input", f"Methods are schoenfeld and freedman, not {method!r}.")
    if sum(one is not None for one in (events, n, power)) != 1:
        raise InputError("bad-input", "Give one of events, n and power; the others are found.")
    _check(alpha=alpha, power=power, ratio=ratio, alternative=alternative)
    _positive(hazard_ratio=hazard_ratio, events=events, n=n)
    if hazard_ratio == 1:
        raise InputError("bad-input", "A hazard ratio of 1 is no difference.")
    rates = _event_rates(hazard_ratio, event_rates, median, (accrual, follow_up, loss))
    if n is not None and rates is None:
        raise InputError("bad-input", "How many of n persons have the event? Give event_rates.")
    each = None if rates is None else rates[0] + ratio * rates[1]
    tail = _tail(alpha, alternative)
    if method == "schoenfeld":
        per_event = abs(math.log(hazard_ratio)) * math.sqrt(ratio) / (1 + ratio)
    else:
        per_event = abs(1 - hazard_ratio) * math.sqrt(ratio) / (1 + ratio * hazard_ratio)
    if power is not None:
        events = ((_quantile(1 - tail) + _quantile(power)) / per_event) ** 2
    elif events is None:
        events = _given(n) * _given(each)
    if power is None:
        power = _normal_power(per_event * math.sqrt(events), 1.0, tail, both=False)
        found = "power"
    else:
        found = "events" if each is None else "n"
    n = None if each is None else events / each
    return PowerAnalysis(
        title=f"log-rank test ({method.capitalize()})",
        found=found,
        n1=n,
        n2=None if n is None else n * ratio,
        power=power,
        alpha=alpha,
        alternative=alternative,
        effects={"hazard ratio": hazard_ratio}
        | ({} if rates is None else {"events in group 1": rates[0], "events in group 2": rates[1]}),
        events=events,
    )


def _event_rates(
    hazard_ratio: float,
    given: Sequence[float] | None,
    median: float | None,
    times: tuple[float, float | None, float],
) -> tuple[float, float] | None:
    """Shares of persons with the event; None where nothing is said of them."""
    accrual, follow_up, loss = times
    if (given is None) == (median is None):
        if given is not None:
            raise InputError("bad-input", "Give event_rates or a median, not both.")
        if follow_up is not None or accrual or loss:
            raise InputError("bad-input", "Times need the median survival of the first group.")
        return None
    if given is not None:
        if follow_up is not None or accrual or loss:
            raise InputError("bad-input", "Event rates hold for the whole study: no times beside.")
        if len(given) != 2 or not all(0 < rate <= 1 for rate in given):
            raise InputError("bad-input", "event_rates are two shares above 0.")
        return float(given[0]), float(given[1])
    _positive(median=median)
    after = 0.0 if follow_up is None else follow_up
    if not all(math.isfinite(time) and time >= 0 for time in (accrual, after, loss)):
        raise InputError("bad-input", "Times and losses are 0 or more.")
    if accrual + after <= 0:
        raise InputError("bad-input", "With a median, say how long: accrual and follow_up.")
    hazard = math.log(2) / _given(median)
    one, other = (_event_rate(h, accrual, after, loss) for h in (hazard, hazard * hazard_ratio))
    return one, other


def _event_rate(hazard: float, accrual: float, follow_up: float, loss: float) -> float:
    """Of persons who enter evenly, leave by `hazard` or `loss` and are seen to the end."""
    total = hazard + loss
    if accrual * total < 1e-9:
        still = math.exp(-total * follow_up)
    else:
        still = -math.exp(-total * follow_up) * math.expm1(-total * accrual) / (total * accrual)
    return hazard / total * (1 - still)


def _proportion_shift(p1: float, p2: float, ratio: float, method: str) -> tuple[float, float]:
    """Mean of the statistic for one person in the first group, and its standard deviation."""
    if method == "arcsine":
        h = 2 * (math.asin(math.sqrt(p1)) - math.asin(math.sqrt(p2)))
        return abs(h) * math.sqrt(ratio / (1 + ratio)), 1.0
    pooled = (p1 + ratio * p2) / (1 + ratio)
    null = math.sqrt(pooled * (1 - pooled) * (1 + 1 / ratio))
    true = math.sqrt(p1 * (1 - p1) + p2 * (1 - p2) / ratio)
    return abs(p1 - p2) / null, true / null


def _t_power(shift: float, df: float, tail: float, *, both: bool) -> float:
    from scipy.special import nctdtr, stdtrit

    limit = float(stdtrit(df, 1 - tail))
    # The lower tail with the opposite shift: upper tails are accurate where both are small.
    power = float(nctdtr(df, -shift, -limit))
    other = float(nctdtr(df, shift, -limit)) if both else 0.0
    # The far tail, below 1e-9 from a shift of 6, is not a number for some of these.
    return power + other if math.isfinite(other) else power


def _normal_power(shift: float, spread: float, tail: float, *, both: bool) -> float:
    from scipy.special import ndtr

    limit = _quantile(1 - tail)
    power = float(ndtr((shift - limit) / spread))
    return power + float(ndtr((-shift - limit) / spread)) if both else power


def _quantile(p: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(p))


def _root(miss: Callable[[float], float], low: float, name: str, most: float = _MOST) -> float:
    """Where an increasing function is 0."""
    from scipy.optimize import brentq

    if miss(low) >= 0:
        return low
    high = low
    while miss(high) < 0:
        if high >= most:
            raise InputError("no-convergence", f"There is no {name} with that power.")
        high = min(most, max(2 * high, high + 1e-3))
    return float(brentq(miss, low, high, xtol=1e-13, rtol=1e-14, maxiter=500))


def _tail(alpha: float, alternative: Alternative) -> float:
    return alpha / 2 if alternative == "two-sided" else alpha


def _open(**three: float | None) -> str:
    left = [name for name, value in three.items() if value is None]
    if len(left) != 1:
        names = ", ".join(three)
        raise InputError("bad-input", f"Give two of {names}; the third is found.")
    return left[0]


def _check(*, ratio: float, alternative: str, **shares: float | None) -> None:
    if alternative not in {"two-sided", "one-sided"}:
        raise InputError("bad-input", f"One-sided or two-sided, not {alternative!r}.")
    _positive(ratio=ratio)
    for name, share in shares.items():
        if share is not None and not 0 < share < 1:
            raise InputError("bad-input", f"{name} lies between 0 and 1.")
    power, alpha = shares.get("power"), shares.get("alpha")
    if power is not None and alpha is not None and power <= alpha:
        raise InputError("bad-input", "A power not above alpha needs no study.")


def _positive(**values: float | None) -> None:
    for name, value in values.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError("bad-input", f"{name} is more than 0.")


def _given(value: float | None) -> float:
    """What `_open` has made sure of."""
    if value is None:
        raise InputError("bad-input", "Something that is needed was not given.")
    return value
