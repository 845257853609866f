"""Times to events, as commands."""

from __future__ import annotations

from typing import Final

from cohortium.cli.commands.command import (
    CONFIDENCE,
    EVENT,
    EVENT_LEVEL,
    GROUPS,
    TIME,
    Command,
    Parameter,
)

COMMANDS: Final = (
    Command(
        "km",
        "Kaplan-Meier survival curves: medians, survival at times, persons at risk.",
        (
            TIME,
            EVENT,
            Parameter("by", "A curve for each level of this category or boolean."),
            Parameter("entry", "When a person came under observation."),
            Parameter("at", "A time at which survival is asked for; several times.", list[float]),
            Parameter(
                "quantiles",
                "A share of persons with the event; several times; default 0.5, the median.",
                list[float],
            ),
            EVENT_LEVEL,
            CONFIDENCE,
        ),
    ),
    Command(
        "logrank",
        "Log-rank test: do groups have the same survival?",
        (
            TIME,
            EVENT,
            GROUPS,
            Parameter("strata", "Compare within the levels of this category or boolean."),
            Parameter("within_sites", "Compare within institutions only.", bool),
            Parameter(
                "weights",
                "Of the times; default: logrank.",
                ("logrank", "wilcoxon", "tarone-ware", "peto"),
            ),
            EVENT_LEVEL,
            CONFIDENCE,
        ),
    ),
    Command(
        "cumulative_incidence",
        "Cumulative incidence of events that compete.",
        (
            TIME,
            Parameter("event", "A category of the events and the censored.", argument=True),
            Parameter("by", "Curves for each level of this category or boolean."),
            Parameter("censored", "The level of those without an event; default: the first."),
            Parameter("at", "A time at which it is asked for; several times.", list[float]),
            CONFIDENCE,
        ),
    ),
    Command(
        "gray",
        "Gray's test: do groups have the same cumulative incidence of an event?",
        (
            TIME,
            Parameter("event", "A category of the events and the censored.", argument=True),
            GROUPS,
            Parameter("event_level", "The event that is compared.", required=True),
            Parameter("censored", "The level of those without an event; default: the first."),
            Parameter("strata", "Compare within the levels of this category or boolean."),
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
            EVENT_LEVEL,
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
)
