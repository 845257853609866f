"""Principal components: the methods of a study."""

from __future__ import annotations

from collections.abc import Sequence

from cohortium.sdk.pca_results import PcaResult
from cohortium.sdk.submission import Submits, as_type, listed


class PcaMethods(Submits):
    """Principal components."""

    def pca(
        self, variables: Sequence[str], *, scale: bool = True, components: int | None = None
    ) -> PcaResult:
        """Principal components of the pooled persons with a value of every variable.

        Args:
            variables: Two numbers or more.
            scale: Components of the correlation matrix; else of the covariance matrix, in which
                the variable with the largest variance weighs most.
            components: How many, the largest first; all by default.

        Raises:
            InputError: What is named does not fit together; a variable is constant.
            PolicyRefusal: The contract, a site or the disclosure limits say no.
        """
        params = {
            "variables": listed(variables),
            "scale": bool(scale),
            "components": components,
        }
        return as_type(PcaResult, self.submit("stats.pca", params).result())
