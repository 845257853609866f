from __future__ import annotations

from typing import Any

import pytest
from tests.support.contracts import (
    ADA,
    AGE,
    CONSORTIUM,
    NOW,
    SEX,
    WT_LOSS,
    directory,
    entry,
    key,
)

from cohortium.contract.model import Contract, Draft, Participant, Proposal, Seat
from cohortium.contract.proposal import read_proposal, resolve, resolve_draft
from cohortium.core.clock import to_rfc3339
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.directory import DirectoryEntry
from cohortium.errors import InputError

TEXT = """\
study: lung
title: Lung cancer
purpose: Survival by sex.
participants:
  - name: Aarhus
    dataset: lung
  - name: Boston
    dataset: lung
variables: [age, sex, wt_loss]
computations:
  - name: stats.*
  - name: glm
    variables: [age, sex]
    limits: {family: [binomial]}
recipients: [Ada]
min_sites: 2
expires_at: 2027-11-22T09:30:00Z
"""


def edited(**changes: str) -> str:
    """`TEXT` with the line that begins with each key replaced."""
    lines = TEXT.splitlines()
    for start, new in changes.items():
        lines = [f"{start}: {new}" if line.startswith(f"{start}:") else line for line in lines]
    return "\n".join(lines)


def make(text: str = TEXT, members: dict[str, DirectoryEntry] | None = None) -> Contract:
    return resolve(
        read_proposal(text),
        directory() if members is None else members,
        consortium=CONSORTIUM,
        researcher=ADA,
        users={"Ada": ADA.key},
        versions={"stats.describe": 1, "glm": 1},
        now=NOW,
    )


def refused(text: str = TEXT, members: dict[str, DirectoryEntry] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        make(text, members)
    assert caught.value.code == "bad-proposal"
    return caught.value.message


def test_names_become_keys_digests_and_types() -> None:
    made = make()
    members = directory()
    assert [v.model_dump() for v in made.variables] == [v.model_dump() for v in (AGE, SEX, WT_LOSS)]
    for participant in made.givers:
        assert participant.key == key(participant.name).public
        published = members[participant.name].dataset("lung")
        assert published is not None
        assert participant.dataset_digest == published.content_digest
        assert participant.variables == ("age", "sex", "wt_loss")
        assert participant.sources == {}
    assert made.recipients == (ADA,)
    assert made.proposed_by == ADA
    assert made.consortium == CONSORTIUM
    assert made.created_at == NOW
    assert make().digest == made.digest


def test_a_column_of_another_name_is_found_through_sources() -> None:
    members = directory()
    weight = WT_LOSS.model_copy(update={"name": "verlust"})
    members["Boston"] = entry("Boston", AGE, SEX, weight)
    assert "no column 'wt_loss'" in refused(members=members)
    text = TEXT.replace(
        "  - name: Boston\n",
        "  - name: Boston\n    sources: {wt_loss: verlust, age: age}\n",
    )
    assert make(text, members).participants[1].sources == {"wt_loss": "verlust"}


def test_a_participant_may_give_only_some_variables() -> None:
    members = directory()
    members["Boston"] = entry("Boston", AGE)
    text = TEXT.replace("  - name: Boston\n", "  - name: Boston\n    variables: [age]\n")
    made = make(text, members)
    assert made.participants[1].variables == ("age",)
    assert [v.name for v in made.variables] == ["age", "sex", "wt_loss"]


def test_levels_are_united_in_the_order_first_seen() -> None:
    members = directory()
    wider = Variable(name="sex", type=VariableType.CATEGORY, levels=("3", "2"))
    members["Boston"] = entry("Boston", AGE, wider, WT_LOSS)
    assert make(members=members).variables[1].levels == ("1", "2", "3")
    text = edited(variables="[age, {name: sex, levels: [2, 1, 3]}, wt_loss]")
    assert make(text, members).variables[1].levels == ("2", "1", "3")
    narrow = edited(variables="[age, {name: sex, levels: [1, 2]}, wt_loss]")
    assert "sex has levels at Boston not declared: 3" in refused(narrow, members)


def test_integer_and_real_give_real_and_the_finest_decimals() -> None:
    members = directory()
    whole = Variable(name="wt_loss", type=VariableType.INTEGER, unit="kg")
    members["Boston"] = entry("Boston", AGE, SEX, whole)
    made = make(members=members).variables[2]
    assert (made.type, made.decimals, made.unit) == (VariableType.REAL, 1, "kg")
    continuous = Variable(name="wt_loss", type=VariableType.REAL)
    members["Boston"] = entry("Boston", AGE, SEX, continuous)
    made = make(members=members).variables[2]
    assert (made.decimals, made.unit) == (None, "kg")


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (Variable(name="age", type=VariableType.BOOLEAN), "integer at Aarhus; boolean at Boston"),
        (
            Variable(name="age", type=VariableType.INTEGER, unit="months"),
            "years at Aarhus; months at Boston",
        ),
    ],
)
def test_what_the_sites_differ_on_is_said(column: Variable, says: str) -> None:
    members = directory()
    members["Boston"] = entry("Boston", column, SEX, WT_LOSS)
    assert says in refused(members=members)


