"""``cohortium run STUDY crosstab stage arm``: the tables and tests, one command each.

Each is a method of a study or cohort in Python, with the same name and the same defaults; a
command here only says which of its parameters are arguments and which are options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

import typer


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method.

    Attributes:
        kind: Its type; a tuple of texts where these are the only ones.
    """

    name: str
    help: str
    kind: Any = str
    argument: bool = False
    required: bool = False

    def declared(self) -> inspect.Parameter:
        """As Typer reads it; an option that is not given leaves the method's default."""
        kind = self.kind
        if isinstance(kind, tuple):
            enum: Any = StrEnum
            kind = enum(self.name, [(text, text) for text in kind])
        default = inspect.Parameter.empty if self.argument or self.required else None
        if self.argument:
            annotation: Any = Annotated[kind, typer.Argument(help=self.help, show_default=False)]
        else:
            asked = kind if self.required else kind | None
            annotation = Annotated[asked, typer.Option(help=self.help, show_default=False)]
        return inspect.Parameter(
            self.name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default
        )


@dataclass(frozen=True)
class Command:
    """A method as a command; its name has ``-`` for ``_``."""

    method: str
    help: str
    parameters: tuple[Parameter, ...]

    @property
    def name(self) -> str:
        """As it is typed."""
        return self.method.replace("_", "-")


def _number(help_: str = "A number.") -> Parameter:
    return Parameter("variable", help_, argument=True)


_VARIABLES = Parameter("variables", "Variables.", list[str], argument=True)
_BY = Parameter("by", "Groups: a category or boolean.")
_GROUPS = Parameter("by", "Groups: a category or boolean.", argument=True)
_TIME = Parameter("time", "Time to the event or the end of observation.", argument=True)
_EVENT = Parameter("event", "A boolean, a number of 0 and 1, or a category.", argument=True)
_EVENT_LEVEL = Parameter("event_level", "Of a category, the level that is the event.")
_LEVELS = Parameter(
    "levels", "Two levels of the groups, the first against the second.", tuple[str, str]
)
_SIDE = Parameter(
    "alternative", "Of the first level to the second.", ("two-sided", "less", "greater")
)
_CONFIDENCE = Parameter("confidence", "Of the intervals; default 0.95.", float)
_CORRECTION = Parameter("correction", "Continuity correction; default: with it.", bool)
_ROUNDING = Parameter("rounding", "Release only numbers rounded to multiples of this.", int)
_POOLING = (
    Parameter("method", "Of the variance between institutions; default: REML.", ("REML", "DL")),
    Parameter("hartung_knapp", "Intervals and tests by t, for few institutions.", bool),
    _CONFIDENCE,
)

