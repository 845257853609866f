"""Brant's test of proportional odds, from sums: logit models of each cut of the levels.

Cut j tells levels above the j-th from the others. Its model has slopes of its own; under
proportional odds all cuts have the same. The covariance of the slopes of two cuts comes from
``X' W X`` with the weights ``P(above l) - P(above j) P(above l)`` for the higher cut l.

Reference: Brant 1990, Biometrics 46, 1171-1178.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from cohortium.analysis.category_model import Model
from cohortium.analysis.interface import FieldSpec
from cohortium.analysis.least_squares import inverse, pack, solve, unpack
from cohortium.core.rounds import Contribution, Layout

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Pairs = dict[tuple[int, int], Floats]


def layout(model: Model) -> Layout:
    """Of a round that fits the cuts."""
    size, cuts = model.p + 1, model.k - 1
    pairs = cuts * (cuts + 1) // 2
    return {
        "loglik": FieldSpec((1,), "real"),
        "score": FieldSpec((cuts * size,), "real"),
        "information": FieldSpec((pairs, size * (size + 1) // 2), "real"),
    }


def begin(fitted: Floats, model: Model) -> Floats:
    """Where the cuts' coefficients start, cut by cut: at those of all together."""
    cuts = model.k - 1
    slopes = np.tile(fitted[cuts:], (cuts, 1))
    return np.column_stack([-fitted[:cuts], slopes]).ravel()


def add(out: Contribution, x: Floats, y: Ints, beta: Floats, model: Model) -> None:
    """Add the sums over some persons; see `CategoryAnalysis.add`."""
    cuts = model.k - 1
    x = np.column_stack([np.ones(len(x)), x])
    eta = x @ beta.reshape(cuts, -1).T
    above = (y[:, None] > np.arange(cuts)).astype(np.float64)
    small = np.exp(-np.abs(eta))
    share = np.where(eta >= 0, 1.0, small) / (1.0 + small)
    wrong = np.where(above > 0, -eta, eta)
    out["loglik"] -= float((np.maximum(wrong, 0.0) + np.log1p(small)).sum())
    out["score"] += (x.T @ (above - share)).T.ravel()
    for at, (low, high) in enumerate(_pairs(cuts)):
        rest = 1 - share[:, low] if low < high else small[:, low] / (1.0 + small[:, low])
        other = share[:, high] if low < high else 1.0 / (1.0 + small[:, low])
        out["information"][at] += pack((x * (rest * other)[:, None]).T @ x)


def unpack_pairs(packed: Floats, model: Model) -> Pairs:
    """The joint information of each two cuts."""
    pairs = _pairs(model.k - 1)
    return {pair: unpack(row, model.p + 1) for pair, row in zip(pairs, packed, strict=True)}


def block_diagonal(together: Pairs, model: Model) -> Floats:
    """Of all cuts' models, which are fitted each for itself."""
    size, cuts = model.p + 1, model.k - 1
    out = np.zeros((cuts * size, cuts * size))
    for cut in range(cuts):
        block = slice(cut * size, (cut + 1) * size)
        out[block, block] = together[cut, cut]
    return out


def test(beta: Floats, together: Pairs, model: Model) -> list[dict[str, Any]] | None:
    """Chi-square tests of equal slopes: of all columns, then of each; None where they have none."""
    from scipy import special

    cuts, p = model.k - 1, model.p
    slopes = beta.reshape(cuts, p + 1)[:, 1:]
    cov = np.zeros((cuts, p, cuts, p))
    try:
        own = [inverse(together[cut, cut]) for cut in range(cuts)]
        for low, high in _pairs(cuts):
            joint = (own[low] @ together[low, high] @ own[high])[1:, 1:]
            cov[low, :, high, :] = joint
            cov[high, :, low, :] = joint.T
        found = []
        for name, columns in [
            ("all", list(range(p))),
            *((name, [j]) for j, name in enumerate(model.parsed.names)),
        ]:
            of = slopes[:, columns]
            apart = (of[0] - of[1:]).ravel()
            within = cov[:, columns][:, :, :, columns]
            differ = (
                within[:1, :, :1] - within[:1, :, 1:] - within[1:, :, :1] + within[1:, :, 1:]
            ).reshape(len(apart), len(apart))
            statistic = float(apart @ solve(differ, apart))
            df = len(apart)
            p_value = float(special.chdtrc(df, statistic))
            found.append({"name": name, "statistic": statistic, "df": df, "p_value": p_value})
    except np.linalg.LinAlgError:
        return None
    return found


def _pairs(cuts: int) -> list[tuple[int, int]]:
    return list(itertools.combinations_with_replacement(range(cuts), 2))
