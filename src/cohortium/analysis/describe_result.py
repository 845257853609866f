"""The released form of `stats.describe`."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from cohortium.analysis.describe_state import Knowledge, Plan
from cohortium.analysis.interface import Scope
from cohortium.analysis.quantiles import interpolate, needed_ranks, recorded_scale
from cohortium.core.dictionary import NUMERIC, VariableType
from cohortium.disclosure.limits import Disclosure
from cohortium.disclosure.suppression import REASONS, Release, floor_of, is_two_valued

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def assemble(
    known: Knowledge, plan: Plan, quantiles: tuple[float, ...], scope: Scope
) -> dict[str, Any]:
    """The result as JSON values; what is withheld is None and named under ``suppressed``."""
    suppressed: list[str] = []
    groups: list[dict[str, Any]] = []
    for group, level in enumerate(plan.groups.names):
        if (reason := REASONS.get(Release(int(known.group_status[group])))) is not None:
            suppressed.append(f"{plan.groups.where(group)}: {reason}")
            groups.append({"level": level, "n": None, "n_sites": None, "variables": {}})
            continue
        variables = {}
        for v, variable in enumerate(plan.variables):
            entry, reasons = _variable(known, plan, group, v, quantiles=quantiles, scope=scope)
            variables[variable.name] = entry
            place = (
                f"{variable.name}, {plan.groups.where(group)}" if plan.groups.by else variable.name
            )
            suppressed += [f"{place}: {reason}" for reason in reasons]
        groups.append(
            {
                "level": level,
                "n": scope.disclosure.shown(int(known.persons[group])),
                "n_sites": int(known.sites[group]),
                "variables": variables,
            }
        )
    rounding = scope.disclosure.rounding
    return {
        "n_sites": scope.n_sites,
        "by": plan.groups.by[0].name if plan.groups.by else None,
        "groups": groups,
        "suppressed": suppressed,
        **({} if rounding is None else {"rounding": rounding}),
    }


def _variable(
    known: Knowledge,
    plan: Plan,
    group: int,
    v: int,
    *,
    quantiles: tuple[float, ...],
    scope: Scope,
) -> tuple[dict[str, Any], list[str]]:
    variable = plan.variables[v]
    entry: dict[str, Any] = {"type": str(variable.type), "n": None, "missing": None}
    if variable.unit is not None:
        entry["unit"] = variable.unit
    if (reason := REASONS.get(Release(int(known.status[group, v])))) is not None:
        return entry, [reason]
    limits = scope.disclosure
    entry |= {"n": limits.shown(int(known.present[group, v]))}
    entry |= {"missing": limits.shown(int(known.missing[group, v]))}
    if v in plan.categories:
        entry["levels"] = _levels(known, plan, group, v, limits)
        withheld = any(level["count"] is None for level in entry["levels"])
        return entry, ["levels of too few persons are withheld"] if withheld else []
    m = plan.measured.index(v)
    reasons = []
    if variable.type in NUMERIC:
        entry |= _moments(known, plan, group, m, limits)
        if math.isnan(known.mean[group, m]):
            reasons.append("the mean would give away a value that too few persons have")
    entry["quantiles"] = _quantiles(known, plan, group, m, quantiles=quantiles, tail=limits.tail)
    if entry["n"] and any(q["value"] is None for q in entry["quantiles"]) and not reasons:
        reasons.append("quantiles with too few persons on one side are withheld")
    return entry, reasons


def _levels(
    known: Knowledge, plan: Plan, group: int, v: int, limits: Disclosure
) -> list[dict[str, Any]]:
    start = plan.level_at[plan.categories.index(v)]
    n = limits.shown(int(known.present[group, v]))
    out = []
    for at, level in enumerate(plan.variables[v].levels or ()):
        count = int(known.levels[group, start + at])
        count = limits.shown(count) if count > 0 else count
        share = count / n if n and count >= 0 else None
        out.append({"level": level, "count": count if count >= 0 else None, "share": share})
    return out


def _moments(
    known: Knowledge, plan: Plan, group: int, m: int, limits: Disclosure
) -> dict[str, float | None]:
    """Mean, variance (divisor n - 1), g1 and g2; None where undefined or withheld.

    Where counts are rounded, so is the count that the mean of zeros and ones is.
    """
    n = int(known.present[group, plan.measured[m]])
    mean, squares = float(known.mean[group, m]), float(known.squares[group, m])
    names = ("mean", "sd", "variance", "skewness", "kurtosis")
    out: dict[str, float | None] = dict.fromkeys(names)
    if n == 0 or math.isnan(mean):
        return out
    if limits.rounding is not None and is_two_valued(mean, squares / n + mean**2):
        whole, (low, part) = limits.shown(n), floor_of(mean)
        return out | {"mean": low + limits.shown(round(n * part)) / whole if whole else None}
    out["mean"] = mean
    if n > 1:
        out["variance"] = squares / (n - 1)
        out["sd"] = math.sqrt(squares / (n - 1))
    if known.sd(plan)[group, m] > 0:
        third, fourth = (float(power) / n for power in known.powers[group, m])
        out["skewness"], out["kurtosis"] = third, fourth - 3.0
    return out


def _quantiles(
    known: Knowledge,
    plan: Plan,
    group: int,
    m: int,
    *,
    quantiles: tuple[float, ...],
    tail: int,
) -> list[dict[str, Any]]:
    variable = plan.variables[plan.measured[m]]
    n = int(known.present[group, plan.measured[m]])
    scale = float(known.scale[group, m])
    here = {f.rank: f for f in known.found if (f.group, f.variable) == (group, m)}
    out: list[dict[str, Any]] = []
    for p in quantiles:
        ranks = needed_ranks(n, p, tail)
        released: dict[str, Any] = {"q": p, "value": None, "low": None, "high": None}
        if ranks and all(rank in here for rank in ranks):
            exact = scale == recorded_scale(variable)
            quantile = interpolate(p, n, [here[rank] for rank in ranks], scale, exact)
            for name in ("value", "low", "high"):
                released[name] = _display(getattr(quantile, name), variable.type)
        out.append(released)
    return out


def _display(value: float, kind: VariableType) -> float | str:
    if kind is VariableType.DATE:
        return (_EPOCH + timedelta(days=round(value))).date().isoformat()
    if kind is VariableType.DATETIME:
        moment = _EPOCH + timedelta(seconds=round(value))
        return moment.replace(tzinfo=None).isoformat()
    return float(np.float64(value))
