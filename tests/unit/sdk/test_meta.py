"""Meta-analyses equal metafor's and those of statsmodels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.meta_analysis import combine_effects

import cohortium as co
from cohortium.errors import InputError

# Colditz et al. 1994, as metafor's dat.bcg: tuberculosis and none, vaccinated and not.
BCG = """
4 119 11 128, 6 300 29 274, 3 228 11 209, 62 13536 248 12619, 33 5036 47 5761, 180 1361 372 1079,
8 2537 10 619, 505 87886 499 87892, 29 7470 45 7232, 17 1699 65 1600, 186 50448 141 27197,
5 2493 3 2338, 27 16886 29 17825
"""


def bcg() -> tuple[list[float], list[float]]:
    """Log risk ratios with their standard errors."""
    effects, errors = [], []
    for line in BCG.replace("\n", " ").split(","):
        a, b, c, d = map(int, line.split())
        effects.append(math.log(a / (a + b) / (c / (c + d))))
        errors.append(math.sqrt(1 / a - 1 / (a + b) + 1 / c - 1 / (c + d)))
    return effects, errors


def test_reml_equals_metafor() -> None:
    # rma(yi, vi, data = escalc("RR", ..., data = dat.bcg)): printed with the package
    found = co.meta_analysis(*bcg(), ratio=True)
    assert round(found.tau2, 4) == 0.3132
    assert round(found.tau2_se, 4) == 0.1664
    assert round(100 * found.i2, 2) == 92.22
    assert round(found.h2, 2) == 12.86
    assert (round(found.q, 4), found.q_df) == (152.2330, 12)
    assert found.q_p_value < 1e-4
    one = found.random
    assert [round(x, 4) for x in (one.estimate, one.standard_error)] == [-0.7145, 0.1798]
    assert [round(x, 4) for x in (one.statistic, one.low, one.high)] == [-3.9744, -1.0669, -0.3622]


def test_predictions_equal_metafor() -> None:
    # What predict() prints for that model, as a ratio
    found = co.meta_analysis(*bcg(), prediction="normal", ratio=True)
    assert found.prediction is not None
    assert [round(math.exp(end), 4) for end in found.prediction] == [0.1546, 1.5490]
    by_t = co.meta_analysis(*bcg()).prediction
    assert by_t is not None
    assert by_t[0] < found.prediction[0] < found.prediction[1] < by_t[1]


def test_dersimonian_laird_and_fixed_equal_metafor() -> None:
    # What rma() prints for the methods DL and EE, and for the test knha
    found = co.meta_analysis(*bcg(), method="DL")
    assert [round(x, 4) for x in (found.tau2, found.random.estimate)] == [0.3088, -0.7141]
    assert round(100 * found.i2, 2) == 92.12
    assert round(found.h2, 2) == 12.69
    assert round(found.random.standard_error, 4) == 0.1787
    fixed = found.fixed
    assert [round(x, 4) for x in (fixed.estimate, fixed.standard_error)] == [-0.4303, 0.0405]
    assert [round(x, 4) for x in (fixed.low, fixed.high)] == [-0.5097, -0.3509]
    knapp = co.meta_analysis(*bcg(), hartung_knapp=True).random
    assert [round(x, 4) for x in (knapp.standard_error, knapp.statistic)] == [0.1808, -3.9522]
    assert [round(x, 4) for x in (knapp.low, knapp.high)] == [-1.1084, -0.3206]


numbers = st.lists(st.tuples(st.floats(-3, 3), st.floats(0.05, 2)), min_size=2, max_size=12)


@settings(max_examples=40, deadline=None)
@given(numbers)
def test_moments_equal_statsmodels(studies: list[tuple[float, float]]) -> None:
    y, se = (np.array(one) for one in zip(*studies, strict=True))
    found = co.meta_analysis(y, se, method="DL")
    assume(found.tau2 > 0)  # statsmodels goes below 0
    expected = combine_effects(y, se**2, method_re="dl")
    frame = expected.summary_frame()
    assert found.tau2 == pytest.approx(expected.tau2, rel=1e-9, abs=1e-12)
    assert found.q == pytest.approx(expected.q, rel=1e-9, abs=1e-12)
    for name, one in (("fixed effect", found.fixed), ("random effect", found.random)):
        row = frame.loc[name]
        values = [one.estimate, one.standard_error, one.low, one.high]
        assert values == pytest.approx(row.iloc[:4].to_numpy(dtype=float), rel=1e-8, abs=1e-10)


@settings(max_examples=40, deadline=None)
@given(numbers)
def test_reml_is_the_best_of_a_fine_grid(studies: list[tuple[float, float]]) -> None:
    y, se = (np.array(one) for one in zip(*studies, strict=True))

    def likelihood(tau2: float) -> float:
        w = 1 / (se**2 + tau2)
        apart = w @ (y - w @ y / w.sum()) ** 2
        return float(np.log(w).sum() - np.log(w.sum()) - apart) / 2

    best = likelihood(co.meta_analysis(y, se).tau2)
    assert best >= max(likelihood(tau2) for tau2 in np.linspace(0, 30, 500)) - 1e-9


def test_equal_effects_have_no_heterogeneity() -> None:
    found = co.meta_analysis([0.5, 0.5, 0.5], [0.1, 0.2, 0.3])
    assert (found.tau2, found.i2) == (0.0, 0.0)
    assert found.random.estimate == pytest.approx(0.5)
    assert co.meta_analysis([0.5, 0.7], [0.1, 0.2]).prediction is None


@pytest.mark.parametrize(
    ("effects", "errors", "options"),
    [
        ([1.0], [0.1], {}),
        ([1.0, 2.0], [0.1], {}),
        ([1.0, math.nan], [0.1, 0.2], {}),
        ([1.0, 2.0], [0.1, 0.0], {}),
        ([1.0, "two"], [0.1, 0.2], {}),
        ([1e300, 2.0], [1.0, 1.0], {}),
        ([1.0, 2.0], [1.0, 1e300], {}),
        ([1.0, 2.0, 3.0], [1e-70, 1e-70, 1e-70], {}),
        ([1.0, 2.0, 3.0], [1e-9, 1.0, 1.0], {}),
        ([1.0, 2.0], [0.1, 0.2], {"method": "EB"}),
        ([1.0, 2.0], [0.1, 0.2], {"prediction": "none"}),
        ([1.0, 2.0], [0.1, 0.2], {"confidence": 95}),
        ([1.0, 2.0], [0.1, 0.2], {"names": ["a"]}),
        ([1.0, 2.0], [0.1, 0.2], {"names": ["a", "a"]}),
    ],
)
def test_what_cannot_be_is_refused(effects: Any, errors: Any, options: Any) -> None:
    with pytest.raises(InputError):
        co.meta_analysis(effects, errors, **options)


def test_a_meta_analysis_says_draws_and_writes_itself(tmp_path: Path) -> None:
    found = co.meta_analysis(*bcg(), names=[f"trial {at}" for at in range(13)], ratio=True)
    assert "mean ratio is 0.4894" in found.interpret()
    assert "13 项研究的合并比值" in found.interpret("zh")
    with pytest.raises(InputError):
        found.interpret("fr")  # type: ignore[arg-type]
    frame = found.to_frame()
    assert frame.loc["random effects", "effect"] == found.random.estimate
    assert frame["weight_random"].iloc[:13].sum() == pytest.approx(1)
    drawn = found.plot().to_json()
    assert "trial 12" in drawn
    assert "a new study" in drawn
    written = found.export(tmp_path / "bcg.csv", "zh").read_text(encoding="utf-8")
    assert "随机效应" in written
    assert found.save(tmp_path / "bcg.json").stat().st_size > 0
    assert "<pre" in found._repr_html_()
    assert "random effects" in found.summary()


@pytest.mark.parametrize("method", ["REML", "DL"])
def test_numbers_at_the_ends_of_what_is_taken_are_combined(method: Any) -> None:
    for effects, errors in (([1e15, -1e15], [1e-15, 9e-13]), ([1e-15, 0.0], [1e15, 2e12])):
        found = co.meta_analysis(effects, errors, method=method)
        assert math.isfinite(found.fixed.estimate)
        assert math.isfinite(found.tau2)
        assert found.interpret()
