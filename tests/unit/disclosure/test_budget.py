"""The cost of a sum with discrete Gaussian noise: Kairouz, Liu, Steinke, ICML 2021."""

from __future__ import annotations

import math
import subprocess
import sys
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortium.disclosure import budget
from cohortium.disclosure.budget import Part
from cohortium.errors import InputError

COUNTS = [Part(1, 1.0, False)]
REACH = 120
Reals = npt.NDArray[np.longdouble]  # its range, not its precision, is what the tails need


def sum_of_shares(sigma: float, shares: int) -> Reals:
    """The exact probabilities of a sum of discrete Gaussians at -REACH * shares, ..."""
    x = np.arange(-REACH, REACH + 1, dtype=np.longdouble)
    one = np.exp(-(x**2) / (2 * sigma**2))
    one /= one.sum()
    total: Reals = one
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    return total


def renyi(p: Reals, shift: int, order: float) -> float:
    """Of order `order` between `p` and `p` shifted, over where neither underflows."""
    moved = np.roll(p, shift)
    seen = (p > 0) & (moved > 0)
    log_sum = np.log(p[seen]) * order + np.log(moved[seen]) * (1 - order)
    top = log_sum.max()
    return float((top + np.log(np.exp(log_sum - top).sum())) / (order - 1))


def test_tau_is_the_papers_sum() -> None:
    sigma = 0.7
    by_hand = 10 * (math.exp(-2 * math.pi**2 * 0.49 / 2) + math.exp(-2 * math.pi**2 * 0.49 * 2 / 3))
    assert budget.tau(sigma, 3) == pytest.approx(by_hand, rel=1e-12)
    assert budget.tau(sigma, 1) == 0.0
    assert budget.tau(20.0, 1000) == 0.0


@pytest.mark.parametrize("sigma", [0.5, 0.6, 0.8, 1.0])
@pytest.mark.parametrize("shares", [2, 3, 6])
def test_tau_bounds_how_far_the_sum_is_from_a_discrete_gaussian(sigma: float, shares: int) -> None:
    p = sum_of_shares(sigma, shares)
    x = np.arange(len(p), dtype=np.longdouble) - len(p) // 2
    whole = np.exp(-(x**2) / (2 * shares * sigma**2))
    whole /= whole.sum()
    near = np.abs(x) <= 8
    furthest = np.abs(np.log(p[near] / whole[near])).max()
    assert 0 < furthest <= budget.tau(sigma, shares)


@pytest.mark.parametrize(("sigma", "shares"), [(0.5, 2), (0.5, 5), (0.7, 3), (1.0, 4), (2.0, 2)])
@pytest.mark.parametrize("shifts", [(1,), (2,), (1, 0, 0), (1, 2, 1)])
def test_the_cost_bounds_the_true_divergence_of_every_order(
    sigma: float, shares: int, shifts: tuple[int, ...]
) -> None:
    p = sum_of_shares(sigma, shares)
    clip = math.sqrt(sum(shift**2 for shift in shifts))
    rho = budget.zcdp(clip, [Part(len(shifts), 1.0, False)], sigma, shares)
    for order in (1.001, 1.5, 2.0, 4.0, 16.0):
        true = sum(renyi(p, shift, order) for shift in shifts if shift)
        assert true <= rho * order * (1 + 1e-9)


def test_components_of_different_scales_are_bounded_together() -> None:
    """Counts beside a field of scale 3, so that its noise is three times as wide in integers."""
    coarse, fine, shares = 0.5, 1.5, 3
    p, q = sum_of_shares(coarse, shares), sum_of_shares(fine, shares)
    parts = [Part(2, 1.0, False), Part(4, 3.0, False)]
    rho = budget.zcdp(math.sqrt(1 + 1 + 4 / 9), parts, coarse, shares)
    assert rho < budget.zcdp(math.sqrt(1 + 1 + 4 / 9), [Part(6, 1.0, False)], coarse, shares)
    for order in (1.001, 2.0, 8.0):
        assert 2 * renyi(p, 1, order) + renyi(q, 2, order) <= rho * order


def test_one_share_costs_what_the_discrete_gaussian_costs() -> None:
    assert budget.zcdp(3.0, COUNTS, 6.0, 1) == pytest.approx(0.5 * (3 / 6) ** 2)


def test_with_a_fine_scale_a_sum_costs_what_the_gaussian_costs() -> None:
    parts = [Part(10**6, 2.0**24, True)]
    rho = budget.zcdp(1.0, parts, 1.5, 4)
    gaussian = 0.5 * (1.0 / 3.0) ** 2
    assert gaussian < rho < gaussian * 1.001


@given(
    st.lists(st.floats(-8, 8), min_size=1, max_size=40),
    st.lists(st.floats(-8, 8), min_size=40, max_size=40),
    st.integers(0, 12),
    st.integers(0, 2**32 - 1),
)
def test_rounding_moves_two_contributions_apart_by_no_more_than_is_reckoned(
    first: list[float], second: list[float], bits: int, seed: int
) -> None:
    x, y = np.array(first), np.array(second[: len(first)])
    dither = np.random.default_rng(seed).random(len(x))  # the same for both: it knows no data
    scale = 2.0**bits
    apart = np.floor(x * scale + dither) - np.floor(y * scale + dither)
    allowed = budget.sensitivity(float(np.linalg.norm(x - y)), [Part(len(x), scale, True)])
    assert np.linalg.norm(apart) / scale <= allowed * (1 + 1e-12)


