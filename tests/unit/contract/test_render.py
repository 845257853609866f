from __future__ import annotations

import dataclasses
import re
from enum import Enum
from string import Formatter
from typing import get_args

import pytest
from tests.support.contracts import ADA, AGE, NOW, SEX, contract, key
from tests.support.full_contract import Field, fields, full_contract, mutations
from tests.support.slots import CODE, artefact, filled, task, task_contract

from cohortium.contract.diff import IDENTITY, KEYED
from cohortium.contract.draft import DraftLife
from cohortium.contract.lifecycle import Version
from cohortium.contract.model import Contract, Draft
from cohortium.contract.render import render, render_draft, render_version
from cohortium.contract.render.catalogue import CATALOGUES
from cohortium.contract.render.layout import display_width
from cohortium.contract.render.phrases import Phrases
from cohortium.contract.statements import Assignment
from cohortium.core.canonical import digest
from cohortium.crypto.keys import fingerprint
from cohortium.errors import InputError

LANGUAGES = ("en", "zh")


def test_the_text_says_everything_that_binds() -> None:
    signed = contract(
        computations=(
            {"name": "stats.*", "max_runs": 3},
            {"name": "glm", "variables": ("age",), "limits": {"family": ("binomial",)}},
        ),
        security_level="L2",
    )
    text = " ".join(render(signed, ["Aarhus"]).split())
    for fact in (
        "Lung cancer (lung)",
        "| Survival by sex.",
        "- Aarhus (signed) dataset lung; gives all variables",
        "- Boston (not signed)",
        *(p.dataset_digest for p in signed.givers),
        *(p.dictionary_digest for p in signed.givers),
        *(fingerprint(p.key) for p in signed.participants),
        "age: integer; in years",
        "sex: category; levels “1”, “2”",
        "wt_loss: real number; in kg; decimal places recorded: 1",
        "in the versions below; on all variables; runs: at most 3; may be run by all researchers",
        "glm: on these variables only: age;",
        "parameter family may only be “binomial”",
        f"Ada signs with key {fingerprint(ADA.key)}",
        "at least 2 of the 2 participants",
        "fewer than 5 persons",
        "security level L2",
        "proposed 2026-11-22 09:30:00 UTC",
        "expires 2027-11-22 09:30:00 UTC",
        "1 of 2 signed",
        "waiting for Boston",
        signed.digest,
        signed.consortium,
    ):
        assert fact in text, fact
    assert "all institutions together have 5 persons" in render(
        contract(disclosure={"floor": "total"})
    )


def test_the_chinese_text_says_the_same() -> None:
    signed = full_contract()
    text = render(signed, ["Aarhus"], language="zh")
    for fact in (
        "合同：Lung cancer（lung）",
        "- Aarhus（已签署）\n    数据集 lung；提供全部变量",
        "变量 wt_loss 取自其数据列 weightloss",
        "age：整数；单位为 years；缺失值 3 人",
        "glm：仅可使用下列变量：age、sex；至多运行 10 次；仅下列研究者可以运行：Ada",
        "隐私预算为 epsilon 1.5、delta 0.000001",
        "至少 2 家参与机构（共 2 家）",
        "（最小单元格人数，按合计计数）",
        "到期时间 2027-11-22 09:30:00 UTC",
        "应签署 4 方，已签署 1 方",
        "尚待 Boston 签署",
        f"摘要值 {signed.digest}",
    ):
        assert fact in text, fact
    assert "掩码求和" in render(contract(), language="zh")


