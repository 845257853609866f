"""What `missing.mice` knows between rounds, and how it travels to the sites."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from cohortium.analysis.interface import FieldSpec
from cohortium.analysis.mice_model import METHODS, Method, Plan, Scales
from cohortium.analysis.untrusted import floats, ints, phase_of
from cohortium.core.rounds import Array, Layout, State
from cohortium.errors import ProtocolError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Phase = Literal["counts", "moments", "impute", "fit"]
PHASES: tuple[Phase, ...] = ("counts", "moments", "impute", "fit")

FARTHEST: Final = 1e4
"""Of a coefficient, in standard deviations: beyond, a hub has made it up."""
MAX_NEWTON: Final = 25


def _none() -> Floats:
    return np.zeros(0)


@dataclass(frozen=True)
class Progress:
    """K variables, m imputations.

    Attributes:
        imputed: The variables that are imputed, in the order of the chain.
        methods: Of each of them.
        counts: int64 (4,); persons, persons left out, sites that contribute, complete persons.
        missing: int64 (K,); persons without a value.
        scales: Of the observed values.
        done: Steps of the chain that are drawn; step ``t * len(imputed) + v`` is variable v.
        drawn: All that was drawn, one step after the other: (m, `Plan.drawn`) each, flat.
        beta: The present coefficients of the step's logistic model, (m, q) flat; else empty.
        last: Where each variable's last logistic model ended, flat; from where the next begins.
        newton: Newton steps of the present model.
        trace: (done, m, 2), flat; mean and standard deviation of what was imputed in each step.
        fits: The state of each imputed data set's model, or its result.
    """

    phase: Phase
    counts: Ints
    missing: Ints
    scales: Scales
    imputed: tuple[int, ...] = ()
    methods: tuple[Method, ...] = ()
    done: int = 0
    newton: int = 0
    drawn: Floats = field(default_factory=_none)
    beta: Floats = field(default_factory=_none)
    last: Floats = field(default_factory=_none)
    trace: Floats = field(default_factory=_none)
    fits: tuple[State | dict[str, Any], ...] = ()

    @staticmethod
    def nothing(plan: Plan) -> Progress:
        """Before the first round: all that may be imputed is."""
        k = len(plan.names)
        return Progress(
            "counts",
            np.zeros(4, dtype=np.int64),
            np.zeros(k, dtype=np.int64),
            Scales(np.zeros(k), np.ones(k), np.zeros(plan.level_at[-1])),
            tuple(plan.names.index(name) for name in plan.asked),
        )

    def but(self, **changes: Any) -> Progress:
        """With some values replaced."""
        return replace(self, **changes)

    @property
    def step(self) -> tuple[int, int]:
        """The present iteration, and the place in `imputed`."""
        return divmod(self.done, len(self.imputed))

    def n_drawn(self, plan: Plan, done: int) -> int:
        """How many numbers so many steps have drawn, for one imputation."""
        sizes = [plan.drawn(v, how) for v, how in zip(self.imputed, self.methods, strict=True)]
        rounds, rest = divmod(done, len(sizes))
        return rounds * sum(sizes) + sum(sizes[:rest])

    def draw_of(self, plan: Plan, step: int) -> Floats:
        """What a step drew, shape (m, size)."""
        begin, end = self.n_drawn(plan, step), self.n_drawn(plan, step + 1)
        m = plan.params.m
        return self.drawn[begin * m : end * m].reshape(m, end - begin)

    def begins_at(self, plan: Plan, place: int) -> slice:
        """Where a variable's coefficients are in `last`."""
        sizes = [
            0 if how == "norm" else plan.drawn(v, how) * plan.params.m
            for v, how in zip(self.imputed, self.methods, strict=True)
        ]
        begin = sum(sizes[:place])
        return slice(begin, begin + sizes[place])

    def n_last(self, plan: Plan) -> int:
        """The length of `last`."""
        return sum(
            plan.drawn(v, how) * plan.params.m
            for v, how in zip(self.imputed, self.methods, strict=True)
            if how != "norm"
        )

    def to_state(self) -> State:
        """As the hub sends it."""
        values: dict[str, Any] = {
            "phase": self.phase,
            "imputed": list(self.imputed),
            "methods": [METHODS.index(method) for method in self.methods],
            "steps": [self.done, self.newton],
        }
        arrays: dict[str, Array] = {
            "counts": self.counts,
            "missing": self.missing,
            "centre": self.scales.centre,
            "spread": self.scales.spread,
            "shares": self.scales.shares,
            "drawn": self.drawn,
            "beta": self.beta,
            "last": self.last,
            "trace": self.trace,
        }
        if self.fits:
            values["fits"] = [
                {"result": fit} if isinstance(fit, dict) else {"values": dict(fit.values)}
                for fit in self.fits
            ]
            arrays |= {
                f"{name}.{k}": array
                for k, fit in enumerate(self.fits)
                if isinstance(fit, State)
                for name, array in fit.arrays.items()
            }
        return State(values, arrays)

    @staticmethod
    def from_state(state: State, plan: Plan) -> Progress:
        """Read an untrusted state.

        Raises:
            ProtocolError: ``malformed-message``.
        """
        k, m = len(plan.names), plan.params.m
        phase = next(p for p in PHASES if p == phase_of(state, PHASES))
        imputed = _whole(state, "imputed", k, k - 1)
        methods = tuple(METHODS[at] for at in _whole(state, "methods", k, len(METHODS) - 1))
        scales = Scales(
            _bounded(state, "centre", (k,), 1e300),
            _bounded(state, "spread", (k,), 1e300),
            _bounded(state, "shares", (plan.level_at[-1],), 1.0),
        )
        if len(set(imputed)) != len(imputed) or {plan.names[v] for v in imputed} - set(plan.asked):
            raise _malformed()
        if np.any(scales.spread <= 0) or np.any(scales.shares < 0):
            raise _malformed()
        at = Progress(
            phase,
            ints(state, "counts", (4,)),
            ints(state, "missing", (k,)),
            scales,
            imputed,
            methods,
        )
        if phase in {"counts", "moments"}:
            return at
        if not imputed or len(methods) != len(imputed) or not _fit_types(at, plan):
            raise _malformed()
        steps = len(imputed) * plan.params.iterations
        done, newton = _pair(state, steps, MAX_NEWTON)
        if (done == steps) != (phase == "fit"):
            raise _malformed()
        at = at.but(done=done, newton=newton)
        size = 0
        if phase == "impute":
            place = at.step[1]
            size = 0 if methods[place] == "norm" else m * plan.drawn(imputed[place], methods[place])
        told = newton > 0 or "fits" in state.values
        n_traced = done if told else max(0, done - 1)
        at = at.but(
            drawn=_bounded(state, "drawn", (m * at.n_drawn(plan, done),), FARTHEST),
            beta=_bounded(state, "beta", (size,), FARTHEST),
            last=_bounded(state, "last", (at.n_last(plan),), FARTHEST),
            trace=_bounded(state, "trace", (n_traced * m * 2,), 1e300),
        )
        return at.but(fits=_fits(state, m)) if phase == "fit" else at


