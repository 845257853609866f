"""Rubin's rules to the digits that R and SAS print."""

from __future__ import annotations

import numpy as np
import pytest

from cohortium.analysis.rubin import barnard_rubin, pool

MICE_50 = [
    # What R's mice prints of pool(with(imp, lm(Ozone ~ Solar.R + Wind + Temp))), m = 50, of R's
    # airquality (public course notes): ubar, b, t, df, riv, lambda, fmi
    (3.811506e02, 1.307680e02, 5.145339e02, 94.76599, 0.3499492, 0.2592314, 0.2743853),
    (4.108874e-04, 1.037848e-04, 5.167480e-04, 106.27508, 0.2576387, 0.2048591, 0.2194121),
    (3.146474e-01, 1.181007e-01, 4.351101e-01, 91.16698, 0.3828499, 0.2768557, 0.2922145),
    (4.685921e-02, 1.183499e-02, 5.893090e-02, 106.27817, 0.2576162, 0.2048448, 0.2193977),
]
MICE_5 = [
    # The same of lm(Temp ~ Ozone + Solar.R + Wind), m = 5.
    (6.595501e00, 0.5750036463, 7.285505e00, 101.97555, 0.1046174, 0.0947092, 0.1119569),
    (4.935193e-04, 0.0001610921, 6.868298e-04, 34.09063, 0.3916979, 0.2814533, 0.3201987),
    (4.324896e-05, 0.0000122131, 5.790469e-05, 39.70957, 0.3388688, 0.2531008, 0.2880765),
    (3.904917e-02, 0.0045108400, 4.446218e-02, 86.94099, 0.1386203, 0.1217441, 0.1412737),
]


@pytest.mark.parametrize(("rows", "m", "df_complete"), [(MICE_50, 50, 149), (MICE_5, 5, 148)])
def test_pooling_is_that_of_r(rows: list[tuple[float, ...]], m: int, df_complete: int) -> None:
    within, between, total, df, riv, share, fmi = np.array(rows).T
    steps = np.arange(m) - (m - 1) / 2
    steps /= np.sqrt(np.square(steps).sum() / (m - 1))
    estimates = 3.0 + steps[:, None] * np.sqrt(between)
    covariances = np.stack([np.diag(within)] * m)
    found = pool(estimates, covariances, df_complete)
    assert found.estimate == pytest.approx(3.0)
    assert found.between == pytest.approx(between, rel=1e-9)
    assert np.diag(found.cov) == pytest.approx(total, rel=1e-6)
    assert found.df == pytest.approx(df, rel=2e-6)
    assert found.riv == pytest.approx(riv, rel=2e-6)
    assert found.share == pytest.approx(share, rel=2e-6)
    assert found.fmi == pytest.approx(fmi, rel=2e-6)


def test_degrees_of_freedom_of_large_samples_are_rubins() -> None:
    """SAS/STAT User's Guide, The MIANALYZE Procedure: of m = 5 and r = 10% they are 484."""
    share = np.array([0.1 / 1.1])
    assert barnard_rubin(share, 5, float("inf")) == pytest.approx([484.0])
    assert barnard_rubin(share, 5, 100) < 100


def test_where_nothing_is_lost_nothing_is_added() -> None:
    found = pool(np.full((4, 1), 2.0), np.full((4, 1, 1), 0.25), 100)
    assert found.cov[0, 0] == 0.25
    assert found.fmi[0] < 0.03
    assert found.df[0] == pytest.approx(101 / 103 * 100)
