"""Regression, prediction and causes, as commands."""

from __future__ import annotations

from typing import Final

from cohortium.cli.commands.command import (
    CONFIDENCE,
    EVENT_LEVEL,
    POOLING,
    Command,
    Parameter,
)

COMMANDS: Final = (
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
            EVENT_LEVEL,
            Parameter("strata", "With a baseline hazard of its own; several times.", list[str]),
            Parameter("offset", "A number added to the linear predictor."),
            *POOLING,
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
            CONFIDENCE,
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
            CONFIDENCE,
        ),
    ),
)
