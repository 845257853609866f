"""Heart disease in four hospitals: Detrano et al. 1989, from the UCI repository."""

from __future__ import annotations

from tests.support.frames import table_of
from tests.support.shared_data import shared_data

from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table


def hospitals() -> list[Table]:
    """Complete cases without slope, ca and thal."""
    variables = [
        Variable(name=name, type=VariableType.REAL) for name in ("trestbps", "chol", "thalach")
    ]
    variables += [Variable(name=name, type=VariableType.INTEGER) for name in ("age", "sex")]
    variables += [Variable(name=name, type=VariableType.INTEGER) for name in ("exang", "disease")]
    variables.append(Variable(name="oldpeak", type=VariableType.REAL))
    tables = []
    for site in ("cleveland", "hungarian", "switzerland", "va"):
        path = shared_data("uci-heart") / f"processed.{site}.data"
        lines = path.read_text(encoding="utf-8").splitlines()
        names = [name.strip() for name in lines[0].split(",")]
        rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:] if line]
        wanted = [name for name in names if name not in {"slope", "ca", "thal"}]
        rows = [row for row in rows if all(row[name] != "?" for name in wanted)]
        columns = {
            v.name: [float(row[v.name]) for row in rows] for v in variables if v.name in names
        }
        columns["disease"] = [float(int(row["num"]) > 0) for row in rows]
        tables.append(table_of(variables, columns))
    return tables
