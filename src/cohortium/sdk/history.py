"""What was stated about a study's contracts: signed by its parties, verified here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, overload

from cohortium.contract import lifecycle
from cohortium.contract.lifecycle import StudyLife
from cohortium.contract.model import Contract
from cohortium.contract.statements import Transition, open_statement
from cohortium.core.rest import StatementInfo
from cohortium.errors import CohortiumError, VerificationError
from cohortium.sdk.html import table_html

SHOWN = ("at", "author", "action", "version", "state", "reason")


@dataclass(frozen=True)
class Statement:
    """A verified statement.

    Attributes:
        at: When the hub took it; `stated_at` is the author's own time, of a transition.
        state: The contract's state with it.
        computations: What is suspended; None: everything.
        keeps: What is kept of a closed contract.
    """

    at: datetime
    author: str
    action: str
    version: int
    contract_digest: str
    state: str
    reason: str | None = None
    stated_at: datetime | None = None
    computations: tuple[str, ...] | None = None
    keeps: tuple[str, ...] = ()


class History(Sequence[Statement]):
    """A study's statements, oldest first; a table in a notebook."""

    def __init__(self, statements: Sequence[Statement]) -> None:
        self._statements = tuple(statements)

    @overload
    def __getitem__(self, index: int) -> Statement: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Statement]: ...
    def __getitem__(self, index: int | slice) -> Statement | Sequence[Statement]:
        return self._statements[index]

    def __len__(self) -> int:
        return len(self._statements)

    def __iter__(self) -> Iterator[Statement]:
        return iter(self._statements)

    def __repr__(self) -> str:
        lines = [
            f"{s.at.isoformat()}  version {s.version}  {s.author}: {s.action} -> {s.state}"
            for s in self._statements
        ]
        return "\n".join(lines) or "<History: nothing was stated>"

    def _repr_html_(self) -> str:
        return table_html(SHOWN, [[getattr(s, name) for name in SHOWN] for s in self._statements])

    def to_frame(self) -> Any:
        """As a pandas data frame."""
        import pandas as pd

        names = [field.name for field in fields(Statement)]
        return pd.DataFrame([[getattr(s, n) for n in names] for s in self], columns=names)


def verified(infos: Sequence[StatementInfo]) -> History:
    """Check what the hub lists: each signature, by a key that the contract names for its author.

    Where the study's first contract is among them, that each state follows from the statements.

    Raises:
        VerificationError: ``bad-signature``, ``bad-digest``, ``unknown-signer``: the hub lies.
    """
    contracts: dict[str, Contract] = {}
    found, life = [], None
    whole = bool(infos) and infos[0].version == 1
    for info in infos:
        found.append(_statement(info, contracts))
        if whole:
            life = _follow(life, info)
    return History(found)


def _statement(info: StatementInfo, contracts: dict[str, Contract]) -> Statement:
    # 1. A signature that holds. 2. On the contract that the hub says, which its proposer signed.
    # 3. By whom the contract names so.
    document, key = open_statement(info.envelope.encode())  # 1
    common = (info.at, info.author, info.action, info.version, info.contract_digest, info.state)
    if isinstance(document, Contract):
        digest, said = document.digest, Statement(*common)
        if info.action == "propose" and document.proposed_by.key == key:
            contracts[digest] = document
        agrees = info.action in {"propose", "sign"}
    elif isinstance(document, Transition):
        digest = document.contract_digest
        said = Statement(
            *common, document.reason, document.at, document.computations, document.keeps
        )
        agrees = (info.action, info.author) == (document.action, document.author)
    else:
        raise VerificationError("bad-signature", "The hub lists what is no statement.")
    contract = contracts.get(digest)
    if not agrees or contract is None or digest != info.contract_digest:  # 2
        raise VerificationError(
            "bad-digest", f"The hub says of statement {info.seq} what does not stand in it."
        )
    if contract.parties.get(info.author) != key or contract.version != info.version:  # 3
        raise VerificationError(
            "unknown-signer", f"Statement {info.seq} is not signed by {info.author}."
        )
    return said


def _follow(life: StudyLife | None, info: StatementInfo) -> StudyLife:
    try:
        life = lifecycle.hear(life, info.envelope.encode(), info.at)
    except CohortiumError as error:
        raise VerificationError(
            "bad-digest", f"Statement {info.seq} does not follow: {error.message}"
        ) from error
    if life.version(info.contract_digest).state != info.state:
        raise VerificationError(
            "bad-digest", f"The hub says of statement {info.seq} what does not follow from it."
        )
    return life
