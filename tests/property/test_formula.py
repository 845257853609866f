"""Any text is a formula or an InputError."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st

from cohortium.analysis.formula import parse
from cohortium.core.dictionary import Variable, VariableType
from cohortium.errors import InputError

VARIABLES = {
    "y": Variable(name="y", type=VariableType.REAL),
    "a": Variable(name="a", type=VariableType.REAL),
    "s": Variable(name="s", type=VariableType.CATEGORY, levels=("1", "2")),
}
WORDS = "y a s ~ + - * / ** ^ : ( ) { } [ ] I( C( log( exp( , . 1 0 2 1e9 '1' % in | & == :="
ODD = 'lambda __import__ if else for \\ ` @ ; # Treatment( a.b \u00e9 \u00b2 " \x00'
PIECES = st.sampled_from([*WORDS.split(), *ODD.split(" "), "\n"])


@settings(max_examples=400, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=14).map(" ".join)))
def test_any_text_is_a_formula_or_an_input_error(text: str) -> None:
    for formula in (text, "y ~ " + text):
        with contextlib.suppress(InputError):
            parsed = parse(formula, VARIABLES)
            assert len(set(parsed.names)) == len(parsed.names)
            assert parsed.variables <= set(VARIABLES)
