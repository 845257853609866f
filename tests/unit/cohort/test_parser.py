from __future__ import annotations

import pytest

from cohortium.cohort.parser import as_date, parse
from cohortium.cohort.syntax import Node
from cohortium.errors import InputError


def refused(text: str) -> InputError:
    with pytest.raises(InputError) as caught:
        parse(text)
    assert caught.value.code == "bad-criterion"
    return caught.value


def test_a_comparison_becomes_a_node_that_knows_its_place() -> None:
    node = parse("  age >= 18")
    assert node == Node(">=", (Node("name", value="age"), Node("number", value=18)))
    assert [arg.at for arg in node.args] == [2, 9]


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("a=1 and b=2", "(a = 1)\n AND\t(b = 2)"),
        ("a != 1", "a <> 1"),
        ("x not in (1,2)", "NOT x IN (1, 2)"),
        ("x not like 'a%'", "NOT (x LIKE 'a%')"),
        ("x IS NOT NULL", "NOT (x IS NULL)"),
        ("CASE s WHEN 'f' THEN 1 END", "case when s = 'f' then 1 else null end"),
        ("-(3)", "-3"),
        ('"order" > 1', "order > 1"),
        ("1.0", "1."),
    ],
)
def test_ways_to_write_the_same_give_the_same(text: str, same: str) -> None:
    assert parse(text) == parse(same)


@pytest.mark.parametrize("name", ["time", "group", "select", "date", "year", "status", "order"])
def test_words_of_sql_are_names_unless_this_language_needs_them(name: str) -> None:
    assert parse(f"{name} > 1").args[0] == Node("name", value=name)


def test_and_binds_before_or_and_not_after_comparison() -> None:
    assert parse("a OR b AND c").op == "or"
    assert parse("NOT a = b") == parse("NOT (a = b)")
    assert parse("a + b * c = d").args[0].args[1].op == "*"


@pytest.mark.parametrize(
    ("text", "position", "says"),
    [
        ("", 0, "missing"),
        ("age >", 5, "missing"),
        ("age > 18 AND", 12, "missing"),
        ("age 18", 4, "'18'"),
        ("age > 'x", 6, "not closed"),
        ("age; DROP TABLE persons", 3, "';'"),
        ("age > 1 -- and so on", 8, "comment"),
        ("age /* all */ > 1", 4, "comment"),
        ("a > (SELECT max(a) FROM t)", 15, "'('"),
        ("EXISTS (SELECT 1)", 15, "'1'"),
        ("a IN (SELECT 1)", 13, "'1'"),
        ("CAST(a AS INT) = 1", 7, "'AS'"),
        ("a::int = 1", 1, "'::'"),
        ("t.a = 1", 1, "'.'"),
        ("a % 2 = 0", 2, "'%'"),
        ("a || b = 'x'", 2, "'||'"),
        ("a[1] = 2", 0, "not understood"),
        ("a LIKE 'x' ESCAPE '!'", 11, "'ESCAPE'"),
        ("SUM(a) OVER (PARTITION BY b) > 1", 13, "'PARTITION BY'"),
        ("a IN ()", 0, "IN needs a list"),
        ("a IS 3", 5, "NULL, TRUE or FALSE"),
        ("`a` = 1", 0, "'`'"),
        ("$1 = a", 0, "'$1'"),
        ("@a = 1", 0, "'@'"),
        ("{{ a }} = 1", 0, "'{'"),
        ("病 = 1", 0, "'病'"),
        ("a = 1\x00", 5, "character"),
        ("a = '\u202e'", 5, "character"),
        ("1e999 < a", 0, "too large"),
        ("DATE '2021-02-30' < d", 5, "not a date"),
        ("(1, 2) = a", 1, "not understood"),
    ],
)
def test_whatever_is_not_allowed_is_refused_where_it_stands(
    text: str, position: int, says: str
) -> None:
    error = refused(text)
    assert error.details["position"] == position
    assert says in error.message


def test_the_message_points_at_the_place() -> None:
    assert refused("age >= 18\n  AND age % 2 = 0").message.splitlines()[1:] == [
        "    AND age % 2 = 0",
        "            ^ (character 20)",
    ]
    wide = refused("s = '病' AND ;").message.splitlines()
    assert wide[2].index("^") == len("  s = '病' AND ;") - 1 + 1  # one character, two columns


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5000 + "a" + ")" * 5000,
        "(" * 900 + "a" + ")" * 900,
        "NOT " * 400 + "a",
        "- " * 900 + "a = 1",
        "CASE WHEN a THEN " * 100 + "1" + " END" * 100,
        "f(" * 600 + "a" + ")" * 600,
        "a = " * 400 + "a",
        "1 + " * 400 + "a > 1",
        "a IN (" + ", ".join("1" * 3 for _ in range(1200)) + ")",
        "[" * 500,
        "'" * 1999,
    ],
)
def test_what_is_deep_or_long_is_refused(text: str) -> None:
    refused(text)


def test_the_limit_of_depth_is_the_languages_own_and_not_the_stacks() -> None:
    assert parse("(" * 12 + "a" + ")" * 12) == Node("name", value="a")
    for text in ("(" * 13 + "a" + ")" * 13, "NOT " * 14 + "a", "CASE WHEN a THEN " * 13 + "1"):
        assert refused(text).message.startswith("More than 12 brackets")


def test_long_lists_of_codes_and_long_chains_are_read() -> None:
    codes = ", ".join(f"'C{n}'" for n in range(250))
    assert len(parse(f"dx IN ({codes})").args) == 251
    assert len(parse(" AND ".join(f"x{n} > 1" for n in range(120))).args) == 120


def test_dates_are_iso_and_exist() -> None:
    assert (as_date("1970-01-02"), as_date("1969-12-31")) == (1, -1)
    assert as_date("2021-02-29") is as_date("21-02-01") is as_date("2021-2-1") is None
