"""The steps of a verification: what each one shows, and what it means when one fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal

from cohortium.errors import CohortiumError, InputError, ProtocolError, VerificationError

StepName = Literal[
    "format",
    "log",
    "checkpoint",
    "entries",
    "statements",
    "contract",
    "parties",
    "quorum",
    "requests",
    "sites",
    "rounds",
    "releases",
    "keys",
    "results",
    "outcomes",
]


@dataclass(frozen=True)
class Step:
    """A step of docs/evidence.md.

    Attributes:
        shows: What holds when it passes.
        means: What an auditor has to think when it fails.
    """

    number: int
    name: StepName
    shows: str
    means: str


_STEPS: Final[tuple[tuple[StepName, str, str], ...]] = (
    (
        "format",
        "The file is an audit bundle.",
        "The file is damaged or not an audit bundle; it shows nothing.",
    ),
    (
        "log",
        "It is about the ledger of this consortium.",
        "The bundle is of another consortium or another log than it says.",
    ),
    (
        "checkpoint",
        "The ledger's own key signed the checkpoint, and it says who the members are.",
        "Somebody altered the checkpoint, or the list of members, after it was signed.",
    ),
    (
        "entries",
        "Each entry stands in the ledger at its place, in the order of time.",
        "An entry was altered, moved, added or left out after the institutions witnessed it.",
    ),
    (
        "statements",
        "Each signed document that an entry of the study's people names is here, and nothing else.",
        "A document was exchanged or withheld; what it says cannot be checked.",
    ),
    (
        "contract",
        "The contract's state at each entry follows from what was signed.",
        "The contract was not agreed in the way that the ledger says.",
    ),
    (
        "parties",
        "Institutions, researchers and datasets are those that the ledger knew at that time.",
        "Somebody or some data in the contract is not who or what was admitted and registered.",
    ),
    (
        "quorum",
        "More than two thirds of members and of each contract's participants witnessed it.",
        "Too few institutions saw this history; it may differ from what others were shown.",
    ),
    (
        "requests",
        "Each run was ordered by a recipient and inside the contract in force at that moment.",
        "A run was outside the contract.",
    ),
    (
        "sites",
        "Each institution that took part in a run signed that it would.",
        "A run claims the part of an institution that did not agree to it.",
    ),
    (
        "rounds",
        "Each sum was over enough sites, all of which took part; no more runs than permitted.",
        "A sum was over too few or other institutions, or a run was one too many.",
    ),
    (
        "releases",
        "Each result was witnessed before it was given out, in this same ledger.",
        "A result was given out on a ledger that is not this one, or before it was witnessed.",
    ),
    (
        "keys",
        "Each data key was released once, while the contract held, to a machine that it takes.",
        "Data may have been opened by a machine that was not the one agreed on.",
    ),
    (
        "results",
        "The result files are those that were released.",
        "A result file was altered, or is of another run.",
    ),
    (
        "outcomes",
        "What a task gave is signed by the machine that the lenders' keys were released to.",
        "A task may have run on another machine than the one that proved what it is.",
    ),
)

STEPS: Final[dict[StepName, Step]] = {
    name: Step(number, name, shows, means)
    for number, (name, shows, means) in enumerate(_STEPS, start=1)
}


@dataclass(frozen=True)
class Unchecked:
    """A fact that could not be checked here: it is not known to hold, nor not to.

    Attributes:
        index: Of the entry that it is about.
    """

    step: StepName
    index: int | None
    why: str

    def to_json(self) -> dict[str, object]:
        """JSON values."""
        return {"step": self.step, "entry": self.index, "why": self.why}


class Facts:
    """Counts the facts that were checked; the first that does not hold ends the verification."""

    def __init__(self) -> None:
        self.checked: Counter[StepName] = Counter()
        self.unchecked: list[Unchecked] = []

    def leave(self, name: StepName, index: int | None, why: str) -> None:
        """Say that a fact was not checked, and why."""
        self.unchecked.append(Unchecked(name, index, why))

    @contextmanager
    def of(self, name: StepName, index: int | None = None) -> Iterator[None]:
        """Check one fact; `index` is the entry that it is about.

        Raises:
            VerificationError: ``bad-bundle``, naming step and entry, for whatever is raised inside.
        """
        try:
            yield
        except CohortiumError as error:
            raise failure(name, error, index) from error
        self.checked[name] += 1


def failure(name: StepName, cause: CohortiumError, index: int | None = None) -> CohortiumError:
    """What the first failing fact is reported as."""
    step = STEPS[name]
    where = "" if index is None else f", entry {index}"
    unknown = isinstance(cause, InputError) and cause.code == "not-found"
    means = "It cannot be judged here." if unknown else step.means
    said = cause.message.rstrip(".")
    message = f"Step {step.number} ({name}){where}: {said}. {means}"
    details: dict[str, str | int] = {"step": name}
    if index is not None:
        details["entry"] = index
    if cause.code not in {"bad-bundle", "malformed-message"}:
        details["cause"] = cause.code
    if name == "format":
        return ProtocolError("malformed-message", message, **details)
    return VerificationError("bad-bundle", message, **details)


def require(holds: bool, otherwise: str) -> None:
    """State one fact.

    Raises:
        VerificationError: ``bad-bundle`` where it does not hold.
    """
    if not holds:
        raise VerificationError("bad-bundle", otherwise)
