"""What a site adds to the sums of `models.elastic_net`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from cohortium.analysis.elastic_net_model import Net
from cohortium.analysis.elastic_net_state import Fit
from cohortium.analysis.folds import folds_of
from cohortium.analysis.formula import complete, design, values_of
from cohortium.analysis.glm_site import contribute as contribute_first
from cohortium.analysis.least_squares import pack
from cohortium.core.rounds import Array, Contribution
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure

Floats = npt.NDArray[np.float64]

_ROWS: Final = 256
"""Persons at a time."""
_PRODUCTS: Final = 250_000
"""Multiplications of a product of matrices, below which no BLAS splits it over threads."""
_PAIRS: Final = 1500
_FAR: Final = 50.0
_FURTHER: Final = 700.0
_CERTAIN: Final = math.log((1 - 1e-5) / 1e-5)
"""cv.glmnet takes no predicted probability for nearer to 0 or 1 than 1e-5."""


class Rows(NamedTuple):
    """Some persons: standardised columns, shape (n, p), and outcomes, shape (n,)."""

    x: Floats
    y: Floats


def contribute(table: Table, at: Fit, net: Net, limits: Disclosure) -> Contribution:
    """One site's sums of a phase; zeros below the site's own floor."""
    layout = net.layout(at.phase, len(at.lambdas), int(at.left.sum()))
    out: dict[str, Array] = {
        name: np.zeros(spec.shape, dtype=np.int64 if spec.kind == "count" else np.float64)
        for name, spec in layout.items()
    }
    parsed = net.model.parsed
    table = table.select(tuple(sorted(parsed.variables)))
    if at.phase in {"counts", "counts+moments", "moments"}:
        out |= contribute_first(table, at.base.but(phase=at.phase), net.model, limits)
        if "folds" not in out:
            return out
    rows = complete(table, parsed)
    persons = int(np.count_nonzero(rows))
    if persons < (limits.min_cell if limits.floor == "site" else 1):
        return out
    codes = np.zeros(persons, dtype=np.int64)
    if net.params.folds:
        codes = folds_of(rows, net.parts, net.params.seed, limits.min_cell, net.site)
    if "folds" in out:
        out["folds"][0] = np.bincount(codes, minlength=net.parts)
        out["folds"][1] = out["folds"][0] > 0
        return out
    for part, block in _blocks(table, np.flatnonzero(rows), codes, net.parts):
        x, _ = design(block, parsed)
        x -= at.base.centre
        y = values_of(parsed.response, block) - at.base.offset
        if at.phase != "gram":
            x /= at.base.spread
        _PHASES[at.phase](out, part, Rows(x, y), at, net)
        if "hessian" in out:
            _curve(out, part, x, at, net)
    return out


def _blocks(
    table: Table, rows: npt.NDArray[np.integer], codes: npt.NDArray[np.int64], parts: int
) -> Iterator[tuple[int, Table]]:
    """Some persons of one fold at a time."""
    order = rows[np.argsort(codes, kind="stable")]
    columns = {name: column[order] for name, column in table.columns.items()}
    edges = np.cumsum([0, *np.bincount(codes, minlength=parts).tolist()]).tolist()
    for part in range(parts):
        for begin in range(edges[part], edges[part + 1], _ROWS):
            chosen = slice(begin, min(begin + _ROWS, edges[part + 1]))
            yield part, Table(table.variables, {name: c[chosen] for name, c in columns.items()})


def _gram(out: dict[str, Array], part: int, here: Rows, at: Fit, net: Net) -> None:
    x, y = here
    if not net.gaussian:
        y = y - net.model.family.mean(np.array([at.base.null_eta]))
    out["gram"][part] += pack(_products(x, x))
    out["gradient"][part] += x.T @ y
    if "outcome_squares" in out:
        out["outcome_squares"][part] += y @ y


def _path(out: dict[str, Array], part: int, here: Rows, at: Fit, net: Net) -> None:  # noqa: ARG001
    out["gradient"] += _slopes(here, at.path, net)
    deviance = _deviances(here, at.path, net)
    null = net.model.family.deviance(here.y, np.full_like(here.y, at.base.null_eta))
    out["deviance"] += np.append(deviance, null)


def _split(out: dict[str, Array], part: int, here: Rows, at: Fit, net: Net) -> None:
    out["gradient"][part] += _slopes(here, at.path, net)


def _folds(out: dict[str, Array], part: int, here: Rows, at: Fit, net: Net) -> None:
    """To the models of which this fold is no part, a person adds nothing."""
    models = np.argwhere(at.left > 0)
    chosen = np.flatnonzero(models[:, 0] != part)
    beta = at.folds[models[chosen, 0], models[chosen, 1]]
    out["gradient"][chosen] += _slopes(here, beta, net)


def _error(out: dict[str, Array], part: int, here: Rows, at: Fit, net: Net) -> None:
    furthest = _CERTAIN if net.params.family == "binomial" else np.inf
    out["deviance"][part] += _deviances(here, at.folds[part], net, furthest)


_PHASES: Final = {
    "gram": _gram,
    "path": _path,
    "split": _split,
    "folds": _folds,
    "error": _error,
}


def _some(models: int, x: Floats) -> Iterator[slice]:
    """So many models at a time that the products of matrices stay in a cache and in a thread."""
    size = max(1, _PRODUCTS // x.size)
    for begin in range(0, models, size):
        yield slice(begin, begin + size)


def _products(first: Floats, second: Floats) -> Floats:
    """``first' second``, a few rows at a time."""
    return np.concatenate([first[:, some].T @ second for some in _some(first.shape[1], second)])


