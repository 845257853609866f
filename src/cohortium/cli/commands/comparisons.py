"""Tests between groups, and correlations, as commands."""

from __future__ import annotations

from typing import Final

from cohortium.cli.commands.command import (
    BY,
    CONFIDENCE,
    EVENT_LEVEL,
    GROUPS,
    LEVELS,
    POOLING,
    SIDE,
    VARIABLES,
    Command,
    Parameter,
    number,
)

COMMANDS: Final = (
    Command(
        "t_test",
        "A t-test of two groups (--by), of pairs (--second) or of one mean.",
        (
            number(),
            BY,
            Parameter("second", "The number that is subtracted from the first, person by person."),
            Parameter(
                "kind", "Default: welch with --by.", ("welch", "student", "paired", "one-sample")
            ),
            LEVELS,
            Parameter("mu", "The mean or difference under the null hypothesis; default 0.", float),
            SIDE,
            CONFIDENCE,
        ),
    ),
    Command(
        "anova",
        "One-way analysis of variance.",
        (
            number(),
            Parameter("by", "Groups: a category or boolean; default: the institutions."),
            Parameter("kind", "Default: classical.", ("classical", "welch")),
        ),
    ),
    Command(
        "levene",
        "Are the variances of groups equal? Brown and Forsythe's test, or Levene's own.",
        (number(), GROUPS, Parameter("centre", "Default: median.", ("mean", "median"))),
    ),
    Command(
        "normality",
        "Tests of normality from moments, and a histogram.",
        (
            number(),
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
        (number("A number or date."), GROUPS, LEVELS, SIDE, CONFIDENCE),
    ),
    Command(
        "kruskal",
        "Kruskal-Wallis test: have all groups the same distribution?",
        (number("A number or date."), GROUPS),
    ),
    Command(
        "ks",
        "Kolmogorov-Smirnov test: have two groups the same distribution?",
        (number("A number or date."), GROUPS, LEVELS, SIDE),
    ),
    Command(
        "correlation",
        "Pearson's correlations with intervals; partial ones with --given.",
        (
            VARIABLES,
            Parameter("given", "Held constant; several times.", list[str]),
            Parameter("missing", "Default: complete.", ("complete", "pairwise")),
            CONFIDENCE,
        ),
    ),
    Command(
        "spearman",
        "Spearman's correlations of ranks with intervals.",
        (VARIABLES, CONFIDENCE),
    ),
    Command(
        "pca",
        "Principal components: explained variance and weights.",
        (
            VARIABLES,
            Parameter("scale", "Of the correlation matrix (default), or of covariances.", bool),
            Parameter("components", "How many, the largest first; default: all.", int),
        ),
    ),
    Command(
        "meta_effect",
        "An effect between two groups at each institution, combined over institutions.",
        (
            Parameter("variable", "A number, or an outcome.", argument=True),
            GROUPS,
            Parameter(
                "effect",
                "Of the first group to the second.",
                ("mean-difference", "smd", "odds-ratio", "risk-ratio", "risk-difference"),
                required=True,
            ),
            LEVELS,
            EVENT_LEVEL,
            *POOLING,
        ),
    ),
)