def test_a_declared_type_must_be_readable_from_every_column() -> None:
    text = edited(variables="[{name: age, type: real, decimals: 0}, sex, wt_loss]")
    assert make(text).variables[0].type is VariableType.REAL
    text = edited(variables="[age, sex, {name: wt_loss, type: integer}]")
    assert "wt_loss is integer in the study but real at Aarhus" in refused(text)
    text = edited(variables="[{name: age, unit: months}, sex, wt_loss]")
    assert "months in the study; years at Aarhus" in refused(text)
    text = edited(variables="[{name: age, decimals: 2}, sex, wt_loss]")
    assert "only a real has decimals" in refused(text)


def test_free_text_is_refused() -> None:
    note = Variable(name="note", type=VariableType.TEXT)
    members = {site: entry(site, AGE, SEX, WT_LOSS, note) for site in ("Aarhus", "Boston")}
    assert "note is free text" in refused(edited(variables="[age, sex, wt_loss, note]"), members)


def test_a_run_needs_all_sites_unless_the_proposal_says_fewer() -> None:
    members = {site: entry(site, AGE, SEX, WT_LOSS) for site in ("Aarhus", "Boston", "Cairo")}
    three = TEXT.replace("variables:", "  - {name: Cairo, dataset: lung}\nvariables:", 1)
    assert make(three, members).min_sites == 2
    assert make(three.replace("min_sites: 2\n", ""), members).min_sites == 3


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TEXT.replace("name: Boston", "name: Cairo"), "'Cairo' is not a member"),
        (TEXT.replace("dataset: lung", "dataset: heart"), "no confirmed dataset 'heart'"),
        (edited(recipients="[Eve]"), "no researcher Eve"),
        (edited(variables="[age, sex, wt_loss, zip]"), "no column 'zip'"),
        (edited(expires_at="2026-11-22"), None),
        (edited(expires_at="2026-11-21"), "expired at 2026-11-21T23:59:59Z"),
        (edited(min_sites="3"), "min_sites must lie between"),
        (TEXT.replace("name: Boston", "name: Aarhus"), "the same name"),
    ],
)
def test_names_that_do_not_fit_are_said(text: str, says: str | None) -> None:
    if says is None:
        make(text)
    else:
        assert says in refused(text)


