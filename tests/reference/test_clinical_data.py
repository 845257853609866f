"""Real clinical files, registered at a site, give the published counts and moments.

CNSIM: the simulated cardiovascular data of the DataSHIELD project (three studies, 9,379 persons).
UCI heart disease: Detrano et al. 1989 (303, 294, 123 and 200 persons); ``?`` is missing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.support.shared_data import shared_data

from cohortium.core.dictionary import Variable, VariableType
from cohortium.node.datasets import FolderDatasets


def test_cnsim(tmp_path: Path) -> None:
    folder = shared_data("cnsim")
    datasets = FolderDatasets(tmp_path)
    want = {
        name: Variable(name=name, type=VariableType.REAL)
        for name in ("LAB_TSC", "LAB_HDL", "PM_BMI_CONTINUOUS", "DIS_DIAB")
    }
    pooled: dict[str, list[np.ndarray[tuple[int], np.dtype[np.float64]]]] = {n: [] for n in want}
    for number in (1, 2, 3):
        datasets.add(f"CNSIM{number}", folder / f"CNSIM{number}.csv")
        dataset = datasets.confirm(f"CNSIM{number}")
        kinds = {v.name: v.type.value for v in dataset.dictionary.variables}
        assert kinds["index"] == "integer"
        assert kinds["GENDER"] == "integer"
        assert kinds["LAB_TSC"] == kinds["PM_BMI_CONTINUOUS"] == "real"
        assert dataset.dictionary.by_name["LAB_TSC"].source == "LAB_TSC "
        table = datasets.table(dataset.name, want, {}, str(dataset.digest))
        for name, column in table.columns.items():
            pooled[name].append(column)
    tsc = np.concatenate(pooled["LAB_TSC"])
    present = tsc[~np.isnan(tsc)]
    assert (len(tsc), len(present)) == (9379, 7825)
    assert present.mean() == pytest.approx(5.85192485623003, rel=1e-14)
    assert present.var(ddof=1) == pytest.approx(1.158384, rel=1e-6)
    assert np.nanmedian(np.concatenate(pooled["LAB_HDL"])) == pytest.approx(1.58)


@pytest.mark.parametrize(
    ("site", "n_rows", "missing_ca"),
    [("cleveland", 303, 4), ("hungarian", 294, 291), ("switzerland", 123, 118), ("va", 200, 198)],
)
def test_uci_heart(tmp_path: Path, site: str, n_rows: int, missing_ca: int) -> None:
    datasets = FolderDatasets(tmp_path)
    datasets.add(site, shared_data("uci-heart") / f"processed.{site}.data")
    dataset = datasets.confirm(site)
    assert dataset.n_rows == n_rows
    by_name = dataset.dictionary.by_name
    assert list(by_name)[:3] == ["age", "sex", "cp"]
    assert by_name["ca"].missing == missing_ca
    assert {by_name[name].type for name in ("age", "sex", "cp", "num")} == {VariableType.INTEGER}
    assert by_name["oldpeak"].decimals == 1
    want = {"sex": Variable(name="sex", type=VariableType.CATEGORY, levels=("0", "1"))}
    table = datasets.table(site, want, {}, str(dataset.digest))
    assert set(np.unique(table.columns["sex"])) <= {0, 1}
