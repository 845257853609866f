"""What a site adds to the sums of `glm`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from cohortium.analysis.families import Family
from cohortium.analysis.formula import Parsed, complete, design, values_of
from cohortium.analysis.glm_model import POSITIVE, Model
from cohortium.analysis.glm_state import Progress
from cohortium.analysis.least_squares import pack, unpack
from cohortium.analysis.marks import joint_counts
from cohortium.core.rounds import Array, Contribution
from cohortium.core.table import Table
from cohortium.disclosure.dominance import dominated
from cohortium.disclosure.limits import Disclosure, Dominance
from cohortium.errors import InputError, PolicyRefusal

Floats = npt.NDArray[np.float64]

_BLOCK = 2048
_LEFT = 0.5
"""Least that is left of 1 beside a leverage: a hub that made up `bread` could blow up one person's
score, or let all others' vanish.
"""


def contribute(table: Table, at: Progress, model: Model, limits: Disclosure) -> Contribution:
    """One site's sums of a phase; zeros below the site's own floor."""
    parsed, family = model.parsed, model.family
    out: dict[str, Array] = {
        name: np.zeros(spec.shape, dtype=np.int64 if spec.kind == "count" else np.float64)
        for name, spec in model.layout(at.phase).items()
    }
    table = table.select(tuple(sorted(parsed.variables)))
    rows = complete(table, parsed)
    persons = int(np.count_nonzero(rows))
    if persons < (limits.min_cell if limits.floor == "site" else 1):
        return out
    if "persons" in out:
        out["persons"][:] = (persons, table.n_rows - persons, 1)
    if at.phase == "counts":
        return out
    table = table if persons == table.n_rows else table.take(rows)
    if "columns" in out and limits.dominance is not None and family.name != "binomial":
        _refuse_dominated(table, parsed, limits.dominance)
    score = np.zeros(len(parsed.names))
    for block in blocks(table):
        y = values_of(parsed.response, block)
        _check_outcome(y, parsed, family)
        offset, times = model.more(block)
        x, _ = design(block, parsed)
        if "columns" in out:
            out["columns"] += x.sum(axis=0)
            out["squares"] += np.square(x).sum(axis=0)
            out["outcome"] += (y.sum(), family.saturated(y, times), np.square(y).sum())
            if "marks" in out:
                out["marks"] += joint_counts(block, parsed)
            if "levels" in out:
                out["levels"] += level_counts(block, parsed)
            if times is not None:
                out["once"] += np.count_nonzero(times == 1)
            if model.weighs:
                out["weighed"] += _weighed(y, offset, times, family)
            continue
        x -= at.centre
        y = y - at.offset
        if at.phase == "errors":
            score += _sandwich(out, x, y, offset, times, at=at, model=model)
        else:
            _iterate(out, x, y, offset, times, at=at, family=family)
    if model.params.errors == "site" and at.phase == "errors":
        out["meat"] += pack(np.outer(score, score))
    return out


def _refuse_dominated(table: Table, parsed: Parsed, rule: Dominance) -> None:
    """A model over groups has their means; no column knows the reference level of a category."""
    y = values_of(parsed.response, table)
    columns = [(x == 1, x == 0) for x in (design(block, parsed)[0] for block in blocks(table))]
    ones, zeros = (np.concatenate(parts) for parts in zip(*columns, strict=True))
    binary = np.flatnonzero((ones | zeros).all(axis=0))
    groups = [side[:, j] for j in binary for side in (ones, zeros)]
    for factor in parsed.categories:
        codes = values_of(factor, table)
        groups += [codes == level for level in range(len(factor.levels or ()))]
    if dominated(y, rule) or any(dominated(y[group], rule) for group in groups):
        raise PolicyRefusal(
            "too-few-persons",
            f"A few persons of a site make up most of the sum of {parsed.response.text}, in all "
            "or in a group of the model; its mean is not released.",
        )


def _check_outcome(y: Floats, parsed: Parsed, family: Family) -> None:
    """At a site: says which variable is wrong, and no value."""
    name = parsed.response.text
    if family.name == "binomial" and not np.all((y == 0) | (y == 1)):
        raise InputError(
            "bad-input", f"{name} has values other than 0 and 1 at a site.", variable=name
        )
    if family.name == "poisson" and np.any(y < 0):
        raise InputError("bad-input", f"{name} has negative values at a site.", variable=name)
    if family.name in POSITIVE and not np.all(y > 0):
        raise InputError(
            "bad-input", f"{name} has values that are not positive at a site.", variable=name
        )


def blocks(table: Table) -> Iterator[Table]:
    """Parts that stay in the processor's cache, and that no BLAS splits over threads."""
    for begin in range(0, table.n_rows, _BLOCK):
        rows = slice(begin, begin + _BLOCK)
        yield Table(table.variables, {name: c[rows] for name, c in table.columns.items()})


