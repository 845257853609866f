"""Each write of a contract's life at the hub fails before and after it; doing it again heals it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
from sqlalchemy import Connection, select
from tests.support.fake_sites import (
    NOW,
    SITES,
    enrol_everyone,
    key,
    make_contract,
    make_hub,
    store_url,
)
from tests.support.life import amended, transition

from cohortium.contract.model import Draft
from cohortium.contract.statements import Assignment
from cohortium.contract.task import Artefact
from cohortium.hub.database import Database
from cohortium.hub.service import Hub
from cohortium.hub.store import HubStore
from cohortium.hub.tables import ledger_pending, outbox, statements

Stage = Literal["before", "after"]
FINGERPRINT = "sha256:" + "c" * 64
FIRST = make_contract(FINGERPRINT)
SECOND = amended(FIRST, title="More")


class Crash(BaseException):
    """The process is gone."""


class Life:
    """What the parties send to a hub on one database file."""

    def __init__(self, folder: Path) -> None:
        self._url = store_url(folder)
        self.start()
        if not self.hub.store.members.members():
            enrol_everyone(self.hub)

    def start(self) -> None:
        self.store = HubStore(self._url)
        self.hub: Hub = make_hub(self.store)

    def propose(self, contract: Any) -> None:
        self.hub.studies.propose(contract.sign(key("Ada")), self.hub.user(key("Ada").public))

    def state(self, author: str, action: Any, seconds: int) -> None:
        said = transition(SECOND, action, author, at=NOW + timedelta(seconds=seconds))
        self.hub.say(author, said.sign(key(author)))

    def draft(self) -> Draft:
        fields = FIRST.to_json() | {"schema_id": "cohortium/draft/1", "study": "drafted"}
        for name in ("dataset", "dataset_digest", "dictionary_digest"):
            del fields["participants"][0][name]
        return Draft.from_json(fields)

    def assignment(self) -> bytes:
        own = FIRST.givers[0]
        artefact = Artefact(
            name=own.dataset,
            content_digest=own.dataset_digest,
            owners=("Alpha",),
            dictionary_digest=own.dictionary_digest,
        )
        return Assignment(
            study="drafted",
            draft_digest=self.draft().digest,
            slot="dataset/Alpha",
            artefact=artefact,
            author="Alpha",
            at=NOW,
        ).sign(key("Alpha"))

    def steps(self) -> list[Callable[[], object]]:
        ada = self.hub.user(key("Ada").public)
        signs: list[Callable[[], object]] = [
            partial(self.hub.say, site, contract.sign(key(site)))
            for contract in (FIRST, SECOND)
            for site in SITES
        ]
        return [
            lambda: self.propose(FIRST),
            *signs[:3],
            lambda: self.propose(SECOND),
            *signs[3:],
            lambda: self.state("Beta", "suspend", 0),
            lambda: self.state("Beta", "resume", 1),
            lambda: self.state("Gamma", "revoke", 0),
            lambda: self.hub.drafts.add(self.draft().sign(key("Ada")), ada),
            lambda: self.hub.drafts.assign("Alpha", self.assignment()),
        ]

    def outcome(self) -> list[object]:
        with self.store._database.read() as c:
            said = c.execute(
                select(statements.c.contract, statements.c.digest, statements.c.state).order_by(
                    statements.c.seq
                )
            ).all()
            facts = c.execute(
                select(ledger_pending.c.fact)
                .where(ledger_pending.c.kind == "contract")
                .order_by(ledger_pending.c.seq)
            ).all()
            owed = c.execute(select(outbox.c.site, outbox.c.kind, outbox.c.subject)).all()
        return [list(said), list(facts), sorted(map(tuple, owed))]


WRITES = 13


@contextmanager
def crashing(monkeypatch: pytest.MonkeyPatch, write: int, stage: Stage) -> Iterator[list[int]]:
    """The process dies at one transaction, before or after it is committed."""
    real, seen = Database.write, [0]

    @contextmanager
    def dying(self: Database) -> Iterator[Connection]:
        number = seen[0]
        seen[0] += 1
        with real(self) as connection:
            yield connection
            if (number, stage) == (write, "before"):
                raise Crash
        if (number, stage) == (write, "after"):
            raise Crash

    with monkeypatch.context() as patched:
        patched.setattr(Database, "write", dying)
        yield seen


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Nothing fails."""
    life = Life(tmp_path_factory.mktemp("reference"))
    for step in life.steps():
        step()
    yield life
    life.store.close()


@pytest.mark.parametrize("stage", ["before", "after"])
@pytest.mark.parametrize("write", range(WRITES))
def test_a_crash_at_any_statement_loses_and_repeats_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reference: Life,
    write: int,
    stage: Stage,
) -> None:
    expected = reference.outcome()
    assert len(expected[0]) == WRITES  # type: ignore[arg-type]
    life = Life(tmp_path)
    crashes = 0
    with crashing(monkeypatch, write, stage):
        for number in range(WRITES):
            try:
                life.steps()[number]()
            except Crash:
                crashes += 1
                life.store.close()
                life.start()
                life.steps()[number]()
    assert crashes == 1
    assert life.outcome() == expected
    assert life.store.studies.life("lung") == reference.store.studies.life("lung")
    life.store.close()
