"""A draft as its proposer sees it: who still has to say what fills a slot."""

from __future__ import annotations

from cohortium.contract import draft as drafting
from cohortium.contract.draft import DraftLife
from cohortium.contract.model import Contract
from cohortium.contract.render import render_draft
from cohortium.core.rest import DraftInfo, StudyInfo
from cohortium.errors import VerificationError
from cohortium.sdk.client import Client
from cohortium.sdk.html import facts_html, table_html
from cohortium.sdk.study import Study


class DraftedStudy:
    """A study whose slots its owners fill; `propose` it when none is left."""

    def __init__(self, client: Client, info: DraftInfo) -> None:
        self._client = client
        self._set(info)

    def _set(self, info: DraftInfo) -> None:
        now = self._client.clock()
        self._life: DraftLife = drafting.replay((text.encode(), now) for text in info.envelopes)
        if self._life.digest != info.draft_digest:
            raise VerificationError("bad-digest", f"The hub gave another draft of {info.id}.")
        self.info = info

    def __repr__(self) -> str:
        waits = ", ".join(self.unfilled) or "nothing"
        return f"<DraftedStudy {self.id}: waits for {waits}>"

    def _repr_html_(self) -> str:
        rows = [(one.slot, one.author, one.artefact.get("name")) for one in self.info.assignments]
        facts = {"waits for": ", ".join(self.unfilled) or "nothing", "draft": self.digest}
        return facts_html(f"Draft of {self.id}", facts) + table_html(
            ("slot", "assigned by", "filled with"), rows
        )

    @property
    def id(self) -> str:
        """The study's identifier."""
        return self._life.draft.study

    @property
    def digest(self) -> str:
        """The draft's digest; assignments name it."""
        return self._life.digest

    @property
    def unfilled(self) -> dict[str, frozenset[str]]:
        """Slots that wait, and for whom."""
        return self._life.unfilled

    def render(self, language: str = "en") -> str:
        """The draft as people read it, with what was assigned; ``en`` or ``zh``."""
        return render_draft(self._life, language)

    @property
    def contract(self) -> Contract:
        """The contract that the owners filled.

        Raises:
            ConflictError: ``wrong-state`` while a slot is unfilled.
        """
        return self._life.assemble()

    def refresh(self) -> DraftedStudy:
        """Ask the hub again."""
        self._set(DraftInfo.from_json(self._client.get(f"/drafts/{self.id}")))
        return self

    def propose(self) -> Study:
        """Sign the filled contract and put it to its sites.

        Raises:
            ConflictError: ``wrong-state`` while a slot is unfilled.
        """
        contract = self.contract
        info = self._client.post("/studies", contract.sign(self._client.key))
        return Study(self._client, StudyInfo.from_json(info))