def level_counts(table: Table, parsed: Parsed) -> Array:
    """Persons at each of `Parsed.levels`, shape (n_levels,)."""
    counts = []
    for factor in parsed.categories:
        codes = values_of(factor, table).astype(np.int64)
        counts.append(np.bincount(codes, minlength=len(factor.levels or ())))
    return np.concatenate(counts)


def _weighed(y: Floats, offset: Floats | None, times: Floats | None, family: Family) -> Floats:
    """Sums of weights, weighted outcomes and offsets, and what a log link's null model needs."""
    w = np.ones_like(y) if times is None else times
    o = np.zeros_like(y) if offset is None else offset
    if family.link != "log":
        return np.array([w.sum(), w @ y, w @ o, 0.0, 0.0])
    return np.array([w.sum(), w @ y, w @ o, w @ np.exp(o), (w * y) @ np.exp(-o)])


def _iterate(
    out: dict[str, Array],
    x: Floats,
    y: Floats,
    offset: Floats | None,
    times: Floats | None,
    *,
    at: Progress,
    family: Family,
) -> None:
    """Add the weighted sums at the present coefficients, or at R's start."""
    away = 0.0 if offset is None else offset
    with np.errstate(over="ignore", invalid="ignore"):
        if at.phase == "start":
            eta = family.start(y)
            weight = observed = family.weight(eta)
            score = weight * (eta - away) + family.residual(y, eta)
            deviance = family.deviance(y, np.full_like(y, at.null_eta) + away, times)
        else:
            eta = x @ at.beta + away
            weight, observed = family.weight(eta), family.observed(y, eta)
            score = family.residual(y, eta)
            deviance = family.deviance(y, eta, times)
        if times is not None:
            weight, observed, score = weight * times, observed * times, score * times
        out["information"] += pack((x * weight[:, None]).T @ x)
        if "observed" in out:
            out["observed"] += pack((x * observed[:, None]).T @ x)
        if "pearson" in out:
            squares = family.pearson(y, eta)
            out["pearson"] += squares.sum() if times is None else squares @ times
    if "outside" in out and at.phase == "fit":
        out["outside"] += np.count_nonzero(~family.inside(eta))
    if "working" in out:
        out["working"] += (weight.sum(), weight @ weight)
    out["gradient"] += x.T @ score
    out["deviance"] += deviance


def _sandwich(
    out: dict[str, Array],
    x: Floats,
    y: Floats,
    offset: Floats | None,
    times: Floats | None,
    *,
    at: Progress,
    model: Model,
) -> Floats:
    """Add the squares of the persons' scores, and return the scores' sum, shape (p,)."""
    family, errors = model.family, model.params.errors
    eta = x @ at.beta + (0.0 if offset is None else offset)
    w = np.ones_like(y) if times is None else times
    residual = family.residual(y, eta)
    if errors == "site":
        return np.asarray(x.T @ (w * residual))
    square = w * np.square(residual)
    if errors in {"HC2", "HC3"}:
        bread = unpack(at.bread, x.shape[1])
        left = 1.0 - family.weight(eta) * np.einsum("ij,jk,ik->i", x, bread, x)
        odd = (left < _LEFT) | (left > 1 + 1e-9)
        out["odd"] += np.count_nonzero(odd)
        square = square / np.where(odd, 1.0, left) ** (1 if errors == "HC2" else 2)
    out["meat"] += pack((x * square[:, None]).T @ x)
    return np.zeros(x.shape[1])
