"""The site's own rules, which no contract can loosen: ``policy.yaml``."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints, ValidationError

from cohortium.contract.model import Contract, Researcher
from cohortium.core.model import Document, explain
from cohortium.crypto.files import write_atomically
from cohortium.crypto.keys import fingerprint
from cohortium.disclosure.limits import Disclosure, Dominance, Persons
from cohortium.errors import InputError, PolicyRefusal
from cohortium.node.task_rules import TaskRules

DAY = timedelta(days=1)

ON_TOTALS: Final = (
    "min_cohort",
    "persons_per_parameter",
    "residual_df",
    "min_at_risk",
    "quantile_tail",
    "max_levels",
    "rounding",
)
"""Limits that only hold where all parties apply them to the totals: the contract must have them."""

TEMPLATE = """\
# The rules of this site. Where a contract says otherwise, the stricter wins.
# The node reads this file again before every decision: a change counts at once.

# Smallest number of persons that a released number may rest on.
min_cell: 5

# total: the contract says where min_cell is applied. site: always on this site's own persons.
floor: total

# Limits that a contract must have at least, or this site refuses its runs; empty: as the contract
# says. `cohortium node policy explain` says what each means.
min_cohort:              # fewest persons in a cohort
persons_per_parameter:   # fewest persons for each parameter of a model
residual_df:             # fewest residual degrees of freedom of a model
min_at_risk:             # fewest persons at risk where a survival curve is shown
quantile_tail:           # fewest persons on either side of a quantile
max_levels:              # most levels of a category that is tabulated
rounding:                # counts of persons are released rounded to multiples of this
by_site:                 # false: numbers of single institutions never, whatever a contract says

# Sums that few of this site's persons make up are not given; empty: as the contract says.
dominance:               # such as {largest: 2, percent: 80}

# Fewest institutions in a joint computation, this one included.
min_sites: 2

# Computations that never run here, such as glm or stats.*
deny_computations: []

# Researchers who may not compute here: names, keys or fingerprints.
deny_researchers: []

# Most runs in any 24 hours; leave it empty for no limit.
max_runs_per_day:

# Tasks on what this site lends (cohortium lend).
tasks:
  allow: true            # false: nothing lent leaves; built-in: only to Cohortium's own programs
  min_level: L1          # least security level of a task, L1 to L5
  simulated: true        # false: no simulated enclave, even where a contract allows one
  platforms:             # machines: PPIDs, chip ids, names of TPM keys; L3 and L5 need the list
  advisories: []         # Intel's advisories that may be open on a platform
  min_tcb_evaluation: 0  # oldest of Intel's rules (tcbEvaluationDataNumber); L5 needs it
  max_collateral_age_days: 60
  # AMD's products that are accepted, each from which versions on, such as
  # {Genoa: {bootloader: 7, snp: 23, microcode: 84, accept: [smt]}}
  amd_platforms: {}