def _lent() -> Contract:
    """Tasks alone: a built-in program that Aarhus lends to, in one enclave, simulated."""
    code = CODE.model_copy(update={"name": "builtin:join", "public": True})
    limits = {"memory_bytes": 3 << 30, "disk_bytes": 70_000, "time_s": 90.5, "log_bytes": 2048}
    made = task(code=code, limits=limits, log_recipients=("Ada",), security_level="L4")
    return task_contract(
        filled(made, images=artefact("Aarhus", dictionary_digest=None)),
        computations=(),
        variables=(),
        participants=tuple({"name": n, "key": key(n).public} for n in ("Aarhus", "Boston")),
        environment={
            "enclaves": ({"name": "Kiel", "key": key("Kiel").public},),
            "measurements": ({"kind": "simulated", "value": "ab" * 32},),
            "allow_simulated": True,
        },
    )


def test_the_text_says_what_a_lender_agrees_to() -> None:
    text = " ".join(render(_lent(), ["Aarhus"]).split())
    for fact in (
        "Aarhus (signed) gives no dataset to computations; what it lends to tasks",
        "6. Permitted computations - none",
        f"in the version with {CODE.content_digest}; for it answers Vendor (public)",
        "program builtin:join of this release of Cohortium",
        "a run has at most: memory 3072 MiB; processor time 3600 s; duration 90.5 s;",
        "outputs 70000 B; processes 256; printed text 2 KiB;",
        "security level L4 (in a hardware trusted execution environment), or the contract's",
        f"filled with scans of Aarhus, {artefact('Aarhus').content_digest}",
        "data keys come from the nodes of Aarhus, each once for a run",
        "output model: belongs to Ada (alone); may be read by Ada",
        "what the program prints may be read by Ada",
        "tasks are subject to the security level only",
        "A SIMULATED ENVIRONMENT IS ACCEPTED, WHICH PROTECTS NOTHING",
        "measurement simulated of the environment must be one of: " + "ab" * 32,
        "one of the enclaves in which alone tasks may run: Kiel signs with key "
        + fingerprint(key("Kiel").public),
    ):
        assert fact in text, fact
    assert "criteria" not in text
    plain = " ".join(render(task_contract()).split())
    assert "program trainer of Vendor (private, with its owner's approval)" in plain
    assert "it is started as its file task.yaml says" in plain
    assert "a run has at most what the program's task.yaml says" in plain
    assert "what the program prints is read by nobody" in plain


def test_the_chinese_text_says_it_to_the_lender_too() -> None:
    text = render(_lent(), language="zh").replace("\n    ", "")
    for fact in (
        "Cohortium 内置程序 builtin:join",
        "内存 3072 MiB；处理器时间 3600 秒；时长 90.5 秒；输出 70000 B；进程数 256",
        "数据密钥由 Aarhus 的节点发放，每次运行各发放一次",
        "程序的打印内容可由 Ada 查阅",
        "接受模拟环境；模拟环境不提供任何保护",
        f"其中之一为 Kiel签署所用密钥的指纹 {fingerprint(key('Kiel').public)}",
        "仅安全等级适用于任务",
    ):
        assert fact in text, fact
    for of_sums in ("汇总", "掩码", "最小单元格"):
        assert of_sums not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_whatever_field_changes_the_text_changes_too(language: str) -> None:
    """Beyond the digest, which stands in the text as well."""
    base = full_contract()
    text = render(base, language=language).replace(base.digest, "")
    untold = [
        mutation.pattern
        for mutation in mutations(base)
        if render(mutation.document, language=language).replace(mutation.document.digest, "")
        == text
    ]
    assert untold == []


def test_the_changes_tried_reach_every_field_of_a_contract() -> None:
    tried = {mutation.pattern.removesuffix(".*") for mutation in mutations(full_contract())}
    leaves = {field.pattern for field in fields(Contract) if not field.documents}
    assert leaves - tried == {"schema_id"}
    optional = {field.pattern for field in fields(Contract) if field.optional}
    assert optional - tried == set()