COMMANDS: Final = (
    Command(
        "crosstab",
        "Persons by the levels of one or two variables, with tests and measures.",
        (
            Parameter("row", "A category or boolean.", argument=True),
            Parameter("column", "Another, with which the tests come."),
            _ROUNDING,
            _CONFIDENCE,
        ),
    ),
    Command(
        "cmh",
        "Cochran-Mantel-Haenszel test and common odds ratio of two by two tables.",
        (
            Parameter("row", "A category or boolean of two levels.", argument=True),
            Parameter("column", "Another.", argument=True),
            Parameter("strata", "A category or boolean; default: each institution is a stratum."),
            _CORRECTION,
            _CONFIDENCE,
        ),
    ),
    Command(
        "mcnemar",
        "McNemar's test: has a binary variable changed?",
        (
            Parameter("before", "A boolean or category of two levels.", argument=True),
            Parameter("after", "Another with the same levels.", argument=True),
            _CORRECTION,
            _CONFIDENCE,
        ),
    ),
    Command(
        "t_test",
        "A t-test of two groups (--by), of pairs (--second) or of one mean.",
        (
            _number(),
            _BY,
            Parameter("second", "The number that is subtracted from the first, person by person."),
            Parameter(
                "kind", "Default: welch with --by.", ("welch", "student", "paired", "one-sample")
            ),
            _LEVELS,
            Parameter("mu", "The mean or difference under the null hypothesis; default 0.", float),
            _SIDE,
            _CONFIDENCE,
        ),
    ),
    Command(
        "anova",
        "One-way analysis of variance.",
        (
            _number(),
            Parameter("by", "Groups: a category or boolean; default: the institutions."),
            Parameter("kind", "Default: classical.", ("classical", "welch")),
        ),
    ),
    Command(
        "levene",
        "Are the variances of groups equal? Brown and Forsythe's test, or Levene's own.",
        (_number(), _GROUPS, Parameter("centre", "Default: median.", ("mean", "median"))),
    ),
    Command(
        "normality",
        "Tests of normality from moments, and a histogram.",
        (
            _number(),
            Parameter("by", "Test the residuals within the levels of this."),
            Parameter(
                "kind",
                "The test that comes first.",
                ("jarque-bera", "dagostino", "skewness", "kurtosis"),
            ),
        ),
    ),
    Command(
        "mann_whitney",
        "Mann-Whitney U test: does one group tend to have greater values?",
        (_number("A number or date."), _GROUPS, _LEVELS, _SIDE, _CONFIDENCE),
    ),
    Command(
        "kruskal",
        "Kruskal-Wallis test: have all groups the same distribution?",
        (_number("A number or date."), _GROUPS),
    ),
    Command(
        "ks",
        "Kolmogorov-Smirnov test: have two groups the same distribution?",
        (_number("A number or date."), _GROUPS, _LEVELS, _SIDE),
    ),
    Command(
        "correlation",
        "Pearson's correlations with intervals; partial ones with --given.",
        (
            _VARIABLES,
            Parameter("given", "Held constant; several times.", list[str]),
            Parameter("missing", "Default: complete.", ("complete", "pairwise")),
            _CONFIDENCE,
        ),
    ),
    Command(
        "meta",
        "A model that each institution fits alone, combined over institutions.",
        (
            Parameter(
                "formula",
                '"died ~ age + sex", or "Surv(time, event) ~ age" for Cox\'s model.',
                argument=True,
            ),
            Parameter(
                "family",
                "Default: binomial.",
                ("binomial", "gamma", "gaussian", "poisson", "cox"),
            ),
            Parameter("time", "Time to the event or the end of observation."),
            Parameter("event", "A boolean, a number of 0 and 1, or a category."),
            _EVENT_LEVEL,
            Parameter("strata", "With a baseline hazard of its own; several times.", list[str]),
            Parameter("offset", "A number added to the linear predictor."),
            *_POOLING,
        ),
    ),
    Command(
        "meta_effect",
        "An effect between two groups at each institution, combined over institutions.",
        (
            Parameter("variable", "A number, or an outcome.", argument=True),
            _GROUPS,
            Parameter(
                "effect",
                "Of the first group to the second.",
                ("mean-difference", "smd", "odds-ratio", "risk-ratio", "risk-difference"),
                required=True,
            ),
            _LEVELS,
            _EVENT_LEVEL,
            *_POOLING,
        ),
    ),
    Command(
        "missing",
        "How many persons lack each variable, and which they lack together.",
        (
            _VARIABLES,
            _BY,
            Parameter("patterns", "What is missing together; default: of up to 8.", bool),
        ),
    ),
    Command(
        "mice",
        "A generalised linear model of incomplete data, by multiple imputation.",
        (
            Parameter("formula", 'An R formula: "died ~ age * sex".', argument=True),
            Parameter(
                "family",
                "Default: gaussian.",
                ("binomial", "gamma", "gaussian", "inverse_gaussian", "poisson"),
            ),
            Parameter(
                "link",
                "Default: the canonical one.",
                ("identity", "inverse", "inverse_squared", "log", "logit"),
            ),
            Parameter("impute", "A variable; several times; default: all.", list[str]),
            Parameter("auxiliary", "Helps to impute; several times.", list[str]),
            Parameter("m", "Imputed data sets; default 5.", int),
            Parameter("iterations", "Of the chained equations; default 10.", int),
            Parameter("seed", "The same seed gives the same result; default 1.", int),
        ),
    ),
    Command(
        "mixed",
        "Linear model with a random intercept for each institution.",
        (
            Parameter("formula", '"pressure ~ age + sex".', argument=True),
            Parameter("method", "Default: REML.", ("REML", "ML")),
        ),
    ),
    Command(
        "multinomial",
        "A regression of a category of three levels or more.",
        (
            Parameter("formula", 'An R formula: "stage ~ age + sex".', argument=True),
            Parameter("reference", "Others are compared with this level; default: the first."),
        ),
    ),
    Command(
        "ordinal",
        "A regression of an ordered category: proportional odds.",
        (
            Parameter("formula", 'An R formula: "stage ~ age + sex".', argument=True),
            Parameter("link", "Of the cumulative probabilities.", ("logit", "probit", "cloglog")),
            Parameter("levels", "From low to high, each once; default: as declared.", list[str]),
        ),
    ),
    Command(
        "elastic_net",
        "A penalised regression: the lasso, ridge regression or an elastic net.",
        (
            Parameter("formula", 'An R formula: "died ~ age * sex".', argument=True),
            Parameter("family", "Default: gaussian.", ("gaussian", "binomial", "poisson")),
            Parameter("alpha", "1 (default): the lasso; 0: ridge regression.", float),
            Parameter("lambdas", "A weight of the penalty; several times.", list[float]),
            Parameter("n_lambdas", "Length of the path; default 100.", int),
            Parameter("folds", "Of the cross-validation; default 10, 0: none.", int),
            Parameter("seed", "0 to 99: how persons are dealt to folds.", int),
            Parameter("standardize", "Columns to unit variance (default) or as they are.", bool),
        ),
    ),
    Command(
        "negative_binomial",
        "A regression of counts that vary more than a Poisson model says.",
        (
            Parameter("formula", 'An R formula: "falls ~ age * sex".', argument=True),
            Parameter("offset", "A number added to the log of the mean."),
            Parameter("weights", "How many times each person counts."),
            Parameter(
                "errors",
                "Robust, or clustered by site; default model.",
                ("model", "HC0", "HC1", "site"),
            ),
        ),
    ),
    Command(
        "pca",
        "Principal components: explained variance and weights.",
        (
            _VARIABLES,
            Parameter("scale", "Of the correlation matrix (default), or of covariances.", bool),
            Parameter("components", "How many, the largest first; default: all.", int),
        ),
    ),
    Command(
        "spearman",
        "Spearman's correlations of ranks with intervals.",
        (_VARIABLES, _CONFIDENCE),
    ),
    Command(
        "km",
        "Kaplan-Meier survival curves: medians, survival at times, persons at risk.",
        (
            _TIME,
            _EVENT,
            Parameter("by", "A curve for each level of this category or boolean."),
            Parameter("entry", "When a person came under observation."),
            Parameter("at", "A time at which survival is asked for; several times.", list[float]),
            Parameter(
                "quantiles",
                "A share of persons with the event; several times; default 0.5, the median.",
                list[float],
            ),
            _EVENT_LEVEL,
            _CONFIDENCE,
        ),
    ),
    Command(
        "cumulative_incidence",
        "Cumulative incidence of events that compete.",
        (
            _TIME,
            Parameter("event", "A category of the events and the censored.", argument=True),
            Parameter("by", "Curves for each level of this category or boolean."),
            Parameter("censored", "The level of those without an event; default: the first."),
            Parameter("at", "A time at which it is asked for; several times.", list[float]),
            _CONFIDENCE,
        ),
    ),
    Command(
        "gray",
        "Gray's test: do groups have the same cumulative incidence of an event?",
        (
            _TIME,
            Parameter("event", "A category of the events and the censored.", argument=True),
            _GROUPS,
            Parameter("event_level", "The event that is compared.", required=True),
            Parameter("censored", "The level of those without an event; default: the first."),
            Parameter("strata", "Compare within the levels of this category or boolean."),
        ),
    ),
    Command(
        "logrank",
        "Log-rank test: do groups have the same survival?",
        (
            _TIME,
            _EVENT,
            _GROUPS,
            Parameter("strata", "Compare within the levels of this category or boolean."),
            Parameter("within_sites", "Compare within institutions only.", bool),
            Parameter(
                "weights",
                "Of the times; default: logrank.",
                ("logrank", "wilcoxon", "tarone-ware", "peto"),
            ),
            _EVENT_LEVEL,
            _CONFIDENCE,
        ),
    ),
    Command(
        "cox",
        "Cox's proportional hazards model.",
        (
            Parameter(
                "formula",
                'Covariates, "age + sex" with --time and --event, or "Surv(time, event) ~ age".',
                argument=True,
            ),
            Parameter("time", "Time to the event or the end of observation."),
            Parameter("event", "A boolean, a number of 0 and 1, or a category."),
            Parameter("entry", "When a person came under observation."),
            Parameter("strata", "With a baseline hazard of its own; several times.", list[str]),
            _EVENT_LEVEL,
            Parameter("baseline", "Default: site.", ("site", "pooled")),
            Parameter("ties", "Default: efron.", ("efron", "breslow")),
            Parameter("robust", "Lin and Wei's standard errors.", bool),
            Parameter(
                "transform",
                "Of time, for the test of proportionality.",
                ("km", "rank", "identity", "log"),
            ),
        ),
    ),
    Command(
        "propensity",
        "Effect of a treatment by weighting with the propensity score; balance and overlap.",
        (
            Parameter("treatment", "A boolean or category of two levels.", argument=True),
            Parameter("covariates", 'Of the score: "age + sex * stage".', argument=True),
            Parameter("outcome", "A number, boolean or category of two levels; default: none."),
            Parameter(
                "estimand", "In everybody (default), the treated ...", ("ATE", "ATT", "ATC", "ATO")
            ),
            Parameter("stabilized", "Weights times the share of the arm.", bool),
            Parameter(
                "trim",
                "Limits of the score outside which persons are left out.",
                tuple[float, float],
            ),
            Parameter("errors", "Default: stacked.", ("stacked", "robust")),
            Parameter("doubly_robust", "With linear models of the outcome, of the ATE.", bool),
            _CONFIDENCE,
        ),
    ),
    Command(
        "evaluate",
        "How well a score predicts: ROC and precision curves, calibration, net benefit.",
        (
            Parameter("outcome", "A boolean, a number of 0 and 1, or a category.", argument=True),
            Parameter(
                "model",
                "Variables: scores that are higher where the outcome is likelier.",
                list[str],
                argument=True,
            ),
            Parameter("probability", "They are probabilities, from 0 to 1.", bool),
            Parameter("event_level", "Of a category, the level that is predicted."),
            Parameter("groups", "Of risk, in the calibration curve; default 10.", int),
            _CONFIDENCE,
        ),
    ),
    Command(
        "table_one",
        "Table 1: characteristics overall and by groups, with p and standardised differences.",
        (
            _VARIABLES,
            _BY,
            Parameter("nonnormal", "Medians and ranks for this one; several times.", list[str]),
            Parameter("exact", "Fisher's test for this binary one; several times.", list[str]),
            Parameter("p", "p values; default: with them.", bool),
            Parameter("smd", "Over several pairs of groups.", ("average", "maximum")),
            Parameter("equal_var", "Equal variances (default), or Welch's test.", bool),
            Parameter("title", "What stands above the table."),
            Parameter("decimals", "Of means and medians; default 2.", int),
        ),
    ),
    Command(
        "smd",
        "Standardised mean differences between groups.",
        (_VARIABLES, Parameter("by", "Groups: a category or boolean.", required=True)),
    ),
    Command(
        "attrition",
        "How many persons remain after each --include and --exclude.",
        (
            _ROUNDING,
            Parameter("by_site", "Each institution too; the contract must allow it.", bool),
        ),
    ),
)


def register(app: typer.Typer, shared: Callable[..., None]) -> None:
    """Add the commands.

    Args:
        shared: What every command does; its keyword parameters after the two are options of every
            command.
    """
    common = list(inspect.signature(shared, eval_str=True).parameters.values())[2:]
    for command in COMMANDS:
        app.command(command.name, help=command.help)(_function(command, shared, common))


def _function(
    command: Command, shared: Callable[..., None], common: list[inspect.Parameter]
) -> Callable[..., None]:
    own = [parameter.declared() for parameter in command.parameters]
    names = [parameter.name for parameter in own]

    def run(**values: Any) -> None:
        asked = {name: _plain(values.pop(name)) for name in names}
        given = {name: value for name, value in asked.items() if value not in (None, [], ())}
        shared(command, given, **values)

    study, *others = common
    run.__signature__ = inspect.Signature([study, *own, *others])  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in (study, *own, *others)}
    run.__doc__ = command.help
    return run


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, StrEnum) else value
