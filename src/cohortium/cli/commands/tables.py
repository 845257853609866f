"""Tables of persons, and who is in them, as commands."""

from __future__ import annotations

from typing import Final

from cohortium.cli.commands.command import (
    BY,
    CONFIDENCE,
    CORRECTION,
    ROUNDING,
    VARIABLES,
    Command,
    Parameter,
)

COMMANDS: Final = (
    Command(
        "table_one",
        "Table 1: characteristics overall and by groups, with p and standardised differences.",
        (
            VARIABLES,
            BY,
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
        (VARIABLES, Parameter("by", "Groups: a category or boolean.", required=True)),
    ),
    Command(
        "crosstab",
        "Persons by the levels of one or two variables, with tests and measures.",
        (
            Parameter("row", "A category or boolean.", argument=True),
            Parameter("column", "Another, with which the tests come."),
            ROUNDING,
            CONFIDENCE,
        ),
    ),
    Command(
        "cmh",
        "Cochran-Mantel-Haenszel test and common odds ratio of two by two tables.",
        (
            Parameter("row", "A category or boolean of two levels.", argument=True),
            Parameter("column", "Another.", argument=True),
            Parameter("strata", "A category or boolean; default: each institution is a stratum."),
            CORRECTION,
            CONFIDENCE,
        ),
    ),
    Command(
        "mcnemar",
        "McNemar's test: has a binary variable changed?",
        (
            Parameter("before", "A boolean or category of two levels.", argument=True),
            Parameter("after", "Another with the same levels.", argument=True),
            CORRECTION,
            CONFIDENCE,
        ),
    ),
    Command(
        "attrition",
        "How many persons remain after each --include and --exclude.",
        (
            ROUNDING,
            Parameter("by_site", "Each institution too; the contract must allow it.", bool),
        ),
    ),
    Command(
        "missing",
        "How many persons lack each variable, and which they lack together.",
        (
            Parameter("variables", "Default: all.", list[str], argument=True, absent=True),
            BY,
            Parameter("patterns", "What is missing together; default: of up to 8.", bool),
        ),
    ),
)
