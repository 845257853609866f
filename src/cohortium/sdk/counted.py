"""`cohort.attrition()`: asks the sites, unless what was counted before is enough."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from cohortium.errors import InputError
from cohortium.sdk.attrition import AttritionResult, Step
from cohortium.sdk.client import Client
from cohortium.sdk.submission import as_type

if TYPE_CHECKING:
    from cohortium.sdk.cohort import Cohort


def attrition(
    cohort: Cohort, order: Sequence[str] | None, rounding: int | None, by_site: bool
) -> AttritionResult:
    """Count, or put together what was counted before; see `Cohort.attrition`."""
    steps = _ordered(cohort, order)
    if not steps:
        raise InputError("bad-input", "A cohort without criteria has no attrition.")
    memory = _counted.setdefault(cohort.study.client, {})
    keys = tuple((kind, _key(cohort, text)) for kind, text in steps)
    if rounding is None and not by_site:
        found = _recalled(memory, cohort.study.digest, keys, steps)
        if found is not None:
            return found
    params = {
        "steps": [{"kind": kind, "criterion": text} for kind, text in steps],
        "rounding": rounding,
        "by_site": by_site or None,
    }
    run = cohort.study.submit("stats.attrition", params)
    result = as_type(AttritionResult, run.result())
    if result.combinations is not None:
        memory[cohort.study.digest, keys] = result
    return result


Keys = tuple[Step, ...]
"""Kind of each criterion, and its key however it is written."""
_counted: WeakKeyDictionary[Client, dict[tuple[str, Keys], AttritionResult]] = WeakKeyDictionary()


def _recalled(
    memory: Mapping[tuple[str, Keys], AttritionResult],
    contract: str,
    keys: Keys,
    steps: Sequence[Step],
) -> AttritionResult | None:
    """The result, where combinations of these criteria and perhaps others were counted before."""
    for (digest, known), result in memory.items():
        parts = result.combinations
        if digest != contract or parts is None or not set(keys) <= set(known):
            continue
        bits = [1 << known.index(key) for key in keys]
        masks = [sum(set(bits[: j + 1])) for j in range(len(bits))]
        remaining = [
            sum(n for code, n in enumerate(parts) if code & mask == mask) for mask in masks
        ]
        data = {
            **result.to_json()["result"],
            "steps": [
                {"kind": kind, "criterion": text, "n": n}
                for (kind, text), n in zip(steps, remaining, strict=True)
            ],
            "combinations": None,
            "by_site": None,
        }
        return AttritionResult(result.run, data, {}, reused=True)
    return None


def _ordered(cohort: Cohort, order: Sequence[str] | None) -> list[Step]:
    steps = [
        *(("include", text) for text in cohort.include),
        *(("exclude", text) for text in cohort.exclude),
    ]
    if order is None:
        return steps
    wanted = [text.strip() for text in order]
    by_text = {text: (kind, text) for kind, text in steps}
    if sorted(wanted) != sorted(text for _, text in steps):
        raise InputError("bad-input", "The order names each criterion of the cohort once.")
    return [by_text[text] for text in wanted]


def _key(cohort: Cohort, text: str) -> str:
    return cohort.study.cohort(include=[text]).key
