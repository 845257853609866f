"""Adjusted p values equal R's p.adjust and statsmodels' multipletests."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

import cohortium as co
from cohortium.errors import InputError

P = [0.01, 0.02, 0.03, 0.04, 0.05]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        # What R 4 prints for p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), method)
        ("bonferroni", [0.05, 0.10, 0.15, 0.20, 0.25]),
        ("holm", [0.05, 0.08, 0.09, 0.09, 0.09]),
        ("BH", [0.05, 0.05, 0.05, 0.05, 0.05]),
        ("BY", [0.1141667] * 5),
    ],
)
def test_equals_p_adjust_of_r(method: str, expected: list[float]) -> None:
    assert co.adjust_p(P, method) == pytest.approx(expected, rel=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=30),
    st.sampled_from(["bonferroni", "holm", "fdr_bh", "fdr_by"]),
)
def test_equals_statsmodels(p: list[float], method: str) -> None:
    expected = multipletests(p, method=method)[1]
    assert co.adjust_p(p, method) == pytest.approx(expected, rel=1e-12, abs=1e-300)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(0, 1), max_size=20), st.randoms(use_true_random=False))
def test_order_does_not_matter_and_nothing_becomes_smaller(p: list[float], random: object) -> None:
    order = list(range(len(p)))
    random.shuffle(order)  # type: ignore[attr-defined]
    for method in ("bonferroni", "holm", "bh", "by"):
        adjusted = co.adjust_p(p, method)
        assert np.all(adjusted >= np.array(p))
        assert np.all(adjusted <= 1)
        shuffled = co.adjust_p([p[at] for at in order], method)
        assert shuffled.tolist() == adjusted[order].tolist()


def test_results_are_taken_and_what_was_withheld_is_not_counted() -> None:
    results = [SimpleNamespace(p_value=value) for value in (0.04, None, 0.01)]
    assert co.adjust_p(results).tolist() == pytest.approx([0.04, np.nan, 0.02], nan_ok=True)
    assert co.adjust_p([]).size == 0


@pytest.mark.parametrize(
    ("p", "method"),
    [([0.1], "sidak"), ([1.1], "holm"), ([-0.1], "bh"), (["0.1"], "bh"), ([{}], "bh")],
)
def test_what_is_no_p_value_or_method_is_refused(p: list[object], method: str) -> None:
    with pytest.raises(InputError):
        co.adjust_p(p, method)  # type: ignore[arg-type]
