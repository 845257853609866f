"""Whether a change of a contract's terms loosens or tightens the protection of the data.

What has no rule here does neither: another name, another digest. People judge those themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal

from cohortium.core.canonical import canonical
from cohortium.disclosure.limits import PERSONS_PER_PARAMETER, RESIDUAL_DF

Effect = Literal["looser", "stricter", "other"]

Rule = Callable[[Any, Any], Effect]
"""From the JSON value before and after; None where there is none."""


def _effect(loosens: bool, tightens: bool) -> Effect:
    return "looser" if loosens else "stricter" if tightens else "other"


def _higher(before: Any, after: Any) -> Effect:
    """More of it is looser, and absent is without bound. Times are text that sorts as time does."""
    return _effect(
        before is not None and (after is None or after > before),
        after is not None and (before is None or before > after),
    )


def _lower(before: Any, after: Any) -> Effect:
    """Less of it is looser, and absent is nothing."""
    return _effect(
        before is not None and (after is None or after < before),
        after is not None and (before is None or before < after),
    )


def _more(before: Any, after: Any) -> Effect:
    """A longer list is looser, and absent is everything."""
    return _effect(
        before is not None and (after is None or _gains(before, after)),
        after is not None and (before is None or _gains(after, before)),
    )


def _more_or_none(before: Any, after: Any) -> Effect:
    """A longer list is looser, and absent is empty."""
    return _more(before or (), after or ())


def _fewer(before: Any, after: Any) -> Effect:
    """A shorter list is looser, and so is one in which something was replaced."""
    return _effect(_gains(after or (), before or ()), _gains(before or (), after or ()))


def _gains(one: Iterable[Any], other: Iterable[Any]) -> bool:
    return not {canonical(item) for item in other} <= {canonical(item) for item in one}


def _presence(before: Any, after: Any) -> Effect:
    """A protection that a contract may have or not."""
    return _effect(after is None, before is None)


def _permission(before: Any, after: Any) -> Effect:
    """What permits more by being there."""
    return _effect(before is None, after is None)


def _either(_before: Any, _after: Any) -> Effect:
    """Gives up one protection for another: masks need no trust in hardware, an enclave hides the
    totals from the hub.
    """
    return "looser"


def _order(strict: Any, loose: Any) -> Rule:
    return lambda before, after: _effect(
        (before, after) == (strict, loose), (before, after) == (loose, strict)
    )


def _measurements(before: Any, after: Any) -> Effect:
    """One of each kind is required: another of the same kind is looser, another kind stricter."""
    old, new = _by_kind(before or ()), _by_kind(after or ())
    loosens = any(kind not in new or new[kind] - values for kind, values in old.items())
    tightens = any(kind not in old or old[kind] - values for kind, values in new.items())
    return _effect(loosens, tightens)


def _by_kind(measurements: Iterable[Mapping[str, Any]]) -> dict[str, set[tuple[Any, ...]]]:
    kinds: dict[str, set[tuple[Any, ...]]] = {}
    for one in measurements:
        parts = (one["value"], one.get("product"), one.get("min_svn"))
        kinds.setdefault(one["kind"], set()).add(parts)
    return kinds


def _tcb_states(before: Any, after: Any) -> Effect:
    """A platform that is up to date is allowed where nothing is said."""
    return _more(before or ["UpToDate"], after or ["UpToDate"])


def _by_site(before: Any, after: Any) -> Effect:
    """Absent is no."""
    return _effect(bool(after) and not before, bool(before) and not after)


def _per_parameter(before: Any, after: Any) -> Effect:
    return _lower(before or PERSONS_PER_PARAMETER, after or PERSONS_PER_PARAMETER)


def _residual_df(before: Any, after: Any) -> Effect:
    return _lower(before or RESIDUAL_DF, after or RESIDUAL_DF)


def _executor(before: Any, after: Any) -> Effect:
    return _effect(after is None, before is None)


def _argument(before: Any, after: Any) -> Effect:
    """Whoever runs the task may set what the contract does not fix."""
    free = [one is not None and one.get("value") is None for one in (before, after)]
    return _effect(free[1] and not free[0], free[0] and not free[1])


def _enclaves(before: Iterable[Any], after: Iterable[Any], contract: Mapping[str, Any]) -> Effect:
    """One more, or another, is looser. Where none is named, tasks below L4 cannot run, and others
    run wherever evidence is as the contract says.
    """
    old, new = ({(one["name"], one["key"]) for one in listed} for listed in (before, after))
    common = contract["security_level"]
    levels = [max(common, task.get("security_level") or common) for task in contract["tasks"]]
    anywhere, nowhere = any(one >= "L4" for one in levels), any(one < "L4" for one in levels)
    if old and new:
        return _effect(bool(new - old), bool(old - new))
    return _effect(
        bool(old and anywhere) or bool(new and nowhere),
        bool(old and nowhere) or bool(new and anywhere),
    )


_SIMULATED: Final = _order(False, True)


def _environment(before: Any, after: Any) -> Effect:
    """Terms that appear or go are compared with the defaults, field by field."""
    old, new = before or {}, after or {}
    found = {
        _executor(old.get("executor"), new.get("executor"))
        if old.get("executor") != new.get("executor")
        else "other",
        _measurements(old.get("measurements"), new.get("measurements")),
        _tcb_states(old.get("tcb_states"), new.get("tcb_states")),
        _SIMULATED(old.get("allow_simulated", False), new.get("allow_simulated", False)),
    }
    return _effect("looser" in found, "stricter" in found)


def _cohort(before: Any, after: Any) -> Effect:
    """Criteria that appear or go are compared with none; what may be adjusted is a permission."""
    old, new = before or {}, after or {}
    found = {
        _fewer(old.get("include"), new.get("include")),
        _fewer(old.get("exclude"), new.get("exclude")),
        _more_or_none(old.get("adjustable"), new.get("adjustable")),
    }
    return _effect("looser" in found, "stricter" in found)


RULES: Final[Mapping[str, Rule]] = {
    "aggregation": _either,
    "cohort": _cohort,
    "cohort.adjustable": _more_or_none,
    "cohort.exclude": _fewer,
    "cohort.include": _fewer,
    "computations.*": _permission,
    "computations.*.limits.*": _more,
    "computations.*.max_runs": _higher,
    "computations.*.noise": _presence,
    "computations.*.noise.colluders": _lower,
    "computations.*.noise.delta": _higher,
    "computations.*.noise.epsilon": _higher,
    "computations.*.noise.multiplier": _lower,
    "computations.*.noise.sums": _higher,
    "computations.*.noise.unit": _order("institution", "person"),
    "computations.*.recipients": _more,
    "computations.*.variables": _more,
    "computations.*.versions.*": _permission,
    "derived.*": _permission,
    "disclosure.by_site": _by_site,
    "disclosure.dominance": _presence,
    "disclosure.dominance.largest": _lower,
    "disclosure.dominance.percent": _higher,
    "disclosure.floor": _order("site", "total"),
    "disclosure.max_levels": _higher,
    "disclosure.min_at_risk": _lower,
    "disclosure.min_cell": _lower,
    "disclosure.min_cohort": _lower,
    "disclosure.persons_per_parameter": _per_parameter,
    "disclosure.quantile_tail": _lower,
    "disclosure.residual_df": _residual_df,
    "disclosure.rounding": _lower,
    "environment.allow_simulated": _SIMULATED,
    "environment.enclaves.*.key": _either,
    "environment.executor": _executor,
    "environment.measurements": _measurements,
    "environment.tcb_states": _tcb_states,
    "expires_at": _higher,
    "min_sites": _lower,
    "participants.*.variables": _more,
    "recipients.*": _permission,
    "security_level": _lower,
    "tasks.*": _permission,
    "tasks.*.arguments.*": _argument,
    "tasks.*.arguments.*.value": _presence,
    "tasks.*.executor": _executor,
    "tasks.*.inputs.*": _permission,
    "tasks.*.inputs.*.artefact": _permission,
    "tasks.*.limits": _presence,
    "tasks.*.limits.cpu_s": _higher,
    "tasks.*.limits.disk_bytes": _higher,
    "tasks.*.limits.log_bytes": _higher,
    "tasks.*.limits.memory_bytes": _higher,
    "tasks.*.limits.processes": _higher,
    "tasks.*.limits.time_s": _higher,
    "tasks.*.log_recipients": _more_or_none,
    "tasks.*.max_runs": _higher,
    "tasks.*.outputs.*": _permission,
    "tasks.*.outputs.*.owners": _more,
    "tasks.*.outputs.*.recipients": _more,
    "tasks.*.security_level": _lower,
    "variables.*": _permission,
    "variables.*.decimals": _higher,
}


def effect(
    pattern: str,
    path: tuple[str, ...],
    values: tuple[Any, Any],
    contracts: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> Effect:
    """What a change does to the protection.

    Args:
        pattern: The path with ``*`` for names.
        path: Where the change is.
        values: JSON before and after; None where there is nothing.
        contracts: Both contracts as JSON.
    """
    before, after = values
    old, new = contracts
    if pattern == "participants.*":
        return _effect(before is None and _first_leaves_sites_out(old, new), tightens=False)
    if pattern == "computations.*" and after is None and _still_permitted(path[-1], new):
        return "looser"
    if pattern == "tasks.*.security_level":
        before, after = (
            max(one or common["security_level"], common["security_level"])
            for one, common in zip(values, contracts, strict=True)
        )
    was, is_ = ((one.get("environment") or {}).get("enclaves", []) for one in contracts)
    if pattern == "environment.enclaves.*":
        return _enclaves(was, is_, new)
    if pattern == "environment":
        found = {_environment(before, after), _enclaves(was, is_, new)}
        return _effect("looser" in found, "stricter" in found)
    rule = RULES.get(pattern)
    return "other" if rule is None else rule(before, after)


def _still_permitted(name: str, new: Mapping[str, Any]) -> bool:
    """Whether a removed entry's computation falls under a family, with the terms of that."""
    return any(
        entry["name"].endswith(".*") and name.startswith(entry["name"][:-1])
        for entry in new["computations"]
    )


def _first_leaves_sites_out(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether each run was of all participants so far, and may now leave some of them out."""
    return bool(
        old["min_sites"] == len(old["participants"]) and new["min_sites"] < len(new["participants"])
    )


__all__ = ["RULES", "Effect", "effect"]
