"""Verifying an audit bundle, offline and from public keys alone.

The steps are those of docs/evidence.md, under the same numbers. The first fact that does not hold
ends the verification; nothing that comes after it is said to hold.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from cohortium.analysis.builtin import find as find_builtin
from cohortium.audit.bundle import Bundle, parse_bundle
from cohortium.audit.completeness import Read, check_copy
from cohortium.audit.history import History, told
from cohortium.audit.keys import Appraise, check_keys
from cohortium.audit.log import (
    Logged,
    check_checkpoint,
    check_entries,
    check_log,
    founding,
)
from cohortium.audit.quorum import check_quorum
from cohortium.audit.run import Runs
from cohortium.audit.runs import (
    Find,
    check_releases,
    check_requests,
    check_results,
    check_rounds,
    check_sites,
)
from cohortium.audit.steps import STEPS, Facts, Unchecked
from cohortium.audit.study import check_contract, check_parties, check_statements
from cohortium.audit.tasks import Standing, check_outcomes
from cohortium.audit.timeline import Event, timeline
from cohortium.crypto.keys import fingerprint
from cohortium.ledger.entry import parse_entry

NO_RESULTS: Final[Mapping[str, bytes]] = MappingProxyType({})


@dataclass(frozen=True)
class Trust:
    """Keys that the auditor has from elsewhere, and believes.

    Attributes:
        keys: By name of institution or researcher; any of those of a name will do.
        log: The log's verifier key.
    """

    keys: Mapping[str, frozenset[str]] = field(default_factory=dict)
    log: str | None = None


@dataclass(frozen=True)
class Party:
    """A key that the evidence rests on; one that is not pinned has to be compared."""

    name: str
    role: str
    key: str
    pinned: bool

    def to_json(self) -> dict[str, object]:
        """JSON values."""
        shown = {"name": self.name, "role": self.role, "key": self.key}
        return {**shown, "fingerprint": fingerprint(self.key), "pinned": self.pinned}


@dataclass(frozen=True)
class Report:
    """What was shown.

    Attributes:
        consortium: Its name, and its fingerprint, which is to be compared like those of keys.
        size: Entries of the log at the checkpoint.
        complete: Whether all entries of the log were seen, so that none about the study is missing.
        checked: Facts by step.
        unchecked: What is neither known to hold nor not to: this verifier could not tell.
        unproven: Places of entries that nobody of the study has signed, and that count for nothing.
        results: Runs whose result file was compared.
    """

    study: str
    consortium: tuple[str, str]
    size: int
    complete: bool
    checked: Mapping[str, int]
    unchecked: tuple[Unchecked, ...]
    unproven: tuple[int, ...]
    events: tuple[Event, ...]
    parties: tuple[Party, ...]
    results: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "study": self.study,
            "consortium": {"name": self.consortium[0], "fingerprint": self.consortium[1]},
            "entries_in_log": self.size,
            "complete": self.complete,
            "steps": [
                {"number": step.number, "name": name, "facts": self.checked[name]}
                for name, step in STEPS.items()
            ],
            "unchecked": [one.to_json() for one in self.unchecked],
            "unproven": list(self.unproven),
            "timeline": [event.to_json() for event in self.events],
            "parties": [party.to_json() for party in self.parties],
            "results": list(self.results),
        }


def verify(
    data: bytes,
    *,
    trust: Trust = Trust(),
    results: Mapping[str, bytes] = NO_RESULTS,
    copy: Read | None = None,
    find: Find = find_builtin,
    appraise: Appraise | None = None,
) -> Report:
    """Verify a bundle.

    Args:
        data: The file's bytes.
        trust: Without it all keys come from the bundle, and are to be compared by hand.
        results: Canonical JSON of results by run, to compare with what was released.
        copy: An institution's copy of the ledger, to see that no entry was left out.
        find: The registry of analyses; raises InputError ``not-found``.
        appraise: Judges attestation evidence (`cohortium.audit.appraisal.appraiser`); without it
            evidence is reported as not checked.

    Raises:
        ProtocolError: ``malformed-message`` in step 1.
        VerificationError: ``bad-bundle``: the first fact that does not hold, by step and entry.
    """
    # 1. The file. 2. Which log. 3. Its checkpoint. 4. The entries. 5. The statements. 6. The
    # contract. 7. Its parties. 8. Who witnessed. 9. Each run's request. 10. The sites' decisions.
    # 11. The sums. 12. The receipts. 13. Key releases. 14. Result files. 15. Outcomes of tasks.
    facts = Facts()
    bundle, entries = _parse(data, facts)  # 1
    keys = check_log(bundle, entries, trust.log, facts)  # 2
    checkpoint = check_checkpoint(bundle, keys, facts)  # 3
    check_entries(bundle, entries, checkpoint, facts)  # 4
    if copy is not None:
        check_copy(bundle, keys, checkpoint, copy, facts)
    history = told(bundle.study, founding(entries), entries, bundle.statements)
    check_statements(bundle, entries, history, facts)  # 5
    check_contract(history, facts)  # 6
    check_parties(bundle, entries, history, trust.keys, facts)  # 7
    witnesses = check_quorum(bundle, keys, checkpoint, history, facts)  # 8
    runs = check_requests(bundle, entries, history, find, facts)  # 9
    check_sites(bundle, entries, runs, facts)  # 10
    check_rounds(entries, history, runs, facts)  # 11
    check_releases(bundle, keys, checkpoint, runs, facts)  # 12
    standing = Standing(entries)
    check_keys(bundle, entries, history, runs, facts, standing=standing, appraise=appraise)  # 13
    check_results(bundle, runs, results, facts)  # 14
    check_outcomes(bundle, entries, runs, standing, facts)  # 15
    return Report(
        study=bundle.study,
        consortium=(history.founded.name, history.founded.fingerprint),
        size=checkpoint.size,
        complete=bundle.coverage == "log" or copy is not None,
        checked={name: facts.checked[name] for name in STEPS},
        unchecked=tuple(facts.unchecked),
        unproven=tuple(sorted(history.unproven)),
        events=tuple(timeline(entries, history, runs, witnesses)),
        parties=_parties(history, runs, trust),
        results=tuple(sorted(results)),
    )


def _parse(data: bytes, facts: Facts) -> tuple[Bundle, list[Logged]]:
    with facts.of("format"):
        bundle = parse_bundle(data)
    entries = []
    for held in bundle.entries:
        with facts.of("format", held.index):
            entries.append(Logged(held.index, parse_entry(held.entry.encode())))
    return bundle, entries


def _parties(history: History, runs: Runs, trust: Trust) -> tuple[Party, ...]:
    machines = {("enclave", name, key) for name, key in runs.enclaves}
    return tuple(
        Party(name, role, key, key in trust.keys.get(name, frozenset()))
        for role, name, key in sorted(history.parties | machines)
    )
