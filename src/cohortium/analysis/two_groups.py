"""Two groups of persons whose values are compared by rank or distribution."""

from __future__ import annotations

from typing import Literal

from cohortium.analysis.distribution import Question
from cohortium.analysis.interface import Scope
from cohortium.analysis.ranks import RankParams, RankTest
from cohortium.core.dictionary import Label, Name
from cohortium.errors import InputError

Alternative = Literal["two-sided", "less", "greater"]


class TwoGroupParams(RankParams):
    """What is compared.

    Attributes:
        variable: With an order: a number, a date.
        by: A category or boolean.
        levels: The two levels X and Y; absent: those of `by`, which then has two.
        alternative: Of X to Y.
    """

    variable: Name
    by: Name
    levels: tuple[Label, Label] | None = None
    alternative: Alternative = "two-sided"

    def question(self, scope: Scope) -> Question:
        """Persons with a value, in two groups.

        Raises:
            InputError: ``bad-input`` where it is not said which two of several levels.
        """
        question = Question.of(scope, [self.variable], self.by, self.levels)
        if self.levels is not None:
            return question
        if len(question.groups) != 2:
            raise InputError(
                "bad-input",
                f"{self.by} has {len(question.groups)} levels; say which two are compared.",
            )
        return Question(question.variables, question.groups, (0, 1))


class TwoGroupTest(RankTest):
    """A test of two groups."""

    def variables(self, params: TwoGroupParams) -> frozenset[str]:
        """The variable and the grouping one."""
        return frozenset({params.variable, params.by})

    def partition(self, params: TwoGroupParams, scope: Scope) -> tuple[str, ...]:
        """The grouping variable."""
        return tuple(variable.name for variable in params.question(scope).groups.by)