def test_only_rounded_parts_add_to_the_sensitivity() -> None:
    assert budget.sensitivity(2.0, [Part(100, 1.0, False), Part(9, 1.0, True)]) == 5.0
    assert budget.sensitivity(2.0, [Part(16, 4.0, True), Part(48, 4.0, True)]) == 4.0


@given(
    st.floats(0.1, 100),
    st.floats(0.01, 100),
    st.integers(1, 10**6),
    st.integers(0, 24),
    st.integers(1, 50),
)
def test_the_share_of_a_site_is_the_least_that_keeps_the_cost(
    multiplier: float, clip: float, size: int, bits: int, shares: int
) -> None:
    parts = [Part(size, 2.0**bits, True), Part(3, 1.0, False)]
    sigma = budget.share_sigma(multiplier, clip, parts, shares)
    target = 0.5 / multiplier**2
    assert budget.zcdp(clip, parts, sigma, shares) <= target
    less = sigma * (1 - 2e-6)
    assert less < budget.LEAST_SIGMA or budget.zcdp(clip, parts, less, shares) > target


def test_a_share_falls_with_the_root_of_the_number_of_shares() -> None:
    parts = [Part(1000, 2.0**20, True)]
    one, four, hundred = (budget.share_sigma(3.0, 1.0, parts, n) for n in (1, 4, 100))
    assert one == pytest.approx(2 * four, rel=1e-5)
    assert one == pytest.approx(10 * hundred, rel=1e-5)


def test_a_share_of_too_little_noise_is_a_programming_error() -> None:
    with pytest.raises(RuntimeError, match="at least"):
        budget.tau(0.49, 3)
    with pytest.raises(RuntimeError, match="at least"):
        budget.tau(math.nan, 3)


@pytest.mark.parametrize(
    ("epsilon", "delta", "sums"), [(8.0, 1e-5, 50), (1.0, 1e-6, 1), (0.05, 1e-8, 3), (30, 0.01, 7)]
)
def test_a_multiplier_pays_for_the_planned_sums_and_for_no_more(
    epsilon: float, delta: float, sums: int
) -> None:
    multiplier = budget.noise_multiplier(epsilon, delta, sums)
    assert budget.epsilon(multiplier, sums, delta) <= epsilon
    assert budget.epsilon(multiplier, sums + 1, delta) > epsilon
    assert budget.epsilon(multiplier * (1 - 1e-4), sums, delta) > epsilon
    assert multiplier == float(f"{multiplier:.6g}")


def test_the_accountant_adds_sums_up() -> None:
    spent = [budget.epsilon(10.0, sums, 1e-6) for sums in range(6)]
    assert spent[0] == 0.0
    assert all(less < more for less, more in pairwise(spent))
    # Four sums cost what one costs with half the noise.
    assert spent[4] == pytest.approx(budget.epsilon(5.0, 1, 1e-6), rel=1e-12)


@pytest.mark.parametrize(("multiplier", "sums"), [(1.0, 1), (5.0, 50), (30.0, 10)])
def test_the_epsilon_is_that_of_the_librarys_gaussian_mechanism(
    multiplier: float, sums: int
) -> None:
    import dp_accounting
    from dp_accounting import pld, rdp

    gaussian = dp_accounting.GaussianDpEvent(multiplier)
    renyi_accountant = rdp.RdpAccountant(budget._ORDERS).compose(gaussian, sums)
    found = budget.epsilon(multiplier, sums, 1e-6)
    assert found == pytest.approx(renyi_accountant.get_epsilon(1e-6), rel=1e-9)
    # The exact value of the continuous mechanism: below ours, and not far.
    exact = pld.PLDAccountant(value_discretization_interval=1e-3).compose(gaussian, sums)
    assert 0.85 * found < exact.get_epsilon(1e-6) <= found


def test_an_epsilon_that_no_noise_reaches_is_refused() -> None:
    with pytest.raises(InputError) as error:
        budget.noise_multiplier(1e-9, 1e-12, 1)
    assert error.value.code == "bad-input"


def test_without_the_extra_the_accountant_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    monkeypatch.setitem(sys.modules, "dp_accounting.rdp", None)
    with pytest.raises(InputError) as error:
        budget.epsilon(1.0, 1, 1e-6)
    assert error.value.code == "missing-extra"


def test_the_accountant_leaves_the_streams_of_the_process_alone() -> None:
    program = """
import io, logging.config, sys
process, sys.stderr = sys.stderr, io.StringIO()
seen = sys.stderr
from cohortium.disclosure.budget import require_accountant
require_accountant()
sys.stderr = process
logging.config.dictConfig({"version": 1})
sys.exit(seen.closed or process.closed)
"""
    done = subprocess.run([sys.executable, "-c", program], check=False, timeout=60)
    assert done.returncode == 0
