"""What `causal.propensity` checks before it weighs persons, and before it releases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from cohortium.analysis.interface import Scope, Total
from cohortium.analysis.least_squares import Floats
from cohortium.analysis.marks import singled_out
from cohortium.analysis.propensity_model import CELLS, EDGES, Design
from cohortium.analysis.propensity_state import Weighing
from cohortium.core.rounds import Array
from cohortium.disclosure.suppression import follows_from_mean, is_small
from cohortium.errors import InputError, PolicyRefusal

Ints = npt.NDArray[np.int64]

_ROUNDING = 1e-14


def release_overlap(at: Weighing, total: Total, design: Design, scope: Scope) -> dict[str, Array]:
    """Refuse arms of few persons, limits of the score that few are beyond, and extreme weights.

    Returns:
        What the stages ``balance`` and ``effect`` know.

    Raises:
        PolicyRefusal: ``too-few-persons``, ``too-few-sites``.
        InputError: ``no-convergence`` for a level that nobody of an arm has, or an outcome that
            does not vary.
    """
    sums = {name: np.asarray(array) for name, array in total.items()}
    _require_arms(sums, at, design, scope, "")
    groups, counts = grouped(
        sums["scores"], sums["score_sites"], scope.disclosure.min_cell, scope.least_sites
    )
    if design.params.trim:
        _require_trim(design, groups)
        _require_arms(sums, at, design, scope, "kept_")
    _require_spread(sums["weights"], design, scope)
    first, end = design.kept
    return {
        "persons": sums["persons"],
        "kept": sums["scores"][:, first:end].sum(axis=1),
        "groups": groups,
        "scores": counts,
        "levels": sums.get("levels", np.zeros((2, 0), dtype=np.int64)),
        "columns": sums["columns"],
        "squares": sums["squares"],
        "weights": sums["weights"],
        "outcome": sums.get("outcome", np.zeros((2, 2))),
    }


def grouped(scores: Ints, sites: Ints, min_cell: int, least_sites: int) -> tuple[Ints, Ints]:
    """The distribution of the score by arm, in groups that hold nobody of an arm or enough.

    Args:
        scores: (2, CELLS); persons.
        sites: (2, CELLS); sites that have some.
        least_sites: See `Scope`.

    Returns:
        (CELLS,), of each cell the first one of its group; (2, CELLS), the group's persons, there.
    """

    def enough(begin: int, end: int) -> bool:
        persons = scores[:, begin:end].sum(axis=1)
        held = sites[:, begin:end].max(axis=1)
        return bool(np.all((persons == 0) | ((persons >= min_cell) & (held >= least_sites))))

    half = EDGES.index(0.5)
    lower, upper = [0], [CELLS]  # from both ends, so that either has limits near it
    for end in range(1, half + 1):
        if enough(lower[-1], end):
            lower.append(end)
    for begin in range(CELLS - 1, half - 1, -1):
        if enough(begin, upper[-1]):
            upper.append(begin)
    while lower[-1] < upper[-1] and not enough(lower[-1], upper[-1]):
        if len(lower) == len(upper) == 1:
            break
        (lower if len(lower) > len(upper) else upper).pop()
    starts = sorted({*lower, *upper} - {CELLS})
    counts = np.zeros_like(scores)
    counts[:, starts] = np.add.reduceat(scores, starts, axis=1)
    groups = np.zeros(CELLS, dtype=np.int64)
    groups[starts] = starts
    return np.maximum.accumulate(groups), counts


def _require_trim(design: Design, groups: Ints) -> None:
    """What is left of two limits must not tell of few persons, whichever are asked for."""
    if design.params.trim is None:
        return
    edges = [*(EDGES[at] for at in sorted(set(groups.tolist()))), 1.0]
    low, high = design.params.trim
    if low in edges and high in edges:
        return
    low = min((edge for edge in edges if edge < 0.5), key=lambda edge: abs(edge - low))
    high = min((edge for edge in edges if edge > 0.5), key=lambda edge: abs(edge - high))
    raise PolicyRefusal(
        "too-few-persons",
        "Too few persons of an arm have a score between these limits of the score and others that "
        f"can be asked for. The nearest that can: trim=({low:g}, {high:g}).",
    )


def _require_arms(
    sums: dict[str, Array], at: Weighing, design: Design, scope: Scope, prefix: str
) -> None:
    limits = scope.disclosure
    for one, arm in enumerate(design.arms):
        n = int(sums[f"{prefix}persons"][one])
        where = f"{design.params.treatment} = {arm}" + (" within the limits" if prefix else "")
        if n < limits.min_cell:
            raise PolicyRefusal(
                "too-few-persons",
                f"Fewer than {limits.min_cell} persons have {where}. Choose other limits of the "
                "score, or criteria."
                if prefix
                else f"Fewer than {limits.min_cell} have {where}.",
            )
        if int(sums[f"{prefix}sites"][one]) < scope.least_sites:
            raise PolicyRefusal("too-few-sites", f"Only one institution has persons with {where}.")
        _require_cells(sums, at, design, limits.min_cell, arm=one, n=n, prefix=prefix, where=where)
        if design.outcome is not None:
            events, squares = sums[f"{prefix}outcome"][one].tolist()
            if follows_from_mean(n, events / n, squares / n, limits.min_cell):
                raise PolicyRefusal(
                    "too-few-persons",
                    f"Fewer than {limits.min_cell} persons with {where} have (or do not have) "
                    f"{design.outcome.name}.",
                    cells=[design.outcome.name],
                )
    if not prefix:
        _require_everywhere(sums, design)
        if design.outcome is not None:
            _require_variation(sums, design)


def _require_cells(
    sums: dict[str, Array],
    at: Weighing,
    design: Design,
    min_cell: int,
    *,
    arm: int,
    n: int,
    prefix: str,
    where: str,
) -> None:
    """Refuse where the balance of an arm would tell of few of its persons."""
    parsed = design.parsed
    columns, squares = uncentred(
        n, sums[f"{prefix}columns"][arm], sums[f"{prefix}squares"][arm], at.model.centre
    )
    counts = sums.get(f"{prefix}levels", np.zeros((2, 0)))[arm].tolist()
    small = [
        f"{factor.text}[{level}]"
        for (factor, level), count in zip(parsed.levels, counts, strict=True)
        if is_small(round(count), min_cell)
    ]
    small += [
        column.name
        for column, sum_ in zip(parsed.columns, columns.tolist(), strict=True)
        if column.is_cell and is_small(round(sum_), min_cell)
    ]
    small = small or singled_out(
        n,
        np.append(columns, float(n * arm)),
        np.append(squares, float(n * arm)),
        sums[f"{prefix}marks"][arm],
        parsed=parsed,
        min_cell=min_cell,
    )
    if small:
        raise PolicyRefusal(
            "too-few-persons",
            f"Of the persons with {where}, fewer than {min_cell} are in: {', '.join(small[:5])}. "
            "They cannot be balanced: merge levels, leave the variable out, or leave these "
            "persons out with a criterion.",
            cells=small[:50],
        )


def _require_everywhere(sums: dict[str, Array], design: Design) -> None:
    counts = sums.get("levels", np.ones((2, 0)))
    for (factor, level), persons in zip(design.parsed.levels, counts.T.tolist(), strict=True):
        if min(persons) == 0:
            arm = design.arms[persons.index(0)]
            raise InputError(
                "no-convergence",
                f"Nobody with {design.params.treatment} = {arm} is in {factor.text}[{level}]; "
                "leave these persons out with a criterion.",
            )


def _require_variation(sums: dict[str, Array], design: Design) -> None:
    n = float(sums["persons"].sum())
    total, squares = (sums["outcome"].sum(axis=0) / n).tolist()
    if design.outcome is not None and squares - total**2 <= _ROUNDING * squares:
        raise InputError(
            "no-convergence",
            f"{design.outcome.name} is the same for all these persons; there is nothing to "
            "compare.",
            variable=design.outcome.name,
        )


def _require_spread(weights: Floats, design: Design, scope: Scope) -> None:
    """Refuse weights that leave an arm few persons."""
    least = max(scope.disclosure.cohort, 2 * scope.disclosure.min_cell)
    for one, arm in enumerate(design.arms):
        total, squares = weights[one].tolist()
        if total**2 < least * squares:
            raise PolicyRefusal(
                "too-few-persons",
                f"The weights leave {design.params.treatment} = {arm} the information of fewer "
                f"than {least} persons: some scores are extreme. Trim the score, for example "
                "trim=(0.05, 0.95), take overlap weights (ATO), or simplify the model.",
            )


def uncentred(n: int, sums: Floats, squares: Floats, centre: Floats) -> tuple[Floats, Floats]:
    """Sums of the columns as they were, and of their squares, from those around `centre`."""
    return sums + n * centre, squares + 2 * centre * sums + n * centre**2
