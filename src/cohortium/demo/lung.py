"""The NCCTG lung-cancer trial in four sites (Loprinzi et al. 1994; shipped with `lifelines`)."""

from __future__ import annotations

import pandas as pd

from cohortium.errors import InputError

SITES: dict[str, tuple[int, ...]] = {
    "Hospital North": (1, 2, 10, 33),
    "Hospital East": (12, 21, 5, 4),
    "Hospital South": (13, 3, 16, 26),
    "Hospital West": (11, 22, 6, 7, 15, 32),
}
"""Which of the trial's institutions make up each site; the person without one goes to the first."""

ONE_YEAR_DAYS = 365


def load() -> pd.DataFrame:
    """The trial, one row per person, names made legal, and death within one year.

    ``died_1y`` is 1 for a death on or before day 365, 0 for a person known to be alive after it,
    and missing for the 42 persons whose follow-up ended earlier without a death: their status at
    one year is not known, so that complete-case analyses leave them out.
    """
    try:
        from lifelines.datasets import load_lung
    except ImportError as error:
        raise InputError(
            "missing-extra", "The demonstration needs lifelines: pip install 'cohortium[demo]'"
        ) from error
    raw: pd.DataFrame = load_lung()
    frame = raw.rename(columns={"ph.ecog": "ph_ecog", "wt.loss": "wt_loss", "time": "time_days"})
    frame["sex"] = frame["sex"].map({1: "male", 2: "female"})
    frame["ph_ecog"] = frame["ph_ecog"].astype("Int64")
    frame["wt_loss"] = frame["wt_loss"].astype("Int64")
    died = (frame["time_days"] <= ONE_YEAR_DAYS) & (frame["status"] == 1)
    known = died | (frame["time_days"] > ONE_YEAR_DAYS)
    frame["died_1y"] = died.astype("Int64").where(known)
    return frame[["inst", "time_days", "status", "age", "sex", "ph_ecog", "wt_loss", "died_1y"]]


def by_site() -> dict[str, pd.DataFrame]:
    """The trial split by its institution column."""
    frame = load()
    site_of = {inst: site for site, numbers in SITES.items() for inst in numbers}
    site = frame["inst"].map(site_of).fillna(next(iter(SITES)))
    columns = frame.columns.drop("inst")
    return {name: frame.loc[site == name, columns].reset_index(drop=True) for name in SITES}
