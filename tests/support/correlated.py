"""Sites with correlated numbers, for tests of correlations and what follows from them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from tests.support.frames import split

from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.limits import Disclosure

NAMES = ("u", "v", "w", "k")
VARIABLES = {
    name: Variable(name=name, type=VariableType.INTEGER if name == "k" else VariableType.REAL)
    for name in NAMES
}

disclosures = st.builds(
    Disclosure, min_cell=st.sampled_from([1, 5]), floor=st.sampled_from(["site", "total"])
)


@st.composite
def tables(draw: st.DrawFn, scales: tuple[float, ...]) -> list[Table]:
    """Two to four sites, variables of odd scales far from 0, missing values, a rare class."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.integers(0, 90), min_size=2, max_size=4))
    n = sum(sizes)
    mixed = random.normal(size=(n, 3)) @ random.normal(size=(3, 3))
    scale = draw(st.sampled_from(scales))
    columns = {
        "u": mixed[:, 0] * scale + draw(st.sampled_from([0.0, 1e4])) * scale,
        "v": mixed[:, 1],
        "w": mixed[:, 2] + 100,
        "k": 1.0 + (random.uniform(size=n) < draw(st.sampled_from([0.0, 0.03, 0.5]))),
    }
    for column in columns.values():
        column[random.uniform(size=n) < draw(st.sampled_from([0.0, 0.1]))] = np.nan
    return split(Table(VARIABLES, columns), sizes)
