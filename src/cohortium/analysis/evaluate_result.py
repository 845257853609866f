"""The released form of `evaluate.model`."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.distribution import Distribution
from cohortium.analysis.evaluate_measures import (
    Scored,
    area,
    average_precision,
    brier,
    expit,
    hosmer_lemeshow,
    log_loss,
    observed_to_expected,
    recalibrate,
    share,
    tied,
)
from cohortium.analysis.evaluate_model import DECIMALS, EvaluateParams, Scorer
from cohortium.analysis.evaluate_points import FEW_HIDDEN, Points, grouped
from cohortium.analysis.interface import Scope
from cohortium.disclosure.dominance import dominated
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError, PolicyRefusal

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

ONE_POINT = "too few persons for any point of its curves"
MERGED = "scores of few persons are merged, so that no small number follows from the areas"
NO_RECALIBRATION = "its scores part those with the event from those without; no slope exists"
DOMINATED = "few persons make up most of the risk of a group"


def assess(
    found: Distribution, points: Points, scorer: Scorer, params: EvaluateParams, scope: Scope
) -> tuple[dict[str, Any], list[str]]:
    """One model's measures and curves, and what is not released of them.

    Raises:
        PolicyRefusal: ``too-few-persons`` where few persons are between certainty and certainty.
        InputError: ``no-convergence`` where all have the same score.
    """
    from scipy.special import ndtri

    model, limits = scorer.model, scope.disclosure
    z = float(ndtri((1 + params.confidence) / 2))
    if len(found.cells) < 2:
        raise InputError("no-convergence", f"All persons have the same score of {model.name}.")
    merged = 0 < points.n_hidden <= FEW_HIDDEN
    of = _told(found, points, scorer, merged=merged)
    reasons = [f"{model.name}: {MERGED}"] if merged else []
    if model.probability:
        _require_spread(of, model.name, limits)
    value, s01, s10 = area(of)
    exact = found.exact and not merged and not _is_rounded(scorer)
    half = tied(of) / 2
    out: dict[str, Any] = {
        "name": model.name,
        "score": model.score,
        "formula": None if model.formula is None else params.text(model),
        "probability": model.probability,
        "merged": merged,
        "auc": share(value, math.sqrt(s01 + s10), z),
        "resolution": None
        if exact
        else {
            "step": 10.0**-DECIMALS if _is_rounded(scorer) else 1 / found.scale,
            "low": max(value - half, 0.0),
            "high": min(value + half, 1.0),
        },
        "average_precision": average_precision(of, z),
    }
    if model.probability:
        out |= {"brier": brier(of, z), "log_loss": log_loss(of, z)}
        calibration = recalibrate(of, z)
        if calibration is None:
            reasons.append(f"{model.name}: {NO_RECALIBRATION}")
        out["calibration"] = {
            "mean_risk": of.mean(of.risk, of.risk),
            "rate": of.events / of.n,
            "observed_to_expected": observed_to_expected(of, z),
            **(calibration or dict.fromkeys(("in_the_large", "intercept", "slope", "test"))),
        }
    curves, dropped = _curves(found, points, scorer, params, limits)
    if len(points.last) < 2:
        reasons.append(f"{model.name}: {ONE_POINT}")
    if dropped:
        reasons.append(f"{model.name}: {DOMINATED}")
    return out | curves, reasons


def _told(found: Distribution, points: Points, scorer: Scorer, *, merged: bool) -> Scored:
    """The scores of which the measures are."""
    scores = found.cells / found.scale
    log_odds = scores if scorer.model.probability else scores[:0]
    of = Scored(found.counts[:, 0], found.counts[:, 1], log_odds)
    if not merged:
        return of
    if len(points.last) < 2:
        raise PolicyRefusal(
            "too-few-persons",
            f"The scores of {scorer.model.name} are few, and too few persons with and without the "
            "event have them: the areas would give them away. Merge scores.",
        )
    return _merge(of, points)


def _is_rounded(scorer: Scorer) -> bool:
    """Whether two persons with the same kept score may have had different ones."""
    return scorer.model.probability


def _merge(of: Scored, points: Points) -> Scored:
    """As if all in an interval had the same score; of probabilities, the mean one."""
    without, having = points.counts.T
    if not len(of.log_odds):
        return Scored(without, having, of.log_odds)
    risks = _expected(of, points) / points.counts.sum(axis=1)
    return Scored(without, having, np.log(risks) - np.log1p(-risks))


def _expected(of: Scored, points: Points) -> Floats:
    """The sum of the probabilities in each interval."""
    persons = (of.without + of.having).astype(np.float64)
    return np.asarray(np.add.reduceat(persons * of.risk, points.first()), dtype=np.float64)


def _require_spread(of: Scored, name: str, limits: Disclosure) -> None:
    """Refuse probabilities that are 0 and 1 but for few persons: they are a step between two."""
    persons = (of.without + of.having).astype(np.float64)
    away = np.abs(of.log_odds)
    # p (1 - p) over the largest of them, so that none vanishes.
    doubt = np.exp(away.min() - away) / np.square(1.0 + np.exp(-away))
    spread = float(persons @ doubt) ** 2 / float(persons @ np.square(doubt))
    if spread < limits.cohort:
        raise PolicyRefusal(
            "too-few-persons",
            f"{name} is nearly certain of all but fewer than {limits.cohort} persons: how good it "
            "is would be told of these alone. Use coefficients that are less steep.",
        )


def _curves(
    found: Distribution,
    points: Points,
    scorer: Scorer,
    params: EvaluateParams,
    limits: Disclosure,
) -> tuple[dict[str, Any], bool]:
    """The released points, and the groups of risk; whether an expected number is withheld."""
    edges = (points.edges / found.scale).tolist()
    n, events = points.counts.sum(axis=1), points.counts[:, 1]
    table: dict[str, Any] = {
        "threshold": [None, *edges],
        "n": n.tolist(),
        "events": events.tolist(),
    }
    if not scorer.model.probability:
        return {"points": table}, False
    table["threshold"] = [None, *expit(np.asarray(edges, dtype=np.float64)).tolist()]
    scores = found.cells / found.scale
    of = Scored(found.counts[:, 0], found.counts[:, 1], scores)
    expected = _expected(of, points)
    ends = grouped(points, params.groups)
    first = np.concatenate([[0], ends[:-1] + 1]).astype(np.int64)
    each_n, each_events = (np.add.reduceat(one, first) for one in (n, events))
    each = np.add.reduceat(expected, first)
    starts = points.first()[first]
    stops = points.last[ends] + 1
    few = [
        _is_dominated(of, int(start), int(stop), limits)
        for start, stop in zip(starts, stops, strict=True)
    ]
    groups = {
        "n": each_n.tolist(),
        "events": each_events.tolist(),
        "expected": [None if bad else float(e) for e, bad in zip(each, few, strict=True)],
    }
    test = None if any(few) else hosmer_lemeshow(each_n, each_events, each)
    return {"points": table, "groups": groups, "hosmer_lemeshow": test}, any(few)


def _is_dominated(of: Scored, start: int, stop: int, limits: Disclosure) -> bool:
    """Whether the contract's rule of dominance holds the sum of a group's risks back."""
    rule = limits.dominance
    if rule is None:
        return False
    persons = (of.without + of.having)[start:stop]
    few = np.minimum(persons, rule.largest)
    values = np.repeat(of.risk[start:stop], few)
    rest = float((persons - few) @ of.risk[start:stop])
    largest = np.sort(values)[::-1]
    top = float(largest[: rule.largest].sum())
    if len(largest) <= rule.largest:
        return dominated(values, rule)
    return top * 100.0 > rule.percent * (float(values.sum()) + rest)


def compare(result: dict[str, Any], correlations: Floats, confidence: float) -> dict[str, Any]:
    """DeLong's tests of every two areas, and of all at once where there are more."""
    from scipy import special

    z = float(special.ndtri((1 + confidence) / 2))
    models = result["models"]
    areas = np.array([one["auc"]["value"] for one in models], dtype=np.float64)
    errors = np.array([one["auc"]["std_error"] for one in models], dtype=np.float64)
    cov = correlations * np.outer(errors, errors)
    cov[~np.isfinite(cov)] = 0.0
    tests = []
    for i, j in itertools.combinations(range(len(models)), 2):
        error = math.sqrt(max(float(cov[i, i] + cov[j, j] - 2 * cov[i, j]), 0.0))
        difference = float(areas[i] - areas[j])
        known = error > 1e-9
        statistic = difference / error if known else None
        tests.append(
            {
                "models": [models[i]["name"], models[j]["name"]],
                "difference": difference,
                "std_error": error,
                "low": difference - z * error,
                "high": difference + z * error,
                "correlation": float(cov[i, j] / (errors[i] * errors[j])) if known else None,
                "statistic": statistic,
                "p_value": None if statistic is None else 2 * float(special.ndtr(-abs(statistic))),
            }
        )
    return result | {"comparisons": tests, "all_equal": _all_equal(areas, cov)}


def _all_equal(areas: Floats, cov: Floats) -> dict[str, Any] | None:
    """Whether all areas are equal: of three or more."""
    from scipy import special

    k = len(areas)
    if k < 3:
        return None
    contrast = np.eye(k)[1:] - np.eye(k)[0]
    inner = contrast @ cov @ contrast.T
    scale = np.sqrt(np.maximum(np.diag(inner), 1e-300))
    unit = inner / np.outer(scale, scale)
    values = np.linalg.eigvalsh(unit)
    if values[0] < 1e-9:
        return None
    ahead = contrast @ areas / scale
    statistic = float(ahead @ np.linalg.solve(unit, ahead))
    return {"statistic": statistic, "df": k - 1, "p_value": float(special.chdtrc(k - 1, statistic))}
