"""Cox models: the method of a study, and how people write the formula."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cohortium.errors import InputError
from cohortium.sdk.cox_results import CoxResult
from cohortium.sdk.submission import Submits, as_type, listed, plain, text_of

Baseline = Literal["site", "pooled"]
Ties = Literal["efron", "breslow"]
Transform = Literal["km", "rank", "identity", "log"]

_NAME = r"[A-Za-z]\w*"
_SURV = re.compile(
    rf"^Surv\(\s*(?:(?P<entry>{_NAME})\s*,\s*)?(?P<time>{_NAME})\s*,\s*(?P<event>{_NAME})"
    r"(?:\s*==\s*(?P<quote>['\"])(?P<level>[^'\"]*)(?P=quote))?\s*\)$"
)
_STRATA = re.compile(rf"^strata\(\s*(?P<names>{_NAME}(?:\s*,\s*{_NAME})*)\s*\)$")


@dataclass(frozen=True)
class Written:
    """A formula as R's ``coxph`` takes it, in parts."""

    covariates: str
    strata: tuple[str, ...]
    time: str | None = None
    event: str | None = None
    entry: str | None = None
    level: str | None = None

    @staticmethod
    def read(formula: str) -> Written:
        """``Surv(time, event) ~ age + strata(ward)``; the left side may be absent.

        Raises:
            InputError: ``bad-formula``.
        """
        left, tilde, right = text_of("formula", formula).rpartition("~")
        terms, strata = [], []
        for term in _summands(right):
            found = _STRATA.match(term)
            if found is not None:
                strata += [name.strip() for name in found["names"].split(",")]
            elif "strata(" in term:
                raise InputError("bad-formula", "Add strata(name) as a term of its own.")
            else:
                terms.append(term)
        if not terms:
            raise InputError("bad-formula", "The formula names covariates, as age + sex.")
        covariates = " + ".join(terms)
        if not left.strip():
            return Written(covariates, tuple(strata))
        found = _SURV.match(left.strip())
        if found is None or not tilde:
            raise InputError(
                "bad-formula",
                "Left of ~ stands Surv(time, event), Surv(entry, time, event) or "
                'Surv(time, event == "level").',
            )
        return Written(
            covariates, tuple(strata), found["time"], found["event"], found["entry"], found["level"]
        )


class CoxMethods(Submits):
    """Cox's model."""

    def cox(
        self,
        formula: str,
        *,
        time: str | None = None,
        event: str | None = None,
        entry: str | None = None,
        strata: str | Sequence[str] = (),
        event_level: str | None = None,
        baseline: Baseline = "site",
        ties: Ties = "efron",
        robust: bool = False,
        transform: Transform | None = None,
    ) -> CoxResult:
        """Cox's proportional hazards model of the pooled persons.

        Args:
            formula: As R's ``coxph``: ``Surv(months, died) ~ age + sex + strata(stage)``, or the
                right side alone with `time` and `event`, as lifelines.
            time: A number from 0 on; its unit is the dictionary's.
            event: A boolean, a number of 0 and 1, or a category.
            entry: When a person came under observation: at risk are those with
                ``entry < t <= time``. ``Surv(entry, time, event)`` says it too.
            strata: Categories and booleans whose levels each have a baseline hazard.
            event_level: Of a category, the level that is the event.
            baseline: ``site``: each institution has its own baseline hazard, and nothing but sums
                of scores leaves it. ``pooled``: one for all, on shared steps of time.
            ties: ``efron`` or ``breslow``.
            robust: Lin and Wei's sandwich standard errors, with a baseline of each institution.
            transform: Of time, for the test of proportionality: ``identity``, ``log``, and with a
                pooled baseline ``km`` (its default, as in R) and ``rank``.

        Raises:
            InputError: ``bad-formula``, ``bad-input``, ``no-convergence``.
            PolicyRefusal: Not permitted, too few persons, events or sites, too many parameters.
        """
        params = {
            **asked_of(formula, time, event, entry, strata=strata, event_level=event_level),
            "baseline": baseline,
            "ties": ties,
            "robust": robust,
            "transform": transform,
        }
        return as_type(CoxResult, self.submit("survival.cox", params).result())


def asked_of(
    formula: str,
    time: str | None,
    event: str | None,
    entry: str | None = None,
    *,
    strata: str | Sequence[str] = (),
    event_level: str | None = None,
) -> dict[str, Any]:
    """Who is followed until what, as ``Surv()`` of the formula or the parameters say.

    Raises:
        InputError: ``bad-formula``; ``bad-input`` where they contradict, or neither says it.
    """
    written = Written.read(formula)
    given = {"time": time, "event": event, "entry": entry, "event_level": event_level}
    said = {
        "time": written.time,
        "event": written.event,
        "entry": written.entry,
        "event_level": written.level,
    }
    for name, value in given.items():
        if value is not None and said[name] not in (None, value):
            raise InputError("bad-input", f"{name} is {value!r}, and {said[name]!r} in Surv().")
    asked = {name: said[name] if value is None else value for name, value in given.items()}
    if asked["time"] is None or asked["event"] is None:
        raise InputError(
            "bad-input", "Say what is modelled: Surv(time, event) ~ ..., or time= and event=."
        )
    return {
        **asked,
        "formula": written.covariates,
        "strata": _strata(written, plain("strata", listed(strata))),
    }


def _strata(written: Written, named: Any) -> Any:
    """Those of the formula, then those named beside it."""
    both = [*written.strata, *named] if isinstance(named, list) else named
    return list(dict.fromkeys(both)) if all(isinstance(one, str) for one in both) else both


def _summands(text: str) -> list[str]:
    """The terms between the plus signs that are in no bracket."""
    depth, parts = 0, [""]
    for character in text:
        depth += (character in "({[") - (character in ")}]")
        if character == "+" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]