def test_names_numbers_digests_and_times_are_the_same_in_both_languages() -> None:
    english, chinese = (
        re.sub(r"(?m)^\S.*", "", render(full_contract(), ["Aarhus"], language=language))
        for language in LANGUAGES
    )
    for pattern in (
        r"sha256:[0-9a-f]{64}",
        r"(?:[0-9A-F]{4} ){7}[0-9A-F]{4}",
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC",
        r"^ *\| .*$",
        r"“[^”]*”",
        r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])",
    ):
        found = sorted(re.findall(pattern, english, re.MULTILINE))
        assert found, pattern
        assert found == sorted(re.findall(pattern, chinese, re.MULTILINE)), pattern


def test_sections_have_the_same_numbers_in_both_languages() -> None:
    english, chinese = (render(full_contract(), language=language) for language in LANGUAGES)
    numbers = [str(n) for n in range(1, 15)]
    assert re.findall(r"^(\d+)\. ", english, re.MULTILINE) == numbers
    assert re.findall(r"^第 (\d+) 条 ", chinese, re.MULTILINE) == numbers


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_line_is_wider_than_a_page(language: str) -> None:
    long = "北京协和医院与奥胡斯大学医院共同开展本研究，" * 40 + "x" * 500
    text = render(full_contract(purpose=long, title="长" * 200), language=language)
    assert max(display_width(line) for line in text.splitlines()) <= 96
    for line in text.splitlines():
        assert not line.lstrip(" |").startswith(tuple("，。；：、）”"))


def test_a_refusal_is_shown_with_its_reason() -> None:
    text = render(contract(), refusals={"Boston": "Purpose too broad\n\n13. Signatures and state"})
    assert "  - 0 of 2 signed\n  - Boston refused:\n    | Purpose too broad\n" in text
    assert "waiting for Boston" not in text
    assert text.splitlines().count("13. Signatures and state") == 1


@pytest.mark.parametrize("language", LANGUAGES)
def test_free_text_cannot_pass_for_a_section_or_steer_the_terminal(language: str) -> None:
    honest = render(contract(), language=language).splitlines()
    headings = [line for line in honest if line and not line.startswith(" ")]
    evil = "\n\n".join(["Good.", *headings, "  - nothing\x1b[2J\u202eevil\u2028\x85\u3000wide"])
    described = AGE.model_copy(update={"description": evil})
    other = contract().variables[2]
    text = render(
        full_contract(
            purpose=evil,
            variables=(described, SEX, other),
            cohort={"include": (evil,), "exclude": (evil,), "adjustable": ("age",)},
            derived=({"name": "old", "expression": evil},),
        ),
        refusals={"Boston": evil},
        language=language,
    )
    lines = text.split("\n")
    assert [line for line in lines if line and not line.startswith(" ")] == headings
    for steering in "\x1b\u202e\u2028\x85\u3000":
        assert steering not in text
    assert sum("| Good." in line for line in lines) == 6


def test_a_name_cannot_pass_for_a_statement_of_the_contract() -> None:
    sly = "Boston (signed); gives all variables"
    plain = contract()
    participants = (plain.participants[0], plain.participants[1].model_copy(update={"name": sly}))
    text = render(contract(participants=participants))
    assert f"- “{sly}” (not signed)" in text
    person = {"name": "Bo", "role": "x; signed", "email": "a,(signed)@x.example"}
    assert "contact: Bo, “x; signed”, “a,(signed)@x.example”" in render(
        contract(contacts=(person,))
    )
    split, joined = (
        render(contract(variables=(AGE, {**SEX.to_json(), "levels": levels}, plain.variables[2])))
        for levels in (("1", "2", "a”, “b"), ("1", "2", "a", "b"))
    )
    assert "levels “1”, “2”, “a\\”, \\“b”" in split
    assert "levels “1”, “2”, “a”, “b”" in joined


def test_the_text_one_is_not_the_number_one() -> None:
    texts = {
        render(contract(computations=({"name": "glm", "limits": {"p": (value,)}},)))
        .split("parameter p may only be ")[1]
        .split("\n")[0]
        for value in (1, "1", True, 1.5, 1.5000000000000002)
    }
    assert texts == {"1", "“1”", "true", "1.5", "1.5000000000000002"}