def layout_of(at: Progress, plan: Plan, fits: Layout) -> Layout:
    """The fields of a phase's contribution.

    Args:
        fits: Of the models.
    """
    k, m = len(plan.names), plan.params.m
    if at.phase == "counts":
        each = FieldSpec((k,), "count")
        return {"persons": FieldSpec((4,), "count"), "present": each, "missing": each}
    if at.phase == "moments":
        of = {"sums": FieldSpec((k, 2), "real")}
        if plan.level_at[-1]:
            of["levels"] = FieldSpec((plan.level_at[-1],), "count")
        return of
    traced = {"imputed": FieldSpec((m, 2), "real")} if needs_trace(at) else {}
    if at.phase == "fit":
        return {**fits, **traced}
    v, method = at.imputed[at.step[1]], at.methods[at.step[1]]
    p = len(plan.predictors(v))
    if method == "norm":
        return {"products": FieldSpec((m, (p + 1) * (p + 2) // 2), "real"), **traced}
    q = plan.drawn(v, method)
    return {
        "information": FieldSpec((m, q * (q + 1) // 2), "real"),
        "gradient": FieldSpec((m, q), "real"),
        **traced,
    }


def needs_trace(at: Progress) -> bool:
    """Whether the sites have not yet told of what the last step imputed."""
    return at.done > 0 and at.newton == 0 and not at.fits


def _fit_types(at: Progress, plan: Plan) -> bool:
    """Whether each method can impute its variable."""
    for v, method in zip(at.imputed, at.methods, strict=True):
        levels = plan.variables[v].levels
        several = levels is not None and len(levels) > 2
        if (method == "polyreg") != several or (method == "norm" and levels is not None):
            return False
    return True


def _fits(state: State, m: int) -> tuple[State | dict[str, Any], ...]:
    fits = state.values.get("fits")
    if fits is None:
        return ()
    if not isinstance(fits, list) or len(fits) != m:
        raise _malformed()
    out: list[State | dict[str, Any]] = []
    for k, fit in enumerate(fits):
        if isinstance(fit, dict) and isinstance(fit.get("result"), dict):
            out.append(fit["result"])
        elif isinstance(fit, dict) and isinstance(fit.get("values"), dict):
            arrays = {
                name.rpartition(".")[0]: array
                for name, array in state.arrays.items()
                if name.endswith(f".{k}")
            }
            out.append(State(fit["values"], arrays))
        else:
            raise _malformed()
    return tuple(out)


def _whole(state: State, name: str, most: int, largest: int) -> tuple[int, ...]:
    values = state.values.get(name)
    if (
        not isinstance(values, list)
        or len(values) > most
        or not all(type(value) is int and 0 <= value <= largest for value in values)
    ):
        raise _malformed()
    return tuple(values)


def _pair(state: State, steps: int, newton: int) -> tuple[int, int]:
    values = _whole(state, "steps", 2, max(steps, newton))
    if len(values) != 2 or values[0] > steps or values[1] > newton:
        raise _malformed()
    return values[0], values[1]


def _bounded(state: State, name: str, shape: tuple[int, ...], most: float) -> Floats:
    array = floats(state, name, shape)
    if not np.all(np.abs(array) <= most):  # NaN is not either
        raise _malformed()
    return array


def _malformed() -> ProtocolError:
    return ProtocolError("malformed-message", "The state of the round is not of this imputation.")
