"""Made-up customers of a bank and a credit bureau: bank.csv and bureau.csv.

python customers.py OUT [--customers 4000] [--seed 1]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd


def make(out: Path, customers: int, seed: int) -> None:
    """Each institution has a tenth of customers that the other does not know."""
    random = np.random.default_rng(seed)
    ids = random.permutation(10 * customers)[:customers]
    income, debt, late, age = random.normal(size=(4, customers))
    odds = -1.5 - 0.7 * income + 0.6 * debt + 0.9 * late - 0.3 * age
    unpaid = (random.random(customers) < 1 / (1 + np.exp(-odds))).astype(int)
    bank = pd.DataFrame({"id": ids, "y": unpaid, "income": income, "age": age})
    bureau = pd.DataFrame({"id": ids, "debt": debt, "late": late})
    bureau.loc[random.random(customers) < 0.05, "late"] = np.nan
    out.mkdir(parents=True, exist_ok=True)
    tenth = customers // 10
    bank[tenth:].to_csv(out / "bank.csv", index=False, float_format="%.4f")
    bureau[:-tenth].sample(frac=1, random_state=seed).to_csv(
        out / "bureau.csv", index=False, float_format="%.4f"
    )


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description="Made-up customers of a bank and a bureau.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--customers", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    make(asked.out, asked.customers, asked.seed)


if __name__ == "__main__":
    main()
