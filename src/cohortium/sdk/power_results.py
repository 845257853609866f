"""Sample sizes and powers as they come back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from cohortium.sdk.html import text_html
from cohortium.sdk.language import Language, require_language

if TYPE_CHECKING:
    import pandas as pd

Alternative = Literal["two-sided", "one-sided"]

_SLACK: Final = 1e-9
"""What rounding may add to a whole number."""

_ZH: Final = {
    "two-sample t-test": "两独立样本 t 检验",
    "paired t-test": "配对 t 检验",
    "one-sample t-test": "单样本 t 检验",
    "two proportions (normal)": "两个率的比较（正态近似）",
    "two proportions (arcsine)": "两个率的比较（反正弦变换）",
    "log-rank test (Schoenfeld)": "log-rank 检验（Schoenfeld）",
    "log-rank test (Freedman)": "log-rank 检验（Freedman）",
    "two-sided": "双侧",
    "one-sided": "单侧",
    "difference": "差值",
    "sd": "标准差",
    "hazard ratio": "风险比",
    "events in group 1": "第一组事件率",
    "events in group 2": "第二组事件率",
    "p1": "第一组率",
    "p2": "第二组率",
}


@dataclass(frozen=True)
class PowerAnalysis:
    """A sample size, a power or a least effect, with what it was found from.

    Attributes:
        title: The test.
        found: Which of the numbers was looked for.
        n1: Persons (or pairs) in the first group, not rounded; None where nothing says how many
            persons have the event.
        n2: In the second group; None where there is one group.
        power: Chance to find the effect.
        alpha: Chance to find one that is not there.
        alternative: two-sided or one-sided.
        effects: What is assumed, or found, by name.
        events: In both groups together, not rounded; of a log-rank test.
        unit: persons or pairs.
    """

    title: str
    found: str
    n1: float | None
    n2: float | None
    power: float
    alpha: float
    alternative: Alternative
    effects: Mapping[str, float]
    events: float | None = None
    unit: Literal["persons", "pairs"] = "persons"

    @property
    def persons(self) -> tuple[int, ...]:
        """Whole persons (or pairs) in each group that are enough."""
        return tuple(_whole(n) for n in (self.n1, self.n2) if n is not None)

    @property
    def total(self) -> int:
        """Whole persons (or pairs) that are enough."""
        return sum(self.persons)

    def to_frame(self) -> pd.DataFrame:
        """Each number with its name."""
        import pandas as pd

        numbers = {"n1": self.n1, "n2": self.n2, "events": self.events}
        named = {name: value for name, value in numbers.items() if value is not None}
        named |= {**self.effects, "alpha": self.alpha, "power": self.power}
        return pd.DataFrame({"value": pd.Series(named, dtype=float)})

    def interpret(self, lang: Language = "en") -> str:
        """What was found from what, in a sentence for a protocol.

        Args:
            lang: ``en`` or ``zh``.
        """
        require_language(lang)
        if lang == "zh":
            assumed = "，".join(f"{_ZH.get(k, k)} {v:.4g}" for k, v in self.effects.items())
            return (
                f"{_ZH[self.title]}，{_ZH[self.alternative]} α = {self.alpha:g}，假设{assumed}："
                f"{self._needed_zh()}检验效能为 {100 * self.power:.1f}%。"
                "未考虑失访（除已给出者外）、中心效应和多重比较。"
            )
        assumed = ", ".join(f"{name} {value:.4g}" for name, value in self.effects.items())
        return (
            f"{self.title[0].upper()}{self.title[1:]}, {self.alternative} alpha {self.alpha:g}, "
            f"{assumed}: {self._needed()} a power of {100 * self.power:.1f}%. "
            "Persons are independent; drop-out beyond what was given, clustering in institutions "
            "and multiple testing are not allowed for."
        )

    def _needed(self) -> str:
        parts = [] if self.events is None else [f"{_whole(self.events)} events"]
        if self.persons:
            of = " and ".join(str(n) for n in self.persons)
            parts.append(f"{of} {self.unit}")
        verb = "gives" if parts == ["1 events"] else "give"
        return f"{' from '.join(parts)} {verb}"

    def _needed_zh(self) -> str:
        parts = [] if self.events is None else [f"{_whole(self.events)} 例事件"]
        if self.persons:
            unit = "对" if self.unit == "pairs" else "人"
            parts.append(" 与 ".join(f"{n} {unit}" for n in self.persons))
        return f"{'、'.join(parts)}时，"

    def __repr__(self) -> str:
        frame = self.to_frame()["value"]
        width = max(len(str(name)) for name in frame.index)
        lines = [f"{name!s:>{width}} = {value:.7g}" for name, value in frame.items()]
        head = f"{self.title[0].upper()}{self.title[1:]}, {self.alternative}"
        whole = "" if not self.persons else f"\nEnough: {self._enough()}."
        return f"{head}\n" + "\n".join(lines) + whole

    def _enough(self) -> str:
        return f"{' + '.join(str(n) for n in self.persons)} {self.unit}"

    def _repr_html_(self) -> str:
        return text_html(repr(self))


def _whole(n: float) -> int:
    return math.ceil(n * (1 - _SLACK))