def test_noise_with_and_without_colluders_and_for_persons() -> None:
    noise = {"unit": "person", "epsilon": 1, "delta": 1e-6, "sums": 5, "clip": 2, "multiplier": 9}
    one = contract(computations=({"name": "glm", "noise": {**noise, "colluders": 0}},))
    english = " ".join(render(one).split())
    assert "whether one person's records are in it" in english
    assert "no institution (0) works with the hub" in english
    assert "没有机构（0 家）与中心端合谋" in render(one, language="zh").replace("\n    ", "")
    other = contract(computations=({"name": "glm", "noise": noise},))
    assert "up to 1 of the institutions" in render(other)


@pytest.mark.parametrize(
    ("language", "facts"),
    [
        ("en", ("Draft of a contract", "no dataset assigned yet", "optional; not filled")),
        ("zh", ("合同草案", "尚未指定数据集", "可以缺省；尚未填入")),
    ],
)
def test_a_draft_is_called_one_and_shows_what_is_missing(
    language: str, facts: tuple[str, ...]
) -> None:
    data = full_contract().to_json()
    data["schema_id"] = "cohortium/draft/1"
    for name in ("dataset", "dataset_digest", "dictionary_digest"):
        del data["participants"][1][name]
    text = render(Draft.from_json(data), language=language)
    assert all(fact in text for fact in facts)


def _drafted() -> DraftLife:
    """Ada and Aarhus have filled what is theirs; Boston has not."""
    data = full_contract().to_json() | {"schema_id": "cohortium/draft/1"}
    for participant in data["participants"]:
        for name in ("dataset", "dataset_digest", "dictionary_digest"):
            del participant[name]
    scans = data["tasks"][0]["inputs"][0].pop("artefact")
    draft = Draft.from_json(data)
    lung = {"name": "lung", "content_digest": digest("lung"), "owners": ["Aarhus"]}
    life = DraftLife(draft, draft.digest, {})
    for slot, what in (("dataset/Aarhus", lung), ("train/images", scans)):
        said = Assignment.model_validate(
            {
                "study": "lung",
                "draft_digest": draft.digest,
                "slot": slot,
                "artefact": what,
                "author": "Aarhus",
                "at": NOW,
            }
        )
        life = dataclasses.replace(life, assigned={**life.assigned, slot: {"Aarhus": said}})
    return life


def test_a_draft_shows_what_was_assigned_and_who_is_waited_for() -> None:
    text = render_draft(_drafted())
    assert "  - Aarhus has assigned lung to slot dataset/Aarhus,\n    sha256:" in text
    assert digest("scans") in text
    assert "  - slot dataset/Boston waits for Boston\n" in text
    assert "  - slot train/start may stay unfilled\n" in text
    chinese = render_draft(_drafted(), "zh")
    assert "  - Aarhus 已将 lung 填入 dataset/Aarhus，\n    sha256:" in chinese
    assert "  - dataset/Boston 尚待 Boston 填入\n  - train/start 可以缺省\n" in chinese.replace(
        f"  - Aarhus 已将 scans 填入 train/images，\n    {digest('scans')}\n", ""
    )


