"""A scorecard and boosted trees over the customers that a bank and a credit bureau share.

The bank has ``id,y,...`` (y: 1 where a customer did not pay), the bureau ``id,...``. Each output
is for one of them, or, the report, for both; none has a column or a customer of the other. Who
is scored learns nothing here: a customer's points would tell the bank of the bureau's columns.

python train.py --bank FILE --bureau FILE --report DIR --for-bank DIR --for-bureau DIR
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scorecard import Scorecard
from sklearn.metrics import roc_auc_score, roc_curve

HELD_OUT = 0.3


def main() -> None:
    """Join, fit, test, and write for each what is for it."""
    asked = _arguments()
    bank = pd.read_csv(asked.bank).set_index("id").add_prefix("bank.")
    bureau = pd.read_csv(asked.bureau).set_index("id").add_prefix("bureau.")
    if not (bank.index.is_unique and bureau.index.is_unique):
        raise SystemExit("An id stands twice.")
    joined = bank.join(bureau, how="inner").sort_index()
    unpaid = joined.pop("bank.y").to_numpy()
    random = np.random.default_rng(asked.seed)
    tested = random.random(len(joined)) < HELD_OUT
    learnt, test = joined[~tested], joined[tested]

    card = Scorecard.fit(learnt, unpaid[~tested])
    alone = [name for name in map(str, joined) if name.startswith("bank.")]
    card_alone = Scorecard.fit(learnt[alone], unpaid[~tested])
    risk = {"scorecard": card.risk(test), "scorecard_of_the_bank_alone": card_alone.risk(test)}
    if asked.trees:
        risk["trees"] = boosted(learnt, unpaid[~tested], test, asked.trees, asked.seed)
    measured = {name: quality(unpaid[tested], value) for name, value in risk.items()}
    report = {
        "customers": len(joined),
        "of_the_bank": len(bank),
        "tested_on": int(tested.sum()),
        "base_points": card.base_points,
        **measured,
    }
    for folder in (asked.report, asked.for_bank, asked.for_bureau):
        folder.mkdir(parents=True, exist_ok=True)
    (asked.report / "metrics.json").write_text(json.dumps(report, indent=2) + "\n")
    points = card.points()
    for owner, folder in (("bank", asked.for_bank), ("bureau", asked.for_bureau)):
        own = points[points.column.str.startswith(f"{owner}.")]
        own = own.assign(column=own.column.str.removeprefix(f"{owner}."))
        own.to_csv(folder / "scorecard.csv", index=False, float_format="%.10g")
    for name, one in measured.items():
        print(name, " ".join(f"{what} {value:.4f}" for what, value in one.items()))


def boosted(
    learnt: pd.DataFrame, unpaid: NDArray[np.int64], test: pd.DataFrame, trees: int, seed: int
) -> NDArray[np.float64]:
    """The risk by XGBoost."""
    import xgboost

    model = xgboost.XGBClassifier(
        n_estimators=trees,
        max_depth=4,
        learning_rate=0.06,
        subsample=0.8,
        colsample_bytree=0.8,
        min_child_weight=20,
        tree_method="hist",
        n_jobs=2,
        random_state=seed,
    )
    model.fit(learnt, unpaid)
    found: NDArray[np.float64] = model.predict_proba(test)[:, 1].astype(float)
    return found


def quality(unpaid: NDArray[np.int64], risk: NDArray[np.float64]) -> dict[str, float]:
    """Area under the ROC curve, and Kolmogorov and Smirnov's distance of the two groups."""
    false, true, _ = roc_curve(unpaid, risk)
    auc, ks = roc_auc_score(unpaid, risk), (true - false).max()
    return {"auc": round(float(auc), 4), "ks": round(float(ks), 4)}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Credit scoring by two institutions.")
    parser.add_argument("--bank", type=Path, required=True, metavar="FILE")
    parser.add_argument("--bureau", type=Path, required=True, metavar="FILE")
    for name in ("report", "for-bank", "for-bureau"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--trees", type=int, default=150, help="0: without XGBoost")
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


if __name__ == "__main__":
    main()
