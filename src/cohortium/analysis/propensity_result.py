"""The released form of `causal.propensity`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.glm_result import assemble as assemble_glm
from cohortium.analysis.interface import Scope, Total
from cohortium.analysis.least_squares import unpack
from cohortium.analysis.propensity_model import EDGES, Design
from cohortium.analysis.propensity_release import uncentred
from cohortium.analysis.propensity_state import Weighing
from cohortium.core.dictionary import VariableType
from cohortium.core.rounds import Array
from cohortium.disclosure.suppression import is_binary

Floats = npt.NDArray[np.float64]


def assemble(at: Weighing, total: Total, design: Design, scope: Scope) -> dict[str, Any]:
    """The result as JSON values.

    Args:
        at: In the last stage; `total` is that stage's.
    """
    params, p = design.params, len(design.parsed.names)
    known = {**at.known, **{name: np.asarray(one) for name, one in total.items()}}
    plain = replace(design.model, params=design.model.params.model_copy(update={"errors": "model"}))
    model = assemble_glm(at.model, unpack(at.model.bread, p), None, model=plain, scope=scope)
    persons = known["persons"].astype(int).tolist()
    out = {
        "title": "Propensity score weighting",
        "treatment": params.treatment,
        "control": design.arms[0],
        "treated": design.arms[1],
        "estimand": params.estimand,
        "weighting": "overlap weights" if params.estimand == "ATO" else "IPTW",
        "stabilized": params.stabilized,
        "trim": None if params.trim is None else list(params.trim),
        "model": model,
        "n": sum(persons),
        "n_missing": int(at.model.counts[1]),
        "n_sites": scope.n_sites,
        "n_sites_contributing": int(at.model.counts[2]),
        "arms": _arms(known, design),
        "balance": _balance(at, known, design),
        "scores": _scores(known),
        "outcome": None,
        "suppressed": [],
    }
    if design.outcome is not None:
        out["outcome"] = _outcome(at, known, design)
    return out


def _arms(known: dict[str, Array], design: Design) -> list[dict[str, Any]]:
    n = int(known["persons"].sum())
    rows = []
    for one, arm in enumerate(design.arms):
        persons, kept = int(known["persons"][one]), int(known["kept"][one])
        total, squares = known["weights"][one].tolist()
        share = persons / n if design.params.stabilized else 1.0
        mean = total / kept
        rows.append(
            {
                "level": arm,
                "n": persons,
                "n_trimmed": persons - kept,
                "n_weighted": kept,
                "weight_sum": share * total,
                "weight_mean": share * mean,
                "weight_cv": math.sqrt(max(0.0, squares / kept - mean**2)) / mean,
                "ess": total**2 / squares,
            }
        )
    return rows


def _scores(known: dict[str, Array]) -> dict[str, Any]:
    starts = sorted(set(known["groups"].tolist()))
    return {
        "edges": [*(EDGES[start] for start in starts), 1.0],
        "counts": known["scores"][:, starts].astype(int).tolist(),
    }


def _balance(at: Weighing, known: dict[str, Array], design: Design) -> list[dict[str, Any]]:
    """A row for each number and each level: means and spread of the arms, before and after."""
    rows = [_number_row(j, at, known, design) for j in design.numbers]
    persons, weights = known["persons"].astype(float), known["weights"][:, 0]
    for j, (factor, level) in enumerate(design.parsed.levels):
        before = known["levels"][:, j] / persons
        after = known["weighted_levels"][:, j] / weights
        rows.append(_share_row(factor.variable, level, before, after))
    return rows


def _number_row(j: int, at: Weighing, known: dict[str, Array], design: Design) -> dict[str, Any]:
    name, centre = design.parsed.names[j], float(at.model.centre[j])
    persons = known["persons"].astype(float)
    sums, squares = known["columns"][:, j], known["squares"][:, j]
    raw = [
        uncentred(int(n), np.asarray(s), np.asarray(q), np.asarray(centre))
        for n, s, q in zip(persons, sums, squares, strict=True)
    ]
    weights = known["weights"]
    shift, shift_after = sums / persons, known["weighted_columns"][:, j] / weights[:, 0]
    before, after = centre + shift, centre + shift_after
    if all(is_binary(float(s / n), float(q / n)) for n, (s, q) in zip(persons, raw, strict=True)):
        return _share_row(name, None, before, after)
    variance = (squares - persons * shift**2) / np.maximum(persons - 1, 1)
    # Of weights that say how well a person is known, not how often one counts.
    less = weights[:, 0] - weights[:, 1] / weights[:, 0]
    of_squares = known["weighted_squares"][:, j] - weights[:, 0] * shift_after**2
    variance_after = of_squares / less
    return _row(name, None, "mean", (before, variance), (after, variance_after))


def _share_row(name: str, level: str | None, before: Floats, after: Floats) -> dict[str, Any]:
    spread = [np.maximum(share * (1 - share), 0.0) for share in (before, after)]
    return _row(name, level, "share", (before, spread[0]), (after, spread[1]))


def _row(
    name: str,
    level: str | None,
    kind: str,
    before: tuple[Floats, Floats],
    after: tuple[Floats, Floats],
) -> dict[str, Any]:
    """Differences over the spread before weighting, so that a smaller one is a nearer mean."""
    spread = math.sqrt(float(np.maximum(before[1], 0.0).mean()))

    def smd(means: Floats) -> float | None:
        return float(means[1] - means[0]) / spread if spread > 0 else None

    def ratio(variances: Floats) -> float | None:
        if kind == "share" or not variances[0] > 0:
            return None
        return float(variances[1] / variances[0])

    return {
        "variable": name,
        "level": level,
        "kind": kind,
        "before": before[0].tolist(),
        "after": after[0].tolist(),
        "sd": np.sqrt(np.maximum(before[1], 0.0)).tolist(),
        "smd_before": smd(before[0]),
        "smd_after": smd(after[0]),
        "variance_ratio_before": ratio(before[1]),
        "variance_ratio_after": ratio(after[1]),
    }


def _outcome(at: Weighing, known: dict[str, Array], design: Design) -> dict[str, Any]:
    outcome, params = design.outcome, design.params
    persons = known["persons"].astype(float)
    mean, square = (known["outcome"] / persons[:, None]).T
    binary = all(is_binary(float(m), float(q)) for m, q in zip(mean, square, strict=True))
    means, cov = known["means"], covariance(at, known, design)
    if params.doubly_robust:
        means = means + known["estimates"]
    variance = (square - mean**2) / np.maximum(persons - 1, 1)
    two = outcome is not None and outcome.type is VariableType.CATEGORY
    width = params.confidence
    return {
        "variable": params.outcome,
        "kind": "risk" if binary else "mean",
        "event": (outcome.levels or ("", ""))[1] if two and outcome is not None else None,
        "errors": params.errors,
        "doubly_robust": params.doubly_robust,
        "confidence": params.confidence,
        "means": [
            {"level": arm, **_limits(float(m), math.sqrt(float(v)), width)}
            for arm, m, v in zip(design.arms, means, np.diag(cov), strict=True)
        ],
        "cov": cov.tolist(),
        "effects": effects(means, cov, binary=binary, confidence=width),
        "crude": effects(mean, np.diag(np.maximum(variance, 0)), binary=binary, confidence=width),
    }


def covariance(at: Weighing, known: dict[str, Array], design: Design) -> Floats:
    """Of the arms' weighted means, shape (2, 2), by the sandwich of the stacked equations.

    Each arm's equation is ``sum w (y - mean) = 0``, the score's ``X' (z - e) = 0``.
    """
    if design.params.doubly_robust:
        return unpack(known["influence"], 2) / float(known["kept"].sum()) ** 2
    total = known["weights"][:, 0]
    meat = np.diag(known["variation"]).astype(np.float64)
    if design.params.errors == "stacked":
        p = len(design.parsed.names)
        through = known["slope"] @ unpack(at.model.bread, p)
        cross = known["cross"] @ through.T
        meat = meat + through @ unpack(known["meat"], p) @ through.T + cross + cross.T
    return np.asarray(meat / np.outer(total, total))


def effects(means: Floats, cov: Floats, *, binary: bool, confidence: float) -> list[dict[str, Any]]:
    """Of the treated against the controls: a difference, and ratios of risks and odds."""
    control, treated = (float(one) for one in means)

    def spread(slope: tuple[float, float]) -> float:
        along = np.array(slope)
        return math.sqrt(max(float(along @ cov @ along), 0.0))

    name = "risk difference" if binary else "mean difference"
    difference = treated - control
    out = [{"name": name, **_tested(difference, spread((-1.0, 1.0)), confidence)}]
    if not binary:
        return out
    inside = min(control, treated) > 0 and max(control, treated) < 1
    if min(control, treated) > 0:
        log = math.log(treated / control)
        bse = spread((-1 / control, 1 / treated))
        out.append({"name": "risk ratio", **_ratio(log, bse, confidence)})
    if inside:
        log = math.log(treated / (1 - treated)) - math.log(control / (1 - control))
        bse = spread((-1 / (control * (1 - control)), 1 / (treated * (1 - treated))))
        out.append({"name": "odds ratio", **_ratio(log, bse, confidence)})
    return out


def _ratio(log: float, bse: float, confidence: float) -> dict[str, Any]:
    of = _tested(log, bse, confidence)
    return {**of, **{name: math.exp(of[name]) for name in ("value", "low", "high")}}


def _tested(value: float, bse: float, confidence: float) -> dict[str, Any]:
    """Std_error and statistic are of the logarithm where `_ratio` asks."""
    from scipy.special import ndtr

    z = value / bse if bse > 0 else None
    return {
        **_limits(value, bse, confidence),
        "statistic": z,
        "p_value": None if z is None else float(2 * ndtr(-abs(z))),
    }


def _limits(value: float, bse: float, confidence: float) -> dict[str, Any]:
    from scipy.special import ndtri

    width = float(ndtri(0.5 + confidence / 2)) * bse
    return {"value": value, "std_error": bse, "low": value - width, "high": value + width}