def test_all_faults_are_said_at_once() -> None:
    text = edited(recipients="[Eve]", variables="[age, sex, wt_loss, zip]")
    message = refused(text)
    assert "Eve" in message
    assert "zip" in message


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("2027-11-22", "2027-11-22T23:59:59Z"),
        ("2027-11-22T09:30:00Z", "2027-11-22T09:30:00Z"),
        ("2027-11-22 09:30:00+01:00", "2027-11-22T08:30:00Z"),
        ("'2027-11-22T09:30:00Z'", "2027-11-22T09:30:00Z"),
    ],
)
def test_expiry_may_be_written_in_these_ways(written: str, meant: str) -> None:
    assert read_proposal(edited(expires_at=written)).to_json()["expires_at"] == meant


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("study: [", "Line 1: not valid YAML"),
        ("study: a\nstudy: b", "Line 2: not valid YAML: found duplicate key"),
        ("- study", "is a mapping"),
        ("", "is a mapping"),
        (edited(min_sites="two"), "line 16: min_sites"),
        (TEXT.replace("family: [binomial]", "family: binomial"), "line 14: computations.1.limits"),
        (TEXT.replace("    dataset: lung\n", "    data: lung\n", 1), "participants.0.data"),
        (TEXT + "colour: red\n", "line 18: colour: there is no such field"),
        (edited(expires_at="2027-11-22 09:30:00"), "the time has no zone"),
        (edited(expires_at="2027-13-22"), "month must be in 1..12"),
        (edited(variables="[age, AGE]"), "two variables have the same name"),
        (edited(study="&a [*a]"), "nested too deeply"),
        ("x" * 2_000_000, "too large"),
        ("!!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("[" * 5000, "not valid YAML"),
        ("\x00", "not valid YAML"),
    ],
)
def test_a_bad_file_is_refused_with_the_line(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        read_proposal(text)
    assert caught.value.code == "bad-proposal"
    assert says in caught.value.message


def test_a_proposal_is_a_document() -> None:
    proposal = read_proposal(TEXT)
    assert Proposal.from_bytes(proposal.to_bytes()) == proposal


def test_levels_that_yaml_reads_as_integers_are_text() -> None:
    read = read_proposal(edited(variables="[age, {name: sex, levels: [1, '2', yes]}, wt_loss]"))
    assert read.variables[1].levels == ("1", "2", "yes")


@pytest.mark.parametrize("written", ["2027-12-31", '"2027-12-31"', "'2027-12-31'"])
def test_a_study_ends_with_a_day_in_quotes_and_without(written: str) -> None:
    ends = read_proposal(edited(expires_at=written)).expires_at
    assert to_rfc3339(ends) == "2027-12-31T23:59:59Z"


def test_a_day_that_there_is_not_is_refused_with_its_line() -> None:
    assert "line 17: expires_at" in refused(edited(expires_at='"2027-02-30"'))


TASK = """
tasks:
  - name: train
    code: {name: trainer, content_digest: "sha256:%s", owner: Vendor}
    inputs:
      - {name: images, kind: dataset, owners: [Aarhus]}
      - {name: start, kind: model, owners: [Cairo], required: false}
    outputs:
      - {name: model, owners: [Ada], recipients: [Bob]}
""" % ("0" * 64)


def bound(text: str, **changes: Any) -> Draft:
    members = directory() | {"Cairo": entry("Cairo", AGE)}
    around: dict[str, Any] = {
        "consortium": CONSORTIUM,
        "researcher": ADA,
        "users": {name: key(name).public for name in ("Ada", "Bob", "Vendor")},
        "versions": {"stats.describe": 1, "glm": 1},
        "now": NOW,
    }
    return resolve_draft(read_proposal(text), members, **(around | changes))


def test_computations_get_the_versions_of_what_they_cover() -> None:
    family, glm = make().computations
    assert (family.versions, glm.versions) == ({"stats.describe": 1}, {"glm": 1})
    given = TEXT.replace("  - name: stats.*\n", "  - {name: stats.*, versions: {stats.other: 3}}\n")
    assert make(given).computations[0].versions == {"stats.other": 3}
    unknown = TEXT.replace("stats.*", "sites.own")
    assert "no analysis sites.own is installed here" in refused(unknown)


def test_who_owns_something_is_looked_up_among_researchers_and_members() -> None:
    made = bound(TEXT + TASK)
    assert {owner.name: owner.key for owner in made.owners} == {
        name: key(name).public for name in ("Bob", "Cairo", "Vendor")
    }
    with pytest.raises(InputError, match="neither a researcher nor a member 'Vendor'"):
        bound(TEXT + TASK, users={"Ada": ADA.key, "Bob": key("Bob").public})


def test_a_contract_needs_what_a_draft_may_leave_open() -> None:
    open_dataset = TEXT.replace("  - name: Boston\n    dataset: lung\n", "  - name: Boston\n")
    said = refused(open_dataset)
    assert "Boston gives no dataset; for it to choose one: cohortium study draft FILE" in said
    aarhus, boston = bound(open_dataset).participants
    assert isinstance(aarhus, Participant)
    assert type(boston) is Seat
    assert boston.variables == ("age", "sex", "wt_loss")
    with pytest.raises(InputError, match=r"train are unfilled: images; .* study draft F"):
        make(TEXT + TASK.replace("Vendor", "Ada").replace("Cairo", "Boston").replace("Bob", "Ada"))


def test_a_variable_without_a_dictionary_needs_a_type() -> None:
    nobody = TEXT.replace("    dataset: lung\n", "")
    with pytest.raises(InputError, match="give age a type"):
        bound(nobody)
    typed = nobody.replace(
        "variables: [age, sex, wt_loss]",
        "variables:\n  - {name: age, type: integer}\n  - {name: wt_loss, type: real}\n"
        "  - {name: sex, type: category, levels: [1, 2]}\n",
    )
    made = bound(typed)
    assert [(v.name, v.type.value) for v in made.variables][:2] == [
        ("age", "integer"),
        ("wt_loss", "real"),
    ]


def test_an_amendment_has_the_next_version_of_the_same_study() -> None:
    first = make()
    second = bound(TEXT, amends=first)
    assert (second.version, second.amends) == (2, first.digest)
    with pytest.raises(InputError, match="it amends lung, and is called other"):
        bound(edited(study="other"), amends=first)