# true stops everything at once (cohortium node pause, cohortium node resume).
paused: false
"""


class Policy(Document):
    """What ``policy.yaml`` says; see `TEMPLATE`."""

    min_cell: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    floor: Literal["site", "total"] = "total"
    min_cohort: Persons | None = None
    dominance: Dominance | None = None
    persons_per_parameter: Annotated[int, Field(ge=1, le=1000)] | None = None
    residual_df: Annotated[int, Field(ge=1, le=10_000)] | None = None
    min_at_risk: Persons | None = None
    quantile_tail: Persons | None = None
    max_levels: Annotated[int, Field(ge=2, le=1000)] | None = None
    rounding: Annotated[int, Field(ge=2, le=1000)] | None = None
    by_site: Literal[False] | None = None
    min_sites: Annotated[int, Field(ge=2)] = 2
    deny_computations: tuple[Annotated[str, StringConstraints(max_length=200)], ...] = ()
    deny_researchers: tuple[Annotated[str, StringConstraints(max_length=200)], ...] = ()
    max_runs_per_day: Annotated[int, Field(ge=0)] | None = None
    tasks: TaskRules = TaskRules()
    paused: bool = False

    def disclosure(self, contract: Contract) -> Disclosure:
        """The limits that satisfy contract and policy.

        A minimum above the contract's holds on this site's own persons: the other sites and the hub
        apply the contract's, so on the total nobody would apply ours.
        """
        own = self.min_cell > contract.disclosure.min_cell
        mine = Disclosure(
            min_cell=self.min_cell,
            floor="site" if own else self.floor,
            dominance=self.dominance,
            by_site=contract.disclosure.by_site if self.by_site is None else self.by_site,
            **{name: getattr(self, name) for name in ON_TOTALS},
        )
        return contract.disclosure.stricter(mine)

    def unmet(self, contract: Contract) -> list[str]:
        """Limits on totals that this site asks for and the contract lacks, as ``rounding: 5``."""
        agreed, asked = contract.disclosure, self.disclosure(contract)
        lacking = [
            f"{name}: {getattr(asked, name)}"
            for name in ON_TOTALS
            if getattr(asked, name) != getattr(agreed, name)
        ]
        return [*lacking, *(["by_site: false"] if agreed.by_site and not asked.by_site else [])]

    def require_met(self, contract: Contract) -> None:
        """Refuse a contract whose limits on totals are looser: nobody would apply this site's.

        Raises:
            PolicyRefusal: ``site-policy``.
        """
        lacking = self.unmet(contract)
        if lacking:
            raise PolicyRefusal(
                "site-policy",
                f"This site's policy asks for {', '.join(lacking)}; ask for a contract with "
                f"disclosure: {{{', '.join(lacking)}}}.",
            )

    def require_running(self) -> None:
        """Refuse everything while paused."""
        if self.paused:
            raise PolicyRefusal(
                "site-policy", "This site has paused all computations; ask its data steward."
            )

    def require_allowed(self, computation: str, researcher: Researcher) -> None:
        """Refuse what this site denies.

        Raises:
            PolicyRefusal: ``site-policy``.
        """
        if any(fnmatchcase(computation, pattern) for pattern in self.deny_computations):
            raise PolicyRefusal("site-policy", f"This site does not permit {computation}.")
        names = {_plain(t) for t in (researcher.name, researcher.key, fingerprint(researcher.key))}
        if names & {_plain(denied) for denied in self.deny_researchers}:
            raise PolicyRefusal("site-policy", "This site does not permit this researcher.")


PolicySource = Callable[[], Policy]


class PolicyFile:
    """Reads ``policy.yaml`` afresh when it changed; a file that cannot be read allows nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._policy = Policy()

    def __call__(self) -> Policy:
        """The policy now.

        Raises:
            InputError: ``bad-config``.
        """
        with self._lock:
            try:
                stat = self.path.stat()
                seen = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
                if seen != self._seen:
                    self._policy = parse_policy(self.path.read_text(encoding="utf-8"))
                    self._seen = seen
            except (OSError, UnicodeError) as error:
                self._seen = None
                raise InputError("bad-config", "The site's policy cannot be read.") from error
            return self._policy

    def set_paused(self, paused: bool) -> None:
        """Rewrite the one line, keeping the steward's comments."""
        yaml, document = _load(self.path.read_text(encoding="utf-8"))
        document["paused"] = paused
        text = io.StringIO()
        yaml.dump(document, text)
        _to_policy(document)
        write_atomically(self.path, text.getvalue().encode())


def parse_policy(text: str) -> Policy:
    """Read the YAML of a policy.

    Raises:
        InputError: ``bad-config``.
    """
    return _to_policy(_load(text)[1])


def _load(text: str) -> tuple[Any, Any]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    yaml = YAML(typ="rt")
    try:
        document = yaml.load(text)
    except YAMLError as error:
        raise InputError("bad-config", "policy.yaml is not valid YAML.") from error
    if document is None:
        document = yaml.map()
    if not isinstance(document, dict):
        raise InputError("bad-config", "policy.yaml must hold `name: value` lines.")
    return yaml, document


def _to_policy(document: Any) -> Policy:
    try:
        return Policy.model_validate(dict(document))
    except ValidationError as error:
        raise InputError("bad-config", f"policy.yaml: {explain(error)}") from error


def _plain(text: str) -> str:
    return text.replace(" ", "").casefold()
