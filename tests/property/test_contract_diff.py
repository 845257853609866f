"""The difference of any two contracts says all of it, and nothing of what is the same."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.support.contracts import ADA, CONSORTIUM, NOW, key

from cohortium.contract.diff import apply, diff
from cohortium.contract.model import Contract
from cohortium.contract.render import render, render_diff
from cohortium.contract.render.layout import display_width, wrap
from cohortium.core.canonical import digest

NAMES = ("age", "sex", "wt_loss")
PEOPLE = ("Ada", "Eve")


def maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def some(names: tuple[str, ...], least: int = 1) -> st.SearchStrategy[list[str]]:
    """Some of the names in any order."""
    return st.lists(st.sampled_from(names), min_size=least, unique=True)


def subsets(items: dict[str, st.SearchStrategy[Any]], least: int = 0) -> st.SearchStrategy[Any]:
    """A document for some of the names, in any order."""
    return some(tuple(items), least).flatmap(lambda names: st.tuples(*(items[n] for n in names)))


def documents(name: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A document whose fields that are None are left out."""
    return st.fixed_dictionaries(fields).map(
        lambda made: {"name": name, **{k: v for k, v in made.items() if v is not None}}
    )


SCALARS = st.sampled_from([0, 1, 1.0, 0.5, True, False, "1", "true", "a”, “b"])
NOISE = st.fixed_dictionaries(
    {
        "unit": st.sampled_from(["institution", "person"]),
        "epsilon": st.sampled_from([1, 2.5]),
        "delta": st.just(1e-6),
        "sums": st.integers(1, 3),
        "clip": st.sampled_from([1.0, 1.5]),
        "colluders": st.integers(0, 1),
        "multiplier": st.sampled_from([5.0, 7.5]),
    }
)
COMPUTATIONS = {
    name: documents(
        name,
        variables=maybe(some(NAMES, 0)),
        max_runs=maybe(st.integers(0, 2)),
        limits=st.dictionaries(st.sampled_from(["family", "p"]), st.lists(SCALARS, max_size=3)),
        noise=maybe(NOISE),
        versions=st.dictionaries(
            st.just("stats.describe" if name == "stats.*" else name), st.integers(1, 2)
        ),
        recipients=maybe(some(PEOPLE)),
    )
    for name in ("glm", "stats.*", "stats.describe")
}
ARGUMENTS = {
    name: documents(name, required=st.booleans(), value=maybe(SCALARS)) for name in ("n", "seed")
}
TASKS = {
    name: documents(
        name,
        code=st.fixed_dictionaries(
            {"name": st.just("code"), "content_digest": st.sampled_from([digest(1), digest(2)])}
        ).map(lambda code: {**code, "owner": "Ada"}),
        arguments=subsets(ARGUMENTS),
        outputs=st.just([{"name": "model", "owners": ["Ada"], "recipients": ["Ada"]}]),
        max_runs=maybe(st.integers(0, 2)),
        security_level=maybe(st.sampled_from(["L1", "L4"])),
    )
    for name in ("train", "test")
}
PARTICIPANTS = {
    name: documents(
        name,
        key=st.just(key(name).public),
        dataset=st.just("lung"),
        dataset_digest=st.sampled_from([digest(1), digest(2)]),
        dictionary_digest=st.just(digest(3)),
        variables=st.permutations(NAMES),
        sources=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(["col", "spalte"])),
    )
    for name in ("Aarhus", "Boston", "Chicago", "Delhi")
}
CONTACTS = st.lists(
    documents(
        "Bo",
        role=st.sampled_from(["a", "b"]),
        email=st.sampled_from(["a@x.example", "b@x.example"]),
    )
    | documents("Cy", role=st.just("c"), email=st.just("c@x.example")),
    max_size=3,
)
ENVIRONMENT = st.fixed_dictionaries(
    {
        "measurements": st.lists(
            st.sampled_from(
                [{"kind": kind, "value": v * 32} for kind in ("mrtd", "pcr4") for v in ("ab", "cd")]
            ),
            max_size=3,
        ),
        "tcb_states": st.lists(st.sampled_from(["UpToDate", "OutOfDate"]), unique=True),
        "allow_simulated": st.booleans(),
    }
)
CRITERIA = st.lists(st.sampled_from(["age > 1", "age > 2\n\nsex = '1'"]), max_size=2)
COHORT = st.fixed_dictionaries({"include": CRITERIA, "exclude": CRITERIA})
VARIABLES = {
    "age": documents("age", type=st.just("integer"), unit=maybe(st.just("years"))),
    "sex": documents("sex", type=st.just("category"), levels=st.permutations(["1", "2"])),
    "wt_loss": documents(
        "wt_loss",
        type=st.just("real"),
        decimals=maybe(st.integers(0, 2)),
        description=maybe(st.text(min_size=1, max_size=20)),
    ),
}
CONTRACTS = (
    st.fixed_dictionaries(
        {
            "title": st.sampled_from(["Lung", "肺癌研究"]),
            "purpose": st.sampled_from(["Survival", "Other\n\n1. Purpose"]),
            "contacts": CONTACTS,
            "cohort": maybe(COHORT),
            "derived": st.lists(
                documents("old", expression=st.sampled_from(["age > 1", "age > 2"])), max_size=1
            ),
            "variables": subsets(VARIABLES, 3),
            "computations": subsets(COMPUTATIONS, 1),
            "tasks": subsets(TASKS),
            "participants": subsets(PARTICIPANTS, 2),
            "recipients": st.permutations(
                [{"name": name, "key": key(name).public} for name in PEOPLE]
            ),
            "security_level": st.sampled_from(["L1", "L3"]),
            "environment": maybe(ENVIRONMENT),
            "aggregation": st.sampled_from(["masked", "enclave"]),
            "disclosure": st.fixed_dictionaries(
                {"min_cell": st.integers(1, 3), "floor": st.sampled_from(["site", "total"])}
            ),
            "expires_at": st.sampled_from([NOW + timedelta(days=n) for n in (1, 2)]),
        }
    )
    .map(
        lambda terms: {
            "study": "lung",
            "min_sites": 2,
            "consortium": CONSORTIUM,
            "proposed_by": ADA,
            "created_at": NOW,
            **terms,
        }
    )
    .map(Contract.model_validate)
)

SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much]


@settings(max_examples=150, deadline=None, suppress_health_check=SLOW)
@given(CONTRACTS, CONTRACTS)
def test_changes_are_empty_exactly_for_the_same_contract_and_lead_to_the_other(
    old: Contract, new: Contract
) -> None:
    changes = diff(old, new)
    assert (changes == ()) == (old.digest == new.digest)
    assert apply(old, changes).to_bytes() == new.to_bytes()
    assert len({change.path for change in changes}) == len(changes)
    assert diff(new, new) == ()
    back = {c.path: c.effect for c in diff(new, old) if c.kind != "reordered"}
    assert back.keys() == {c.path for c in changes if c.kind != "reordered"}
    for change in changes:
        if change.effect == "stricter":
            assert back[change.path] == "looser", change


@settings(max_examples=40, deadline=None, suppress_health_check=SLOW)
@given(CONTRACTS, CONTRACTS, st.sampled_from(["en", "zh"]))
def test_contracts_that_differ_have_texts_that_differ(
    old: Contract, new: Contract, language: str
) -> None:
    texts = [render(one, language=language) for one in (old, new)]
    assert (texts[0] == texts[1]) == (old.digest == new.digest)
    text = render_diff(old, new, language)
    marks = text.count("[LOOSENS PROTECTION]") + text.count("【放宽保护】")
    assert marks == sum(change.effect == "looser" for change in diff(old, new))


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=300)
    | st.text(alphabet="ab ，。“（中文1", max_size=300)
    | st.text(alphabet="ab ", max_size=300),
    st.integers(10, 40),
)
@example("a" * 60, 20)
def test_lines_are_never_wider_than_asked_and_lose_only_spaces(text: str, width: int) -> None:
    lines = wrap(text, "  - ", "    ", width)
    assert all(display_width(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)
    shown = "".join(line[4:] for line in lines).replace(" ", "")
    assert [c for c in shown if c in text] == [c for c in text if c in shown and c != " "]
