"""dictionary.yaml: round trip, and an error with its place for each fault."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortium.core.dictionary import Variable, VariableType
from cohortium.errors import InputError
from cohortium.node.dictionary_file import read_dictionary, write_dictionary
from cohortium.node.infer import InferredColumn


def no_levels(_header: str, _recode: Mapping[str, str | None]) -> Sequence[str]:
    return ("found",)


def test_what_is_written_is_read_back() -> None:
    variables = (
        Variable(name="LAB_TSC", type=VariableType.REAL, decimals=3, missing=7, source="LAB_TSC "),
        Variable(
            name="sex",
            type=VariableType.CATEGORY,
            levels=("yes", "1", "null", "a: b", "#x", "女", "'"),
            missing=0,
            source="",
        ),
        Variable(name="index", type=VariableType.INTEGER, missing=0, source="列: #1"),
    )
    columns = [InferredColumn(v.source or v.name, v, ("One.", "Two\nlines: [")) for v in variables]
    text = write_dictionary("heart", "a\nfile", 10, columns)
    assert read_dictionary(text, no_levels).dictionary.variables == variables
    assert "# Two lines: [" in text.decode()
    assert "cohortium data confirm heart" in text.decode()


def test_the_steward_s_own_yaml() -> None:
    text = b"""
variables:
- {name: a, type: category, levels: [0, 1, true, 2.5], recode: {-9: null, 3: 1}}
- name: b
  source: B b
  type: category
  recode: {x: y}
- {name: c, type: real, unit: mmol/l, description: Serum}
"""
    seen: list[tuple[str, Mapping[str, str | None]]] = []

    def levels_of(header: str, recode: Mapping[str, str | None]) -> Sequence[str]:
        seen.append((header, recode))
        return ("p", "q")

    declared = read_dictionary(text, levels_of)
    a, b, c = declared.dictionary.variables
    assert a.levels == ("0", "1", "true", "2.5")
    assert b.levels == ("p", "q")
    assert seen == [("B b", {"x": "y"})]
    assert (c.unit, c.description) == ("mmol/l", "Serum")
    assert declared.recode == {"a": {"-9": None, "3": "1"}, "b": {"x": "y"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("variables:\n- name: [\n", "line 3"),
        ("variables:\n- name: a\n  name: b\n", "line 3"),
        ("", "one key"),
        ("[]", "one key"),
        ("variables: []\nmore: 1", "one key"),
        ("variables: 3", "list of entries"),
        ("variables: []", "variables"),
        ("variables:\n- 3", "entry 1 has no `name`"),
        ("variables:\n- {type: real}", "entry 1 has no `name`"),
        ("variables:\n- {name: a b, type: real}", "a b.name"),
        ("variables:\n- {name: a, type: float}", "a.type"),
        ("variables:\n- {name: a, type: real, extra: 1}", "a.extra"),
        ("variables:\n- {name: a, type: real, levels: [x]}", "declares its levels"),
        ("variables:\n- {name: a, type: category, levels: [x, x]}", "twice"),
        ("variables:\n- {name: a, type: integer, decimals: 2}", "only a real"),
        ("variables:\n- {name: a, type: real, recode: [1]}", "recode"),
        ("variables:\n- {name: a, type: real}\n- {name: A, type: real}", "same name"),
        ("\xff", "not valid YAML"),
        ("variables: !!python/object:os.system [x]", "line 1"),
        (
            "variables:\n- {name: a, type: real}\n- {name: bmi, type: reel}",
            "dictionary.yaml: bmi.type: must be one of integer, real",
        ),
    ],
)
def test_faults_are_placed(text: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        read_dictionary(text.encode("latin-1"), no_levels)
    assert caught.value.code == "bad-data"
    assert words in caught.value.message


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_give_our_error_or_a_dictionary(text: bytes) -> None:
    for candidate in (text, b"variables:\n- " + text):
        with contextlib.suppress(InputError):
            read_dictionary(candidate, no_levels)
