"""`stats.pca`: principal components over sites, from the joint correlations or covariances."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from pydantic import Field

from cohortium.analysis.correlation import Correlation, CorrelationParams
from cohortium.analysis.interface import Continue, Done, DropOuts, Params, Scope, VariableNames
from cohortium.core.rounds import Contribution, Layout, State, Total
from cohortium.core.table import Table
from cohortium.errors import InputError, PolicyRefusal

Floats = npt.NDArray[np.float64]

_AS_LARGE: Final = 1e-9
"""Share by which coefficients may differ and count as equally large, when a sign is chosen."""


class PcaParams(Params):
    """Of what the components are.

    Attributes:
        variables: Two or more numbers (a boolean counts as 0 and 1).
        scale: Whether each variable counts with unit variance: components of the correlation
            matrix; else of the covariance matrix.
        components: How many are released, the largest first; absent: all.
    """

    variables: VariableNames
    scale: bool = True
    components: Annotated[int, Field(ge=1, le=500)] | None = None


class Pca:
    """Principal components of the pooled persons with a value of every variable.

    Eigenvalues and eigenvectors of the correlation matrix (``scale``), or of the covariance matrix
    with divisor n - 1, as `stats.correlation` releases them: a component is a weighted sum of the
    centred variables, uncorrelated with those before it, and of the largest variance. The sign is
    such that the largest weight is positive (the first of equally large ones). Where two
    eigenvalues are equal their components are not determined. Assumes nothing of distributions; is
    about linear relations, and without ``scale`` depends on the units.

    Leaves the site: what leaves it for `stats.correlation` of complete persons: counts; sums of
    each variable and of its squares; then sums of standardised distances, of their squares and
    products, and third and fourth powers. No person's scores are computed anywhere.

    Refuses: as `stats.correlation`; and PolicyRefusal ``too-few-persons`` where that would withhold
    the correlation of any two of the variables, because the components give it away. InputError
    ``no-convergence`` for a variable that is constant; ``bad-input`` for more components than
    variables.

    Reference: Jolliffe 2002, Principal Component Analysis, ch. 2-3.
    """

    name: ClassVar[str] = "stats.pca"
    version: ClassVar[int] = 1
    drop_outs: ClassVar[DropOuts] = "wait"
    max_rounds: ClassVar[int] = Correlation.max_rounds
    params_type = PcaParams

    _joint: ClassVar[Correlation] = Correlation()

    def variables(self, params: PcaParams) -> frozenset[str]:
        """The variables."""
        return frozenset(params.variables)

    def start(self, params: PcaParams, scope: Scope) -> State:
        """As the correlations."""
        if params.components is not None and params.components > len(params.variables):
            raise InputError(
                "bad-input",
                f"{len(params.variables)} variables have that many components at most.",
            )
        return self._joint.start(_correlated(params), scope)

    def layout(self, state: State, params: PcaParams, scope: Scope) -> Layout:
        """As the correlations."""
        return self._joint.layout(state, _correlated(params), scope)

    def local(self, table: Table, state: State, params: PcaParams, scope: Scope) -> Contribution:
        """As the correlations."""
        return self._joint.local(table, state, _correlated(params), scope)

    def column(self, field: str, index: int, params: PcaParams, scope: Scope) -> str:
        """The variable, or the pair, of a component of the contribution."""
        return self._joint.column(field, index, _correlated(params), scope)

    def finish(
        self, total: Total, state: State, params: PcaParams, scope: Scope
    ) -> Continue | Done:
        """Decompose what the correlations release."""
        joint = self._joint.finish(total, state, _correlated(params), scope)
        if isinstance(joint, Continue):
            return joint
        return Done(_decompose(joint.result, params))


def _correlated(params: PcaParams) -> CorrelationParams:
    return CorrelationParams(variables=params.variables)


def _decompose(joint: Any, params: PcaParams) -> dict[str, Any]:
    if joint["suppressed"]:
        raise PolicyRefusal(
            "too-few-persons",
            f"The components would give away what is withheld: {joint['suppressed'][0]}. "
            "Leave a variable out.",
        )
    r = np.array(joint["correlation"], dtype=np.float64)
    constant = [
        name for name, one in zip(params.variables, np.diag(r), strict=True) if np.isnan(one)
    ]
    if constant:
        raise InputError(
            "no-convergence",
            f"{', '.join(constant[:5])}: all values are equal. Leave it out.",
            terms=constant[:50],
        )
    covariance = np.array(joint["covariance"], dtype=np.float64)
    sd = np.sqrt(np.diag(covariance))
    eigenvalues, vectors = components(r if params.scale else covariance)
    share = eigenvalues / eigenvalues.sum()
    k = params.components or len(r)
    loadings = vectors * np.sqrt(eigenvalues)
    if not params.scale:
        loadings = loadings / sd[:, None]
    return {
        "title": "Principal components",
        "matrix": "correlation" if params.scale else "covariance",
        "variables": list(params.variables),
        "sd": sd.tolist(),
        "eigenvalues": eigenvalues[:k].tolist(),
        "share": share[:k].tolist(),
        "cumulative": np.minimum(np.cumsum(share), 1.0)[:k].tolist(),
        "weights": vectors[:, :k].T.tolist(),
        "loadings": loadings[:, :k].T.tolist(),
        "total_variance": float(eigenvalues.sum()),
        "n": joint["n"],
        "n_missing": joint["n_missing"],
        "n_sites": joint["n_sites"],
        "suppressed": [],
    }


def components(matrix: Floats) -> tuple[Floats, Floats]:
    """Eigenvalues from the largest, shape (V,), and eigenvectors as columns, shape (V, V).

    The largest entry of each vector, the first of equally large ones, is positive.
    """
    # On one scale, so that small variables keep their digits.
    size = float(np.abs(np.diag(matrix)).max())
    values, vectors = np.linalg.eigh(matrix / size)
    values, vectors = np.maximum(values[::-1], 0.0) * size, vectors[:, ::-1]
    absolute = np.abs(vectors)
    large = absolute >= absolute.max(axis=0) * (1 - _AS_LARGE)
    leading = vectors[np.argmax(large, axis=0), np.arange(len(values))]
    return values, vectors * np.where(leading < 0, -1.0, 1.0)
