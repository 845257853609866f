"""A contract as text that a steward and an ethics board can read; it says everything that binds."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

from cohortium.contract.model import Computation, Contract, Participant
from cohortium.contract.noise import Noise
from cohortium.core.clock import to_rfc3339
from cohortium.core.dictionary import Variable
from cohortium.crypto.keys import fingerprint

_WIDTH: Final = 96


def render(
    contract: Contract,
    signatures: Iterable[str] = (),
    refusals: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The contract in plain English.

    Args:
        signatures: Names of the participants that have signed it.
        refusals: Reasons of those that refused it, by name.
    """
    signed, proposer = set(signatures), contract.proposed_by.key
    names = [participant.name for participant in contract.participants]
    progress = f"{sum(name in signed for name in names)} of {len(names)} signed"
    sections: dict[str, list[str]] = {
        "Participants and what they give": [
            _participant(p, contract, p.name in signed) for p in contract.participants
        ],
        "Variables": [_variable(variable) for variable in contract.variables],
        "Permitted computations": [_computation(entry) for entry in contract.computations],
        "Who may run them and read the results": [
            f"{researcher.name}; key {fingerprint(researcher.key)}"
            for researcher in contract.recipients
        ],
        "Protection": _protection(contract),
        "Time": [
            f"proposed {to_rfc3339(contract.created_at)} with key {fingerprint(proposer)}",
            f"expires {to_rfc3339(contract.expires_at)}",
        ],
        "Signatures": [
            progress,
            *(f"{name} refused: {reason}" for name, reason in refusals.items()),
            *(f"waiting for {name}" for name in names if name not in {*signed, *refusals}),
        ],
    }
    lines = [f"{contract.title} ({contract.study})", *_quoted(contract.purpose)]
    for heading, items in sections.items():
        lines += ["", heading]
        for item in items:
            lines += _wrap(item, "  - ")
    lines += ["", f"Digest      {contract.digest}", f"Consortium  {contract.consortium}"]
    return "\n".join(_printable(line) for line in lines) + "\n"


def _quoted(text: str) -> list[str]:
    """Free text behind bars, so that it cannot pass for a section of ours."""
    return [f"| {line}".rstrip() for line in _wrap(text, "")]


def _wrap(text: str, bullet: str) -> list[str]:
    """Lines of at most `_WIDTH`; the text's own line ends stay, only the first gets the bullet."""
    indent = " " * len(bullet)
    return [
        line
        for number, part in enumerate(text.strip().split("\n"))
        for line in textwrap.wrap(
            part,
            _WIDTH,
            initial_indent=indent if number else bullet,
            subsequent_indent=indent,
            break_on_hyphens=False,
            break_long_words=False,
        )
        or [""]
    ]


def _printable(text: str) -> str:
    """Without control and direction characters: a contract must not steer the reader's terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _participant(participant: Participant, contract: Contract, signed: bool) -> str:
    everything = set(participant.variables) == {v.name for v in contract.variables}
    given = "all variables" if everything else ", ".join(participant.variables)
    renamed = [f"{name} from its column {col}" for name, col in participant.sources.items()]
    facts = [f"dataset {participant.dataset}", given, *renamed]
    return "\n".join(
        [
            f"{participant.name} ({'signed' if signed else 'not signed'}): {'; '.join(facts)}",
            f"content {participant.dataset_digest}",
            f"key {fingerprint(participant.key)}",
        ]
    )


def _variable(variable: Variable) -> str:
    facts = [variable.type.value]
    if variable.unit is not None:
        facts.append(f"in {variable.unit}")
    if variable.decimals is not None:
        facts.append(f"{variable.decimals} decimals")
    if variable.levels is not None:
        facts.append(f"levels {', '.join(variable.levels)}")
    if variable.missing is not None:
        facts.append(f"{variable.missing} missing")
    about = f" - {' '.join(variable.description.split())}" if variable.description else ""
    return f"{variable.name}: {'; '.join(facts)}{about}"


def _computation(entry: Computation) -> str:
    facts = []
    if entry.variables is None:
        facts.append("all variables")
    else:
        facts.append(f"only {', '.join(entry.variables) or 'no variables'}")
    if entry.max_runs is not None:
        facts.append(f"at most {entry.max_runs} runs")
    for name, values in entry.limits.items():
        facts.append(f"{name} only {', '.join(str(value) for value in values) or 'nothing'}")
    family = " (every computation of this family)" if entry.name.endswith(".*") else ""
    return "\n".join([f"{entry.name}{family}: {'; '.join(facts)}", *_noise(entry.noise)])


def _noise(noise: Noise | None) -> list[str]:
    if noise is None:
        return []
    if noise.unit == "institution":
        protected = (
            "whether an institution's whole contribution is in it, or zeros in its place; each "
            f"site cuts its contribution down to norm {noise.clip:g}"
        )
    else:
        protected = (
            f"whether one person's records are in it; the computation adds norm {noise.clip:g} "
            "at most for each person"
        )
    against = "working with the hub against the others"
    holds = (
        f"with up to {noise.colluders} of the sites {against}"
        if noise.colluders
        else f"with none of the sites {against}"
    )
    size = f"{noise.multiplier or 0:g} times norm {noise.clip:g}"
    budget = f"epsilon {noise.epsilon:g} and delta {noise.delta:g}, enough for {noise.sums} sums"
    return [
        f"every sum carries noise, of at least {size}, that hides {protected}",
        f"the budget for this is {budget}; then each site refuses further ones",
        f"this holds {holds}; the budgets of several computations and contracts add up",
    ]


def _protection(contract: Contract) -> list[str]:
    persons = contract.disclosure.min_cell
    floor = {
        "site": f"a site with fewer than {persons} persons in a group adds nothing to that group",
        "total": f"a number is released only where all sites together have {persons} persons",
    }
    parties = f"at least {contract.min_sites} of the {len(contract.participants)} participants"
    return [
        f"each run is a sum over {parties}; the hub sees no site's own contribution",
        floor[contract.disclosure.floor],
        f"computations run at security level {contract.security_level}",
    ]
