"""A study's evidence, as the hub gives it and as this side has verified it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cohortium.contract.model import Contract
from cohortium.core.canonical import canonical
from cohortium.sdk.client import Client
from cohortium.sdk.files import writing
from cohortium.sdk.html import facts_html, table_html

if TYPE_CHECKING:
    from cohortium.audit.timeline import Event
    from cohortium.audit.verify import Report


@dataclass(frozen=True)
class Audit:
    """An audit bundle that holds.

    Attributes:
        data: The file, for ``cohortium audit verify`` and any other verifier.
        report: What was shown: a timeline, and the keys that it rests on.
    """

    data: bytes
    report: Report

    def save(self, path: str | Path) -> Path:
        """Write the bundle."""
        target = Path(path)
        with writing(target):
            target.write_bytes(self.data)
        return target

    def __repr__(self) -> str:
        facts, events = sum(self.report.checked.values()), len(self.report.events)
        left = len(self.report.unchecked)
        more = f", {left} not checked here" if left else ""
        return f"<Audit {self.report.study}: {events} events, {facts} facts hold{more}>"

    def _repr_html_(self) -> str:
        rows = [(f"{event.at:%Y-%m-%d %H:%M:%S}", event.who, event.what) for event in self.events]
        head = facts_html(f"Evidence of {self.report.study}", {"holds": repr(self)})
        return head + table_html(("time (UTC)", "who", "what"), rows)

    @property
    def events(self) -> tuple[Event, ...]:
        """The timeline."""
        return self.report.events


def fetch_audit(client: Client, contract: Contract, *, whole: bool) -> Audit:
    """Ask the hub for a bundle; the keys have to be those that we know, of contract and ledger.

    Raises:
        CohortiumError: See `Study.audit`.
    """
    from cohortium.audit.appraisal import appraiser
    from cohortium.audit.verify import Trust, verify

    answer = client.get(f"/studies/{contract.study}/audit", whole="true" if whole else "false")
    data = canonical(answer)
    keys = {name: frozenset({key}) for name, key in contract.parties.items()}
    trust = Trust(keys, client.ledger_key)
    return Audit(data, verify(data, trust=trust, appraise=appraiser()))
