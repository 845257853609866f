"""How close to the pooled analysis: CNSIM in three sites, statsmodels and numpy beside.

    python -m benchmarks.exactness

Needs the CNSIM data (DataSHIELD) in ``../shared/data/cnsim``.
"""

from __future__ import annotations

import pandas as pd
import statsmodels.api as sm
import statsmodels.formula.api as smf
from benchmarks.common import print_header, print_table
from tests.support.shared_data import shared_data

import cohortium as co

FORMULAS = [
    ("DIS_DIAB ~ GENDER * PM_BMI_CONTINUOUS + LAB_HDL", "binomial", sm.families.Binomial()),
    ("LAB_TSC ~ LAB_TRIG", "gaussian", sm.families.Gaussian()),
    ("DIS_DIAB ~ LAB_TRIG + LAB_HDL", "poisson", sm.families.Poisson()),
]


def frames() -> dict[str, pd.DataFrame]:
    """The three studies; header names carry trailing spaces, the first column is a row number."""
    folder = shared_data("cnsim")
    out = {}
    for number in (1, 2, 3):
        frame = pd.read_csv(folder / f"CNSIM{number}.csv", index_col=0)
        out[f"CNSIM{number}"] = frame.rename(columns=str.strip)
    return out


def main() -> None:
    """Print one row for each number that is compared."""
    sites = frames()
    pooled = pd.concat(sites.values(), ignore_index=True)
    print_header("Exactness against the pooled analysis, CNSIM, 3 sites")
    rows: list[list[str]] = []

    def compare(what: str, ours: float, theirs: float) -> None:
        gap = abs(ours - theirs) / max(abs(theirs), 1e-300)
        rows.append([what, f"{ours:.12g}", f"{theirs:.12g}", f"{gap:.1e}"])

    with co.local(sites) as federation:
        study = federation.study()
        row = study.describe(["LAB_TSC"]).to_frame().iloc[0]
        values = pooled["LAB_TSC"].dropna()
        compare("LAB_TSC n", row["n"], len(values))
        compare("LAB_TSC missing", row["missing"], pooled["LAB_TSC"].isna().sum())
        compare("LAB_TSC mean", row["mean"], values.mean())
        compare("LAB_TSC variance", row["variance"], values.var())
        hdl = study.describe(["LAB_HDL"]).to_frame().iloc[0]
        compare("LAB_HDL median", hdl["median"], pooled["LAB_HDL"].median())
        for formula, family, reference_family in FORMULAS:
            fit = study.glm(formula, family=family)
            reference = smf.glm(formula, pooled.dropna(), family=reference_family)
            used = pooled.dropna(subset=[n for n in pooled if n in formula])
            reference = smf.glm(formula, used, family=reference_family).fit(tol=1e-14)
            compare(f"{formula} ({family}): n", fit.nobs, reference.nobs)
            compare("  deviance", fit.deviance, reference.deviance)
            for term in reference.params.index:
                compare(f"  {term} coefficient", fit.params[term], reference.params[term])
                compare(f"  {term} standard error", fit.bse[term], reference.bse[term])
    print_table(["quantity", "federated", "pooled", "relative difference"], rows)
    worst = max(float(row[3]) for row in rows)
    print(f"largest relative difference from numpy and statsmodels: {worst:.1e}")


if __name__ == "__main__":
    main()