def _slopes(here: Rows, beta: Floats, net: Net) -> Floats:
    """The slopes of the log-likelihood of some models, shape (n_models, p)."""
    x, y = here
    out = np.empty_like(beta)
    for some in _some(len(beta), x):
        out[some] = _residual(beta[some] @ x.T, y, net) @ x
    return out


def _deviances(here: Rows, beta: Floats, net: Net, furthest: float = np.inf) -> Floats:
    """The deviances of some models, shape (n_models,); as `Family.deviance`, for many at once."""
    x, y = here
    out = np.empty(len(beta))
    sign = np.where(y > 0, -1.0, 1.0)
    for some in _some(len(beta), x):
        eta = np.clip(beta[some] @ x.T, -furthest, furthest)
        if net.params.family == "poisson":
            np.minimum(eta, _FAR, out=eta)
            out[some] = 2.0 * (np.exp(eta).sum(axis=1) - eta @ y)
        else:
            eta *= sign
            out[some] = 2.0 * np.log1p(np.exp(np.minimum(eta, _FURTHER, out=eta))).sum(axis=1)
    if net.params.family == "poisson":
        out += 2.0 * float((y * np.log(np.where(y > 0, y, 1.0)) - y).sum())
    return out


def _curve(out: dict[str, Array], part: int, x: Floats, at: Fit, net: Net) -> None:
    """The weighted sums of products at the anchors."""
    beta = at.path[net.anchors(at.phase, len(at.lambdas))]
    weight = net.model.family.weight(beta @ x.T)
    if net.triangle <= _PAIRS:
        first, second = np.triu_indices(net.columns)
        pairs = x[:, first] * x[:, second]
        sums = np.concatenate([weight[some] @ pairs for some in _some(len(beta), pairs)])
    else:
        sums = np.array([pack(_products(x * one[:, None], x)) for one in weight])
    if at.phase == "path":
        out["hessian"] += sums
    else:
        out["hessian"][:, part if net.by_fold else 0] += sums


def _residual(eta: Floats, y: Floats, net: Net) -> Floats:
    """Outcomes less means, shape of `eta`, which is used up."""
    if net.params.family == "poisson":
        np.minimum(eta, _FAR, out=eta)
        np.exp(eta, out=eta)
    else:
        np.negative(eta, out=eta)
        np.minimum(eta, _FURTHER, out=eta)
        np.exp(eta, out=eta)
        eta += 1.0
        np.reciprocal(eta, out=eta)
    return np.subtract(y, eta, out=eta)
