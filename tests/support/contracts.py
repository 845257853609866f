"""A small contract, its people, and the directory that it was made from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.versions import versioned

from cohortium.contract.model import Contract, Participant, Researcher, RunRequest
from cohortium.core.canonical import digest
from cohortium.core.dictionary import Dictionary, Variable, VariableType
from cohortium.core.directory import DirectoryEntry, PublishedDataset
from cohortium.crypto.keys import SigningKey

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
CONSORTIUM = digest("consortium")


def key(name: str) -> SigningKey:
    """The signing key of a made-up person or site."""
    return SigningKey.from_seed(bytes.fromhex(digest(name).removeprefix("sha256:")))


ADA = Researcher(name="Ada", key=key("Ada").public)

AGE = Variable(name="age", type=VariableType.INTEGER, unit="years")
SEX = Variable(name="sex", type=VariableType.CATEGORY, levels=("1", "2"))
WT_LOSS = Variable(name="wt_loss", type=VariableType.REAL, decimals=1, unit="kg")


def entry(site: str, *variables: Variable, dataset: str = "lung") -> DirectoryEntry:
    """A member with one dataset."""
    return DirectoryEntry(
        name=site,
        key=key(site).public,
        datasets=(
            PublishedDataset(
                name=dataset,
                content_digest=digest([site, dataset]),
                dictionary=Dictionary(variables=variables),
            ),
        ),
    )


def directory() -> dict[str, DirectoryEntry]:
    """Two members that agree."""
    return {site: entry(site, AGE, SEX, WT_LOSS) for site in ("Aarhus", "Boston")}


def contract(**changes: Any) -> Contract:
    """A contract of Aarhus and Boston."""
    fields: dict[str, Any] = {
        "study": "lung",
        "title": "Lung cancer",
        "purpose": "Survival by sex.",
        "variables": (AGE, SEX, WT_LOSS),
        "computations": (
            {"name": "stats.*"},
            {"name": "glm", "variables": ("age", "sex"), "limits": {"family": ("binomial",)}},
        ),
        "min_sites": 2,
        "expires_at": NOW + timedelta(days=365),
        "consortium": CONSORTIUM,
        "participants": tuple(
            Participant(
                name=site,
                key=key(site).public,
                dataset="lung",
                dataset_digest=digest([site, "lung"]),
                dictionary_digest=Dictionary(variables=(AGE, SEX, WT_LOSS)).digest,
                variables=("age", "sex", "wt_loss"),
            )
            for site in ("Aarhus", "Boston")
        ),
        "recipients": (ADA,),
        "proposed_by": ADA,
        "created_at": NOW,
    }
    fields |= changes
    return Contract(**{**fields, "computations": versioned(fields["computations"])})


def request(signed: Contract, **changes: Any) -> RunRequest:
    """Ada's request for a description of age."""
    fields: dict[str, Any] = {
        "run_id": "0" * 32,
        "study": signed.study,
        "contract_digest": signed.digest,
        "computation": "stats.describe",
        "params": {"variables": ["age"]},
        "researcher": ADA.key,
        "issued_at": NOW,
        "valid_until": NOW + timedelta(hours=1),
    }
    return RunRequest(**(fields | changes))
