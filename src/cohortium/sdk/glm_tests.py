"""Tests of a model's terms from what was released; nothing is asked of the sites."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from cohortium.errors import InputError
from cohortium.sdk.cox_results import CoxResult
from cohortium.sdk.glm import GlmResult
from cohortium.sdk.hypothesis import HypothesisTest
from cohortium.sdk.run_info import RunInfo

Fitted = GlmResult | CoxResult

_LEVEL = re.compile(r"\[(?:T\.)?[^\]]*\]")
_SINGULAR = 1e-12


def wald_test(fit: Fitted, terms: Sequence[str]) -> HypothesisTest:
    """Whether the coefficients of some terms are all 0; see `GlmResult.wald_test`.

    F with the degrees of freedom of the fit's t tests, else chi-square.

    Raises:
        InputError: ``not-found`` for a term; ``bad-input`` where their covariance is singular.
    """
    from scipy import stats

    at = sorted({place for term in terms for place in _places(fit, term)})
    if not at:
        raise InputError("bad-input", "A Wald test is of at least one term.")
    beta = fit.params.to_numpy()[at]
    cov = fit.cov_params().to_numpy()[np.ix_(at, at)]
    unit = 1 / np.sqrt(np.diag(cov))
    scaled = cov * np.outer(unit, unit)
    if not np.all(np.isfinite(scaled)) or np.linalg.eigvalsh(scaled)[0] < _SINGULAR:
        raise InputError(
            "bad-input",
            "The covariance of these terms is singular: test fewer at a time. Clustered by "
            "institution, at most one less than there are institutions can be tested together.",
        )
    square = float((beta * unit) @ np.linalg.solve(scaled, beta * unit))
    tested = [fit.terms[place] for place in at]
    one = len(at) == 1
    df = fit.df_test if isinstance(fit, GlmResult) else None
    if df is None:
        found: dict[str, Any] = {
            "statistic_name": "chi-square",
            "statistic": square,
            "df": len(at),
            "p_value": float(stats.chi2.sf(square, len(at))),
        }
    else:
        found = {
            "statistic_name": "F",
            "statistic": square / len(at),
            "df": [len(at), df],
            "p_value": float(stats.f.sf(square / len(at), len(at), df)),
        }
    rest = _bare(name for name in fit.terms if name not in tested)
    is_zero = f"coefficient of {tested[0]} is 0"
    are_zero = f"coefficients of {', '.join(tested)} are all 0"
    return _test(
        fit,
        {
            "test": "wald",
            "title": "Wald test of coefficients",
            "null": f"The {is_zero if one else are_zero}.",
            "adjusted_for": rest,
            **found,
        },
    )


def anova(first: Fitted, second: Fitted) -> HypothesisTest:
    """Compare two nested models of the same persons.

    A likelihood-ratio test, of Cox models by their partial likelihoods; where the scale is
    estimated (gaussian, gamma, inverse Gaussian), an F test with the scale of the larger model,
    as R's ``anova``.

    Args:
        first, second: Two of `study.glm` or the other models, or two of `study.cox`. In either
            order. The larger one has all terms of the other.

    Raises:
        InputError: ``bad-input``: they are not nested, not of the same persons, or have robust
            standard errors, for which the likelihood says nothing.
    """
    from scipy import stats

    small, large = sorted((first, second), key=lambda fit: len(fit.terms))
    _check_nested(small, large)
    more = [term for term in large.terms if term not in small.terms]
    q = len(more)
    if (
        isinstance(small, GlmResult)
        and isinstance(large, GlmResult)
        and large.family in {"gamma", "gaussian", "inverse_gaussian"}
    ):
        if large.scale <= 0:
            raise InputError("bad-input", "The larger model fits exactly: no test is left.")
        value = max(small.deviance - large.deviance, 0.0) / q / large.scale
        found: dict[str, Any] = {
            "test": "nested-f",
            "title": "F test of nested models",
            "statistic_name": "F",
            "statistic": value,
            "df": [q, large.df_resid],
            "p_value": float(stats.f.sf(value, q, large.df_resid)),
        }
    else:
        value = max(2 * (large.llf - small.llf), 0.0)
        found = {
            "test": "likelihood-ratio",
            "title": "Likelihood-ratio test of nested models",
            "statistic_name": "chi-square",
            "statistic": value,
            "df": q,
            "p_value": float(stats.chi2.sf(value, q)),
        }
    null = f"{small.formula} is enough: {', '.join(more)} add nothing to it."
    rest = _bare(small.terms)
    return _test(large, {**found, "null": null, "adjusted_for": rest})


def _check_nested(small: Fitted, large: Fitted) -> None:
    """Refuse a comparison that means nothing.

    With all variables of the smaller model in the larger one, equal numbers of persons are the same
    persons.
    """
    for fit in (small, large):
        errors = fit.errors if isinstance(fit, GlmResult) else "robust" if fit.robust else "model"
        if errors != "model":
            raise InputError(
                "bad-input",
                f"Standard errors {errors} do not trust the likelihood that is compared here; "
                "use fit.wald_test.",
            )
    one, other = _kind(small), _kind(large)
    for what in one:
        if one[what] != other.get(what):
            raise InputError(
                "bad-input",
                f"The models differ in their {what}: {one[what] or 'none'}, "
                f"{other.get(what) or 'none'}.",
            )
    if not set(small.terms) < set(large.terms):
        odd = ", ".join(term for term in small.terms if term not in large.terms)
        raise InputError(
            "bad-input",
            f"The models are not nested: {odd} not in the larger one."
            if odd
            else "The models have the same terms.",
        )
    same = _persons(small.run) == _persons(large.run)
    if not same or not _defined_alike(small.run, large.run):
        raise InputError(
            "bad-input", "The models are of different studies, contracts, institutions or persons."
        )
    if (small.nobs, small.n_missing) != (large.nobs, large.n_missing):
        raise InputError(
            "bad-input",
            f"The models are of {small.nobs:,} and {large.nobs:,} persons, since other values are "
            "missing. Fit both in a cohort that has them: include='x IS NOT NULL'.",
        )


def _kind(fit: Fitted) -> dict[str, Any]:
    """What nested models have in common."""
    if isinstance(fit, CoxResult):
        return {
            "family": "Cox",
            "outcome": _outcome(fit),
            "strata": ", ".join(sorted(fit.strata)),
            "baseline": fit.baseline,
            "ties": fit.ties,
            "steps of time": fit.steps,
        }
    return {
        "family": fit.family,
        "outcome": _outcome(fit),
        "link": fit.link,
        "offset": fit.offset,
        "weights": fit.weights,
        "order of levels": " < ".join(fit.outcome_levels),
    }


def _bare(terms: Iterable[str]) -> list[str]:
    """Each term but the intercept once, without the level of the outcome that it is of."""
    names = dict.fromkeys(term.rpartition(": ")[2] for term in terms)
    return [name for name in names if name != "Intercept"]


def _outcome(fit: Fitted) -> str:
    return fit.formula.partition("~")[0].strip()


def _persons(run: RunInfo) -> tuple[Any, ...]:
    """What the persons of a run follow from."""
    cohort = run.cohort
    criteria = (
        (frozenset(), frozenset())
        if cohort is None
        else (frozenset(cohort.include), frozenset(cohort.exclude))
    )
    sites = (frozenset(run.participants), frozenset(run.absent))
    return run.study, run.contract_digest, sites, criteria


def _defined_alike(one: RunInfo, other: RunInfo) -> bool:
    """Whether derived variables of the same name are the same."""
    first, second = (
        {} if run.cohort is None else {d.name: d.expression for d in run.cohort.derived}
        for run in (one, other)
    )
    return all(first[name] == second[name] for name in first.keys() & second.keys())


def _places(fit: Fitted, term: str) -> list[int]:
    wanted = term.strip()
    if wanted in fit.terms:
        return [fit.terms.index(wanted)]
    found = [at for at, name in enumerate(fit.terms) if _LEVEL.sub("", name) == wanted]
    if not found:
        raise InputError(
            "not-found", f"The model has no term {term!r}; it has {', '.join(fit.terms)}."
        )
    return found


def _test(fit: Fitted, data: dict[str, Any]) -> HypothesisTest:
    everywhere = {
        "variable": _outcome(fit),
        "alternative": "two-sided",
        "n": fit.nobs,
        "n_missing": fit.n_missing,
        "n_sites": fit.n_sites,
    }
    return HypothesisTest(fit.run, {**everywhere, **data}, {})
