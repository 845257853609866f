from __future__ import annotations

import pytest
from tests.support.cohorts import VARIABLES

from cohortium.cohort.check import check, check_criterion
from cohortium.core.dictionary import Variable, VariableType
from cohortium.errors import InputError


def refused(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        check_criterion(text, VARIABLES)
    assert caught.value.code == "bad-criterion"
    return caught.value


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("agee > 18", 0, "Did you mean age?"),
        ("AGE > 18", 0, "Did you mean age?"),
        ("zip = 1", 0, "There are admitted, age, born"),
        ('sex = "f"', 6, "single quotes: 'f'"),
        ("sex = 'x'", 6, "sex has no level 'x'; it has 'f', 'm'"),
        ("stage IN ('I', 'iv')", 15, "no level 'iv'"),
        ("sex = 1", 6, "Its levels are texts: 'f', 'm'"),
        ("sex < 'm'", 0, "A category has no order"),
        ("sex = stage = 'f'", 14, "cannot be compared"),
        ("age = 'old'", 6, "age (a number) and the text 'old' cannot be compared"),
        ("age > sex", 6, "cannot be compared"),
        ("died = 1", 7, "Write died IS TRUE or died IS FALSE"),
        ("died > smoker", 0, "True or false has no order"),
        ("age + sex > 1", 6, "A number is needed here, and this is sex (a category)"),
        ("born + 30 > admitted", 0, "DATEDIFF(later, earlier)"),
        ("died + 1 > 1", 0, "CASE WHEN"),
        ("born > 'soon'", 7, "write '2020-01-31'"),
        ("born > 3", 7, "born (a date) and a number"),
        ("born > seen", 7, "cannot be compared"),
        ("seen > '2020-01-31 25:00'", 7, "is not a date and time"),
        ("DATEDIFF(day, born, admitted) > 3", 0, "takes two dates"),
        ("DATEDIFF(seen, born) > 3", 9, "takes dates"),
        ("age = NULL", 6, "write IS NULL"),
        ("age IN (1, NULL)", 11, "IN lists constants"),
        ("age IN (1, weight)", 11, "IN lists constants"),
        ("died IN (1)", 0, "IS TRUE"),
        ("age LIKE '1%'", 0, "LIKE is for categories"),
        ("sex LIKE sex", 9, "followed by a pattern"),
        ("sex BETWEEN 'f' AND 'm'", 0, "BETWEEN needs"),
        ("'f' = 'm'", 0, "no variable"),
        ("age AND died", 0, "must be true or false"),
        ("age", 0, "this is a number"),
        ("NULL", 0, "NULL for everybody"),
        ("LOG(age) > 1", 0, "LN(x) or LOG10(x)"),
        ("load_file('x') = 1", 0, "There is no function load_file"),
        ("ABS(age, 1) > 1", 0, "takes 1 arguments"),
        ("COALESCE(age) > 1", 0, "two or more"),
        ("COALESCE(age, 'x') > 1", 14, "All values must be of one type"),
        ("CASE WHEN died THEN 1 ELSE sex END = 1", 27, "the first is a number"),
        ("POWER(age, weight) > 1", 11, "exponent of POWER is a number"),
        ("POWER(age, 1000) > 1", 11, "at most 100"),
        ("LEAST(sex, stage) = 'f'", 6, "Numbers or dates"),
        ("cut(age, [65, 18]) = '[18, 65)'", 10, "rising edges"),
        ("cut(age, [18, age]) = 'x'", 10, "rising edges"),
        ("cut(age, [18, 65]) = 'young'", 21, "it has '[18, 65)'"),
        ("[1, 2] IS NULL", 1, "square brackets"),
        ("sex = ''", 6, "1 to 200"),
    ],
)
def test_what_does_not_fit_the_dictionary_is_refused_where_it_stands(
    text: str, position: int, says: str
) -> None:
    error = refused(text)
    assert error.details["position"] == position, error.message
    assert says in error.message


def test_free_text_cannot_be_read() -> None:
    note = {"note": Variable(name="note", type=VariableType.TEXT)}
    with pytest.raises(InputError, match="free text"):
        check_criterion("note = 'x'", note)


@pytest.mark.parametrize(
    ("text", "kind", "unit"),
    [
        ("age + 1", "integer", "years"),
        ("age - time", "integer", None),
        ("-age * 2", "integer", None),
        ("age / 2", "real", None),
        ("age + weight", "real", None),
        ("weight / (height * height)", "real", None),
        ("FLOOR(weight)", "integer", "kg"),
        ("ABS(weight)", "real", "kg"),
        ("LN(weight)", "real", None),
        ("POWER(age, 2)", "integer", None),
        ("POWER(age, 0.5)", "real", None),
        ("COALESCE(age, 0)", "integer", "years"),
        ("COALESCE(age, weight)", "real", None),
        ("GREATEST(born, admitted)", "date", None),
        ("COALESCE(born, '2000-01-01')", "date", None),
        ("DATEDIFF(admitted, born)", "integer", "days"),
        ("YEAR(born)", "integer", None),
        ("age > 18 OR died", "boolean", None),
        ("CASE WHEN died THEN time ELSE NULL END", "integer", "days"),
    ],
)
def test_the_type_and_unit_of_a_value_are_inferred(text: str, kind: str, unit: str | None) -> None:
    found = check(text, VARIABLES).type
    assert (found.kind, found.unit) == (kind, unit)


def test_a_category_has_its_levels_in_the_order_of_appearance() -> None:
    grown = check("CASE WHEN age > 65 THEN 'old' WHEN died THEN sex ELSE 'old' END", VARIABLES)
    assert grown.type.levels == ("old", "f", "m")
    cut = check("cut(age, [18, 45, 65.5])", VARIABLES)
    assert cut.type.levels == ("[18, 45)", "[45, 65.5)")


def test_a_pattern_is_decided_on_the_declared_levels() -> None:
    assert check_criterion("stage LIKE 'III_'", VARIABLES).value == ("IIIA", "IIIB")
    assert check_criterion("stage LIKE '%I'", VARIABLES).value == ("I", "II")
    assert check_criterion("stage LIKE 'i%'", VARIABLES).value == ()
    hostile = {"x": Variable(name="x", type=VariableType.CATEGORY, levels=("a" * 200,))}
    assert check_criterion(f"x LIKE '{'%a' * 400}b'", hostile).value == ()
