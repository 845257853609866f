from __future__ import annotations

from tests.support.contracts import ADA, AGE, SEX, contract

from cohortium.contract.render import render
from cohortium.crypto.keys import fingerprint


def test_the_text_says_everything_that_binds() -> None:
    signed = contract(
        computations=(
            {"name": "stats.*", "max_runs": 3},
            {"name": "glm", "variables": ("age",), "limits": {"family": ("binomial",)}},
        ),
        security_level="L2",
    )
    text = render(signed, ["Aarhus"])
    for fact in (
        "Lung cancer (lung)",
        "| Survival by sex.",
        "Aarhus (signed): dataset lung; all variables",
        "Boston (not signed)",
        *(p.dataset_digest for p in signed.participants),
        *(fingerprint(p.key) for p in signed.participants),
        "age: integer; in years",
        "sex: category; levels 1, 2",
        "wt_loss: real; in kg; 1 decimals",
        "stats.* (every computation of this family): all variables; at most 3 runs",
        "glm: only age; family only binomial",
        f"Ada; key {fingerprint(ADA.key)}",
        "at least 2 of the 2 participants",
        "fewer than 5 persons",
        "security level L2",
        "expires 2027-11-22T09:30:00Z",
        "1 of 2 signed",
        "waiting for Boston",
        signed.digest,
        signed.consortium,
    ):
        assert fact in text, fact
    assert "all sites together have 5 persons" in render(contract(disclosure={"floor": "total"}))


def test_a_refusal_is_shown_with_its_reason() -> None:
    text = render(contract(), refusals={"Boston": "Purpose too broad\n\nSignatures"})
    assert "  - 0 of 2 signed\n  - Boston refused: Purpose too broad\n" in text
    assert "waiting for Boston" not in text
    assert text.count("\nSignatures") == 1


def test_free_text_cannot_pass_for_a_section_or_steer_the_terminal() -> None:
    purpose = "Good.\n\nPermitted computations\n  - nothing\x1b[2J\u202eevil"
    described = AGE.model_copy(update={"description": "years\n\nSignatures\n  - all signed"})
    other = contract().variables[2]
    text = render(contract(purpose=purpose, variables=(described, SEX, other)))
    lines = text.splitlines()
    assert lines.count("Permitted computations") == 1
    assert lines.count("Signatures") == 1
    assert "| Permitted computations" in lines
    assert "\x1b" not in text
    assert "\u202e" not in text
