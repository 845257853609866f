"""What the site itself demands of tasks on what it lends: ``tasks`` in ``policy.yaml``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cohortium.contract.model import Contract, Environment
from cohortium.contract.task import SecurityLevel, Task
from cohortium.core.model import Document
from cohortium.enclave.attestation.policy import (
    DAY_S,
    Advisory,
    AmdPlatforms,
    AppraisalPolicy,
    Platform,
)
from cohortium.errors import PolicyRefusal


class TaskRules(Document):
    """See `cohortium.node.policy.TEMPLATE`.

    Attributes:
        allow: Whether anything that is lent may leave for a task; ``built-in``: for Cohortium's
            own programs only.
        simulated: Whether a contract may let a simulated enclave stand in for a real one.
        max_collateral_age_days: Of Intel's collateral, since it was issued.
        platforms, advisories, min_tcb_evaluation, amd_platforms: As in `AppraisalPolicy`.
    """

    allow: bool | Literal["built-in"] = True
    min_level: SecurityLevel = "L1"
    simulated: bool = True
    platforms: Annotated[tuple[Platform, ...], Field(max_length=100_000)] | None = None
    advisories: Annotated[tuple[Advisory, ...], Field(max_length=1000)] = ()
    min_tcb_evaluation: Annotated[int, Field(ge=0)] = 0
    max_collateral_age_days: Annotated[int, Field(ge=1, le=3650)] = 60
    amd_platforms: AmdPlatforms = Field(default_factory=dict)

    def require(self, contract: Contract, task: Task) -> None:
        """Refuse a task that this site does not lend to.

        Raises:
            PolicyRefusal: ``site-policy``.
        """
        if self.allow is False:
            raise PolicyRefusal("site-policy", "This site lends nothing to tasks.")
        if self.allow == "built-in" and not task.code.built_in:
            raise PolicyRefusal("site-policy", "This site lends to built-in programs only.")
        level = contract.level_of(task)
        if level < self.min_level:
            raise PolicyRefusal(
                "site-policy",
                f"This site lends to tasks at {self.min_level} or above; {task.name} is at "
                f"{level}.",
            )
        environment = contract.environment or Environment()
        if environment.allow_simulated and not self.simulated:
            raise PolicyRefusal("site-policy", "This site takes no evidence of simulated enclaves.")

    def appraisal(self, environment: Environment, level: SecurityLevel) -> AppraisalPolicy:
        """What evidence must show: by the contract, and by this site.

        Raises:
            InputError: ``bad-input``.
            PolicyRefusal: ``unenforceable``.
        """
        return AppraisalPolicy.from_environment(
            environment,
            level=level,
            platforms=self.platforms,
            advisories=self.advisories,
            min_tcb_evaluation=self.min_tcb_evaluation,
            max_collateral_age_s=self.max_collateral_age_days * DAY_S,
            amd_platforms=self.amd_platforms,
        )