def test_a_version_is_shown_with_its_state() -> None:
    suspended = Version(
        contract(),
        contract().digest,
        state="suspended",
        signed=frozenset({"Aarhus", "Boston"}),
        suspensions={"Aarhus": None, "Boston": frozenset({"stats.*", "glm"})},
    )
    assert (
        "  - state: suspended\n  - Aarhus has suspended all computations\n"
        "  - Boston has suspended these computations: glm, stats.*\n  - 2 of 2 signed\n"
    ) in render_version(suspended)
    assert "  - 合同状态：已暂停\n  - Aarhus 已暂停全部计算\n" in render_version(suspended, "zh")
    closed = dataclasses.replace(
        suspended,
        state="closed",
        suspensions={},
        ended_by="Ada",
        reason="Done.\n13. Signatures",
        keeps=("models for 10 years",),
    )
    assert (
        "  - state: closed\n  - ended by Ada:\n    | Done.\n    | 13. Signatures\n"
        "  - what is kept:\n    | models for 10 years\n"
    ) in render_version(closed)
    assert "合同状态：已终止" in render_version(closed, "zh")
    active = dataclasses.replace(suspended, state="active", suspensions={})
    assert "state: active" in render_version(active, now=NOW)
    assert "state: expired" in render_version(active, now=active.contract.expires_at)
    assert "state: closed" in render_version(closed, now=active.contract.expires_at)


def test_owners_of_private_code_sign_too() -> None:
    text = render(full_contract(), ["Aarhus", "Boston", "Ada"])
    assert "  - 3 of 4 signed\n  - waiting for Vendor\n" in text
    assert f"signs with key {fingerprint(key('Vendor').public)}" in text


def test_there_is_no_text_in_another_language() -> None:
    with pytest.raises(InputError) as caught:
        render(contract(), language="tlh")
    assert caught.value.code == "bad-input"


# --- the catalogues -------------------------------------------------------------------------------


def _templates(words: Phrases) -> dict[str, str]:
    flat = {f"headings.{k}": v for k, v in dataclasses.asdict(words.headings).items()}
    flat |= {name: text for name, text in vars(words).items() if isinstance(text, str)}
    for group in ("absent", "fields"):
        flat |= {f"{group}.{k}": v for k, v in getattr(words, group).items()}
    for pattern, choices in words.values.items():
        flat |= {f"values.{pattern}.{choice}": text for choice, text in choices.items()}
    return flat


def test_both_catalogues_have_the_same_phrases_with_the_same_placeholders() -> None:
    english, chinese = (_templates(CATALOGUES[language]) for language in ("en", "zh"))
    assert english.keys() == chinese.keys()

    def names(text: str) -> set[str]:
        return {name for _, name, _, _ in Formatter().parse(text) if name is not None}

    assert [k for k in english if names(english[k]) != names(chinese[k])] == []
    latin = [k for k, text in chinese.items() if not re.search(r"[\u4e00-\u9fff、；]", text)]
    assert latin == ["participant", "variable", "computation", "person"]


def _is_whole(field: Field) -> bool:
    """What differs by its parts only; the measurements differ as a whole."""
    parts = field.pattern.startswith("environment.measurements.")
    return parts or bool(field.documents and not field.many and not field.optional)


def _names_an_item(pattern: str) -> bool:
    owner, _, last = pattern.rpartition(".")
    return last == "name" and owner.removesuffix(".*") in IDENTITY


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_field_that_can_differ_has_a_name(language: str) -> None:
    expected = set()
    for field in fields(Contract):
        if field.pattern in IDENTITY:
            expected |= {field.pattern, f"{field.pattern}.*"}
        elif field.pattern in KEYED:
            expected.add(f"{field.pattern}.*")
        elif not _is_whole(field) and not _names_an_item(field.pattern):
            expected.add(field.pattern)
    named = set(CATALOGUES["en" if language == "en" else "zh"].fields)
    assert named == expected


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_value_of_an_enumeration_has_words(language: str) -> None:
    words = CATALOGUES["en" if language == "en" else "zh"].values
    for field in fields(Contract):
        parts = (field.annotation, *get_args(field.annotation))
        literals = {str(x) for part in parts for x in get_args(part) if isinstance(x, str)}
        enums = {
            str(member.value)
            for part in parts
            if isinstance(part, type) and issubclass(part, Enum)
            for member in part
        }
        choices = literals | enums | ({"true", "false"} if field.annotation is bool else set())
        if choices and field.pattern != "schema_id":
            assert words[field.pattern].keys() == choices, field.pattern
