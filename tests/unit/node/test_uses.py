"""What a steward sees of the uses of the site's data."""

from __future__ import annotations

import time

import pandas as pd
import pytest

import cohortium as co
from cohortium.inprocess.federation import LocalFederation
from cohortium.node.uses import uses


def frame(seed: int) -> pd.DataFrame:
    levels = ["a"] * 20 + ["b"] * 20 + ["c"]
    return pd.DataFrame({"age": range(30 + seed, 71 + seed), "kind": levels, "few": [1, *[0] * 40]})


def newest(fed: LocalFederation, last: int = 5) -> list[dict[str, object]]:
    return uses(fed._consortium.sites[0].store, last)


def test_each_use_says_who_what_over_whom_and_how_it_ended() -> None:
    with co.local({"north": frame(0), "south": frame(3)}, categories=["kind"]) as fed:
        study = fed.study()
        assert newest(fed) == []
        described = study.describe(["age", "kind"])
        with pytest.raises(co.PolicyRefusal) as refusal:
            study.glm("few ~ age", family="binomial")
        while "refused" not in newest(fed)[0]:  # until the end has come into the site's ledger
            time.sleep(0.01)
        second, first = newest(fed)
        (only,) = newest(fed, last=1)
    assert only == second
    assert (first["study"], first["computation"], first["researcher"]) == (
        "local",
        "stats.describe",
        "You",
    )
    assert (first["status"], first["sites"]) == ("succeeded", ["north", "south"])
    assert first["suppressed"] == len(described.suppressed) == 1
    assert first["params"] == {"variables": ["age", "kind"], "quantiles": [0.25, 0.5, 0.75]}
    assert (second["status"], second["refused"]) == ("failed", refusal.value.code)
    assert refusal.value.code == "too-few-persons"
