"""The released form of a two-stage meta-analysis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from cohortium.analysis.interface import Scope
from cohortium.analysis.least_squares import inverse, unpack
from cohortium.analysis.pooling import pool
from cohortium.core.rounds import Total
from cohortium.errors import ProtocolError

if TYPE_CHECKING:
    from cohortium.analysis.two_stage import TwoStageParams

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

MISSING: Final = 0
TOLD: Final = 1
WITHHELD: Final = 2
_SAID: Final = {MISSING: "missing", TOLD: "estimated", WITHHELD: "withheld"}


@dataclass(frozen=True)
class Found:
    """What the institutions sent; S of them, p coefficients.

    Attributes:
        status: (S,); 0 of one that was not there.
        persons, events: (S,).
        beta: (S, p).
        cov: (S, p, p).
    """

    status: Ints
    persons: Ints
    events: Ints
    left_out: int
    beta: Floats
    cov: Floats

    @staticmethod
    def of(total: Total, p: int) -> Found:
        """From the sum.

        Raises:
            ProtocolError: ``malformed-message`` where a site sent no estimate.
        """
        status, persons, events = (
            np.asarray(total[name], dtype=np.int64) for name in ("status", "persons", "events")
        )
        found = Found(
            status,
            persons,
            events,
            int(np.asarray(total["left_out"])[0]),
            np.asarray(total["estimates"], dtype=np.float64),
            np.stack([unpack(one, p) for one in np.asarray(total["covariances"])]),
        )
        variances = np.diagonal(found.cov[found.told], axis1=1, axis2=2)
        if not set(found.status.tolist()) <= set(_SAID) or not np.all(variances > 0):
            raise ProtocolError("malformed-message", "An institution's estimate is none.")
        return found

    @property
    def told(self) -> npt.NDArray[np.bool_]:
        """Which institutions told of their own."""
        return np.asarray(self.status == TOLD)


def assemble(
    found: Found,
    names: Sequence[str],
    about: Mapping[str, Any],
    params: TwoStageParams,
    scope: Scope,
) -> dict[str, Any]:
    """Each institution's estimates, and each coefficient combined."""
    told = np.flatnonzero(found.told).tolist()
    beta, cov = found.beta[told], found.cov[told]
    options: dict[str, Any] = {
        "method": params.method,
        "confidence": params.confidence,
        "hartung_knapp": params.hartung_knapp,
        "prediction": params.prediction,
    }
    variances = np.diagonal(cov, axis1=1, axis2=2)
    institutions = []
    for at, site in enumerate(scope.sites):
        one: dict[str, Any] = {"site": site, "status": _SAID[int(found.status[at])]}
        if found.told[at]:
            errors = np.sqrt(np.diag(found.cov[at]))
            one |= {"n": int(found.persons[at]), "n_events": int(found.events[at])}
            one |= {"params": found.beta[at].tolist(), "bse": errors.tolist()}
            one["cov"] = found.cov[at].tolist()
        institutions.append(one)
    return {
        **about,
        **options,
        "terms": list(names),
        "pooled": [
            pool(beta[:, j], variances[:, j], **options).to_json() for j in range(len(names))
        ],
        "joint": _joint(beta, cov),
        "institutions": institutions,
        "n": int(found.persons.sum()),
        "n_events": int(found.events.sum()),
        "n_missing": found.left_out,
        "n_sites": scope.n_sites,
        "n_sites_contributing": len(told),
        "suppressed": [
            f"{one['site']}: its own estimate"
            for one in institutions
            if one["status"] == _SAID[WITHHELD]
        ],
    }


def _joint(beta: Floats, cov: Floats) -> dict[str, Any] | None:
    """All coefficients together with a fixed effect, weighted by the inverse covariances; None
    where one has none.

    Reference: Becker & Wu 2007, Statist. Sci. 22:414.
    """
    from scipy.special import chdtrc

    try:
        weights = np.stack([inverse(one) for one in cov])
        whole = inverse(weights.sum(axis=0))
    except np.linalg.LinAlgError:
        return None
    mean = whole @ np.einsum("kij,kj->i", weights, beta)
    rest = beta - mean
    q = float(np.einsum("ki,kij,kj->", rest, weights, rest))
    df = rest.size - rest.shape[1]
    p_value = float(chdtrc(df, q))
    return {
        "params": mean.tolist(),
        "bse": np.sqrt(np.diag(whole)).tolist(),
        "cov": whole.tolist(),
        "q": q,
        "q_df": df,
        "q_p_value": p_value if math.isfinite(p_value) else None,
    }
