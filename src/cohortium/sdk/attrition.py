"""What `cohort.attrition()` gives: who remains after each criterion."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from cohortium.core.dictionary import Variable
from cohortium.sdk.language import require_language
from cohortium.sdk.publication import PrintedTable, Row
from cohortium.sdk.results import Language, Result
from cohortium.sdk.run_info import RunInfo
from cohortium.sdk.vocabulary import say

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Step = tuple[str, str]
"""Kind and criterion."""


@dataclass(frozen=True)
class Stage:
    """A number of the flow that is shown, and the criteria since the one before it.

    Attributes:
        excluded: Persons who were there in the stage before, and are not here.
    """

    criteria: tuple[Step, ...]
    n: int
    excluded: int


class AttritionResult(Result):
    """Numbers of persons after each criterion.

    Attributes:
        start: Persons in the contract's cohort.
        steps: (kind, criterion) in order.
        remaining: Persons after each step; None where withheld.
        combinations: Persons at each combination of criteria (bit i: step i keeps them), or None.
        by_site: Each institution's numbers, before the first step and after each, rounded.
        rounding: What the numbers are multiples of, or None.
        reused: Whether it was made of numbers that were known before.
    """

    def __init__(
        self,
        run: RunInfo,
        data: Mapping[str, Any],
        variables: Mapping[str, Variable],
        *,
        reused: bool = False,
    ) -> None:
        super().__init__(run, data, variables)
        self.start: int = data["start"]
        self.steps: tuple[Step, ...] = tuple((s["kind"], s["criterion"]) for s in data["steps"])
        self.remaining: tuple[int | None, ...] = tuple(s["n"] for s in data["steps"])
        known = data.get("combinations")
        self.combinations: tuple[int, ...] | None = None if known is None else tuple(known)
        self.by_site: dict[str, list[int]] = dict(data.get("by_site") or {})
        self.rounding: int | None = data.get("rounding")
        self.reused = reused

    @property
    def n(self) -> int | None:
        """Persons in the cohort; None where withheld."""
        return self.remaining[-1]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The numbers that are shown after the first; criteria whose number is withheld are merged
        with the next.
        """
        stages: list[Stage] = []
        pending: list[Step] = []
        before = self.start
        for step, n in zip(self.steps, self.remaining, strict=True):
            pending.append(step)
            if n is not None:
                stages.append(Stage(tuple(pending), n, before - n))
                pending, before = [], n
        return tuple(stages)

    def to_frame(self) -> pd.DataFrame:
        """One row a step: kind, criterion, n, excluded; and a column for each institution."""
        import pandas as pd

        excluded: dict[int, int] = {}
        at = -1
        for stage in self.stages:
            at += len(stage.criteria)
            excluded[at] = stage.excluded
        rows: list[tuple[object, ...]] = [(0, "", "all", self.start, None)]
        for i, ((kind, text), n) in enumerate(zip(self.steps, self.remaining, strict=True)):
            rows.append((i + 1, kind, text, n, excluded.get(i)))
        names = ["step", "kind", "criterion", "n", "excluded"]
        frame = (
            pd.DataFrame(rows, columns=names)
            .astype({"n": "Int64", "excluded": "Int64"})
            .set_index("step")
        )
        for site, numbers in self.by_site.items():
            frame[site] = numbers
        return frame

    def tables(self, lang: Language = "en") -> tuple[PrintedTable, ...]:
        """One row a step, with what was done in words."""
        (table,) = super().tables(lang)
        first, *rest = [row.cells for row in table.rows]
        start = tuple(say(cell, lang) if cell == "all" else cell for cell in first)
        steps = ((cells[0], say(str(cells[1]), lang), *cells[2:]) for cells in rest)
        return (replace(table, rows=tuple(map(Row, (start, *steps)))),)

    def interpret(self, lang: Language = "en") -> str:
        """How many remain, and which criterion removes most."""
        require_language(lang)
        most = max(self.stages, key=lambda stage: stage.excluded, default=None)
        if lang == "zh":
            last = "人数不足，未披露" if self.n is None else f"剩余 {self.n:,} 人"
            text = f"合同队列共 {self.start:,} 人；应用 {len(self.steps)} 条标准后{last}。"
            if most is not None and most.excluded:
                names = "；".join(_phrase(step, lang) for step in most.criteria)
                text += f"排除人数最多的标准是：{names}（{most.excluded:,} 人）。"
            rounding = f"人数均取整至 {self.rounding} 的倍数。" if self.rounding else ""
            return text + rounding + "这些只是人数，没有估计值，也未作任何调整。"
        last = "is withheld (too few persons)" if self.n is None else f"is {self.n:,}"
        text = (
            f"Of {self.start:,} persons in the contract's cohort, the number that remains after "
            f"{len(self.steps)} criteria {last}."
        )
        if most is not None and most.excluded:
            names = "; ".join(_phrase(step, lang) for step in most.criteria)
            text += f" Most were removed by: {names} ({most.excluded:,} persons)."
        rounding = f" Numbers are rounded to multiples of {self.rounding}." if self.rounding else ""
        return f"{text}{rounding} These are numbers of persons: nothing is estimated or adjusted."

    def plot(self) -> alt.TopLevelMixin:
        """The flow of participants: boxes downwards, beside them who was excluded."""
        from cohortium.sdk.flow import Box, flow

        boxes = [
            Box(
                f"n = {stage.n:,}",
                (
                    f"excluded: {stage.excluded:,}",
                    *(_phrase(step, "en") for step in stage.criteria),
                ),
            )
            for stage in self.stages
        ]
        hidden = [step for step, n in zip(self.steps, self.remaining, strict=True) if n is None]
        note = f"{len(hidden)} numbers withheld" if hidden else ""
        return flow(f"contract's cohort\nn = {self.start:,}", boxes, note)


def _phrase(step: Step, lang: Language) -> str:
    kind, text = step
    text = " ".join(text.split())
    if lang == "zh":
        return f"不符合 {text}" if kind == "include" else f"符合 {text}"
    return f"not met: {text}" if kind == "include" else f"met: {text}"
