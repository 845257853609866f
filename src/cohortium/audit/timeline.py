"""What happened, for people: each entry as who did what, when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cohortium.audit.history import History
from cohortium.audit.log import Logged
from cohortium.audit.run import Handed, Runs
from cohortium.core.canonical import canonical
from cohortium.core.clock import to_rfc3339
from cohortium.crypto.keys import fingerprint
from cohortium.enclave.exchange import Offer, TaskOutcome
from cohortium.ledger.entry import (
    ContractChanged,
    DatasetChanged,
    EnclaveChanged,
    Fact,
    Founded,
    KeyReleased,
    MemberChanged,
    PolicyChanged,
    ResearcherChanged,
    RunDecided,
    RunDenied,
    RunEnded,
    RunSubmitted,
    TakenOver,
)

_DID = {
    "draft": "drafted",
    "assign": "assigned data in the draft of",
    "propose": "proposed",
    "sign": "signed",
    "refuse": "refused",
    "withdraw": "withdrew",
    "suspend": "suspended",
    "resume": "resumed",
    "revoke": "revoked",
    "close": "closed",
}
_LONGEST = 200


@dataclass(frozen=True)
class Event:
    """A line of the timeline; `index` is the entry's place, None for the witnesses."""

    at: datetime
    who: str
    what: str
    index: int | None = None

    def to_json(self) -> dict[str, object]:
        """JSON values."""
        return {"at": to_rfc3339(self.at), "who": self.who, "what": self.what, "entry": self.index}


def timeline(
    entries: Iterable[Logged], history: History, runs: Runs, witnesses: Mapping[str, int]
) -> list[Event]:
    """The events in the order of the ledger, and who witnessed them."""
    names = dict(history.names)
    machines = {name for name, _ in runs.enclaves}
    events = []
    for logged in entries:
        fact = logged.fact
        if isinstance(fact, ResearcherChanged):
            names[fact.key] = fact.name
        ran = isinstance(fact, EnclaveChanged) and fact.name in machines
        of_run = getattr(fact, "run_id", None) in runs.of_study
        if not (history.is_about(fact) or of_run or ran):
            continue
        who, what = _said(fact, names, history, runs)
        if logged.index in runs.denied:
            who = names.get(runs.denied[logged.index], fingerprint(runs.denied[logged.index]))
        if logged.index in history.unproven:
            who, what = "hub", f"says without proof that {who} {what}; it counts for nothing"
        events.append(Event(logged.entry.at, who, what, logged.index))
    for site, time_s in sorted(witnesses.items(), key=lambda item: (item[1], item[0])):
        at = _moment(time_s)
        events.append(Event(at, site, "witnessed the checkpoint that all of this is proven by"))
    return events


def _moment(time_s: int) -> datetime:
    """A witness may have said any number; the last second of 9999 stands for what is later."""
    return datetime.fromtimestamp(min(time_s, 253402300799), UTC)


def _said(fact: Fact, names: Mapping[str, str], history: History, runs: Runs) -> tuple[str, str]:
    match fact:
        case Founded():
            return fact.name, f"consortium founded, {fact.fingerprint}"
        case TakenOver():
            return "hub", f"another hub goes on after {fact.size} entries"
        case MemberChanged():
            return fact.name, f"member {fact.status}, key {fingerprint(fact.key)}"
        case EnclaveChanged():
            return fact.name, f"enclave {fact.status}, key {fingerprint(fact.key)}"
        case ResearcherChanged():
            return fact.name, f"researcher {fact.status}, key {fingerprint(fact.key)}"
        case DatasetChanged():
            state = (
                "withdrawn"
                if fact.content is None
                else f"registered, content {_brief(fact.content)}"
            )
            return fact.member, f"dataset {fact.name} {state}"
        case PolicyChanged():
            return fact.member, "changed its policy"
        case ContractChanged():
            return fact.author, _contract(fact, history)
        case RunSubmitted():
            return names.get(fact.researcher, "?"), f"ordered {_order(fact, runs)}"
        case RunDenied():
            return "?", f"was refused {fact.computation}, run {fact.run_id[:8]}: {fact.code}"
        case RunDecided():
            return "hub", _decided(fact, runs)
        case RunEnded():
            return "hub", _ended(fact, runs)
        case KeyReleased():
            handed = runs.of_study[fact.run_id].handed[fact.holder]
            return fact.holder, f"{_lent(handed)}, run {fact.run_id[:8]}"


def _contract(fact: ContractChanged, history: History) -> str:
    reason = history.reasons.get(fact.statement)
    because = "" if reason is None else f": {_short(reason)}"
    return (
        f"{_DID[fact.action]} version {fact.version} of the contract "
        f"({_brief(fact.contract)}){because}; it is {fact.state}"
    )


def _order(fact: RunSubmitted, runs: Runs) -> str:
    request = runs.of_study[fact.run_id].request
    params = canonical(request.params).decode()
    cohort = "" if request.cohort is None else f" of {_short(request.cohort.to_bytes().decode())}"
    return f"{fact.computation} {_short(params)}{cohort}, run {fact.run_id[:8]}"


def _lent(handed: Handed) -> str:
    """``released its keys of images (1f0e...) to the enclave Kiel (landlock, L2)``"""
    release, offer = handed.release, handed.offer
    what = ", ".join(f"{slot} ({_brief(one)})" for slot, one in sorted(release.artefacts.items()))
    on = "" if release.evidence is None else f", on evidence {_brief(release.evidence)}"
    return f"released its keys of {what} to the enclave {_place(offer)}{on}"


def _place(signed: Offer | TaskOutcome) -> str:
    """A simulated machine stands in for one of a level that it does not reach."""
    if signed.executor == "simulated":
        return f"{signed.enclave} (simulated: NO PROTECTION)"
    return f"{signed.enclave} ({signed.executor}, {signed.level})"


def _decided(fact: RunDecided, runs: Runs) -> str:
    parts = []
    part = "take part" if runs.of_study[fact.run_id].task is None else "lend"
    for decision, verb in (("accepted", part), ("refused", "refuse"), ("absent", "absent")):
        found = [
            site + (f" ({answer.code})" if answer.code else "")
            for site, answer in sorted(fact.sites.items())
            if answer.decision == decision
        ]
        if found:
            parts.append(f"{verb}: {', '.join(found)}")
    return f"run {fact.run_id[:8]}: {'; '.join(parts)}"


def _ended(fact: RunEnded, runs: Runs) -> str:
    outcome = runs.of_study[fact.run_id].outcome
    parts = [f"run {fact.run_id[:8]} {fact.status}"]
    if fact.code is not None:
        parts[0] += f" ({fact.code})"
    for rounds in fact.rounds:
        one = rounds.last == rounds.first
        span = f"round {rounds.first}" if one else f"rounds {rounds.first} to {rounds.last}"
        parts.append(f"{span} over {', '.join(rounds.sites)}")
    if outcome is not None and fact.status == "succeeded":  # an earlier end had none
        made = ", ".join(one.slot for one in outcome.outputs) or "nothing"
        parts.append(f"{_place(outcome)} gave {made} after {outcome.seconds:.1f} s")
    if fact.result is not None:
        parts.append(f"result {_brief(fact.result)}")
    if fact.suppressed:
        parts.append(f"{fact.suppressed} numbers suppressed")
    return "; ".join(parts)


def _brief(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
