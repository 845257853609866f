"""The appraisal policy: what evidence must show, spelled out (RFC 9334 8.5).

Nothing is accepted because the policy is silent: evidence of a kind for which it has no reference
values is refused, and so is a policy with a register that is not known here.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, Literal, Self, get_args

from pydantic import Field, StringConstraints, model_validator

from cohortium.contract.model import Environment, Measurement, TcbState
from cohortium.contract.task import SecurityLevel
from cohortium.core.model import Document
from cohortium.enclave.attestation.reasons import Reason, refuse
from cohortium.enclave.attestation.verdict import EvidenceKind
from cohortium.errors import InputError, PolicyRefusal

_INTEL: Final = frozenset({"sgx", "tdx"})
UP_TO_DATE: Final = "UpToDate"
REVOKED: Final = "Revoked"
DAY_S: Final = 86_400

_RESETTABLE: Final = (16, 23)
"""PCRs that the running system can set back: they say nothing of what was booted."""
_TDX: Final = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mrconfigid", "mrowner")

REGISTERS: Final[Mapping[str, tuple[EvidenceKind, int]]] = {
    "mrenclave": ("sgx", 64),
    "mrsigner": ("sgx", 64),
    **dict.fromkeys(_TDX, ("tdx", 96)),
    "snp-measurement": ("sev-snp", 96),
    "snp-host-data": ("sev-snp", 64),
    **{f"pcr{index}": ("tpm", 64) for index in range(24) if index not in _RESETTABLE},
    "simulated": ("simulated", 64),
}
"""What a contract can name: the kind of evidence that has it, and its length in hex digits."""

_ENOUGH: Final[Mapping[EvidenceKind, tuple[frozenset[str], ...]]] = {
    "sgx": (frozenset({"mrenclave"}), frozenset({"mrsigner"})),
    # MRTD is the firmware alone; its settings and the host's ACPI tables are in RTMR 0, kernel,
    # command line and initrd in RTMR 1 and 2.
    "tdx": (frozenset({"mrtd", "rtmr0", "rtmr1", "rtmr2"}),),
    "sev-snp": (frozenset({"snp-measurement"}),),
    # Firmware, what else runs before the boot loader, the boot loader, and Secure Boot; what of the
    # kernel is elsewhere, `verify_tpm` asks for.
    "tpm": (frozenset({"pcr0", "pcr2", "pcr4", "pcr7"}),),
    "simulated": (frozenset({"simulated"}),),
}
"""Reference values without which evidence of a kind says nothing: one of these sets."""
_ENOUGH_STRICT: Final[Mapping[EvidenceKind, tuple[frozenset[str], ...]]] = {
    **_ENOUGH,
    "sgx": (frozenset({"mrenclave"}),),
}
"""A signer can sign another program."""

Platform = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{2}){16,64}$")]
Advisory = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9-]{1,64}$")]
_Svn = Annotated[int, Field(ge=0, le=255)]


class SnpTcb(Document):
    """Security versions of an AMD platform."""

    bootloader: _Svn = 0
    tee: _Svn = 0
    snp: _Svn = 0
    microcode: _Svn = 0


AmdProduct = Literal["Milan", "Genoa", "Turin"]
AmdWeakness = Literal["smt", "page-swap", "rapl", "visible-ciphertext", "cxl"]
"""Sibling threads run; the host may have pages moved or swapped by the secure processor; power can
be measured; ciphertext can be read; memory may be on CXL devices."""


class AmdPlatform(SnpTcb):
    """What a site accepts of one of AMD's products: versions, each a floor.

    Attributes:
        accept: Weaknesses that a machine may have; all others are refused.
    """

    accept: Annotated[tuple[AmdWeakness, ...], Field(max_length=5)] = ()

    @model_validator(mode="after")
    def _is_a_floor(self) -> Self:
        if not self.snp or not self.microcode:
            raise ValueError("snp and microcode have a floor above 0; 0 accepts every version")
        return self


AmdPlatforms = Annotated[Mapping[AmdProduct, AmdPlatform], Field(max_length=3)]
ANY_AMD: Final[Mapping[AmdProduct, AmdPlatform]] = {
    product: AmdPlatform(snp=1, microcode=1, accept=get_args(AmdWeakness))
    for product in get_args(AmdProduct)
}
"""For who judges afterwards, and does not know which platforms a site accepted."""


class AppraisalPolicy(Document):
    """What is accepted. Debug mode never is.

    Attributes:
        measurements: Any one of those of a register; every register named must hold.
        tcb_states: Intel's words for a platform's state; all others are refused, and ``Revoked``
            whatever is said here.
        advisories: Security advisories that may be open on the platform.
        platforms: PPIDs, chip ids or names of attestation keys; None: any.
        max_collateral_age_s: Since Intel issued it, however long it is valid.
        min_tcb_evaluation: Intel's tcbEvaluationDataNumber; older rules are refused.
        amd_platforms: AMD's products that are accepted, each from which versions on; none unless
            they are named.
        strict: As L5 asks: no signer in place of a program, no AMD platform without AMD's
            revocation list.
    """

    measurements: Annotated[tuple[Measurement, ...], Field(max_length=1000)]
    tcb_states: Annotated[tuple[TcbState, ...], Field(min_length=1, max_length=100)] = (UP_TO_DATE,)
    advisories: Annotated[tuple[Advisory, ...], Field(max_length=1000)] = ()
    platforms: Annotated[tuple[Platform, ...], Field(max_length=100_000)] | None = None
    max_collateral_age_s: Annotated[int, Field(ge=1)] = 60 * DAY_S
    min_tcb_evaluation: Annotated[int, Field(ge=0)] = 0
    amd_platforms: AmdPlatforms = Field(default_factory=dict)
    allow_simulated: bool = False
    strict: bool = False

    @model_validator(mode="after")
    def _known(self) -> Self:
        for one in self.measurements:
            known = REGISTERS.get(one.kind)
            if one.kind in {f"pcr{index}" for index in _RESETTABLE}:
                raise ValueError(f"{one.kind} can be set back by the running system")
            if known is None:
                raise ValueError(f"{one.kind} is not a register that is known here")
            if len(one.value) != known[1]:
                raise ValueError(f"{one.kind} has {known[1]} hex digits")
            versioned = one.product is not None and one.min_svn is not None
            if (one.kind == "mrsigner") != versioned:
                raise ValueError("mrsigner, and only that, comes with product and min_svn")
        return self

    @classmethod
    def from_environment(
        cls,
        environment: Environment,
        *,
        level: SecurityLevel,
        platforms: Sequence[str] | None = None,
        advisories: Sequence[str] = (),
        min_tcb_evaluation: int = 0,
        max_collateral_age_s: int = 60 * DAY_S,
        amd_platforms: Mapping[AmdProduct, AmdPlatform] | None = None,
    ) -> Self:
        """The policy of a contract's environment and of what the site itself demands.

        Raises:
            InputError: ``bad-input``: a register that is not known here, or of the wrong length.
            PolicyRefusal: ``unenforceable``: the environment is weaker than its level.
        """
        states = environment.tcb_states or (UP_TO_DATE,)
        if level == "L5" and (
            set(states) != {UP_TO_DATE} or environment.allow_simulated or platforms is None
        ):
            raise PolicyRefusal(
                "unenforceable",
                "L5 takes platforms that are up to date and on the site's list of platforms, and "
                "no simulated one; correct the environment, list the platforms, or ask for L4.",
            )
        intel = any(REGISTERS.get(one.kind, ("",))[0] in _INTEL for one in environment.measurements)
        if level == "L5" and intel and not min_tcb_evaluation:
            raise PolicyRefusal(
                "unenforceable",
                "L5 takes Intel's platforms that are up to date by rules that the site knows to be "
                "recent; set min_tcb_evaluation to the number of the newest collateral imported.",
            )
        try:
            return cls(
                measurements=environment.measurements,
                tcb_states=states,
                advisories=tuple(advisories),
                platforms=None if platforms is None else tuple(platforms),
                min_tcb_evaluation=min_tcb_evaluation,
                max_collateral_age_s=max_collateral_age_s,
                amd_platforms={} if amd_platforms is None else amd_platforms,
                allow_simulated=environment.allow_simulated,
                strict=level == "L5",
            )
        except ValueError as error:
            raise InputError(
                "bad-input", f"The contract's environment cannot be enforced: {error}"
            ) from error

    def references(self, kind: EvidenceKind) -> dict[str, tuple[Measurement, ...]]:
        """The accepted values of each register of a kind of evidence.

        Raises:
            VerificationError: ``no-reference-values``: too few to say what it is.
        """
        found: dict[str, tuple[Measurement, ...]] = {}
        for one in self.measurements:
            if REGISTERS[one.kind][0] == kind:
                found[one.kind] = (*found.get(one.kind, ()), one)
        sets = (_ENOUGH_STRICT if self.strict else _ENOUGH)[kind]
        if not any(enough <= set(found) for enough in sets):
            wanted = " or ".join("+".join(sorted(enough)) for enough in sets)
            raise refuse(
                Reason.NO_REFERENCE,
                f"The contract does not say what {kind} evidence must measure; it has to name "
                f"{wanted}.",
            )
        return found

    def judge_measurements(
        self,
        kind: EvidenceKind,
        found: Mapping[str, str],
        *,
        product: int | None = None,
        svn: int | None = None,
    ) -> None:
        """Compare each register that the policy names.

        Raises:
            VerificationError: ``measurement``, ``signer``, ``product`` or ``svn``.
        """
        for register, accepted in self.references(kind).items():
            value = found.get(register, "")
            same = [one for one in accepted if hmac.compare_digest(one.value, value)]
            if not same:
                what = Reason.SIGNER if register == "mrsigner" else Reason.MEASUREMENT
                raise refuse(
                    what,
                    f"The evidence's {register} is none that the contract accepts.",
                    register=register,
                    found=value,
                )
            if register != "mrsigner":
                continue
            same = [one for one in same if one.product == product]
            if not same:
                raise refuse(
                    Reason.PRODUCT, "The enclave is another product of its signer.", found=product
                )
            if not any((one.min_svn or 0) <= (svn or 0) for one in same):
                raise refuse(
                    Reason.SVN, "The enclave is an older version than is accepted.", found=svn
                )

    def judge_platform(self, platform: str) -> None:
        """Whether the machine is one of those listed; zeros, as of a masked chip id, name none.

        Raises:
            VerificationError: ``platform``.
        """
        nobody = not platform.strip("0")
        if self.platforms is not None and (nobody or platform not in self.platforms):
            raise refuse(
                Reason.PLATFORM,
                "The machine is not on the site's list of platforms.",
                found=platform,
            )

    def judge_tcb(self, status: str, advisories: Sequence[str]) -> None:
        """Whether the platform's state and its open advisories are accepted.

        Raises:
            VerificationError: ``tcb-status`` or ``advisory``.
        """
        if status == REVOKED or status not in self.tcb_states:
            raise refuse(
                Reason.TCB_STATUS,
                f"The platform's state is {status}; accepted: {', '.join(self.tcb_states)}.",
                found=status,
                advisories=list(advisories),
            )
        open_ones = sorted(set(advisories) - set(self.advisories))
        if open_ones:
            raise refuse(
                Reason.ADVISORY,
                f"Open on the platform, and not accepted: {', '.join(open_ones)}.",
                advisories=open_ones,
            )


def judge_binding(found: bytes, expected: bytes) -> None:
    """Whether evidence is bound to what the caller asked for.

    Raises:
        VerificationError: ``binding``.
    """
    if not hmac.compare_digest(found, expected):
        raise refuse(
            Reason.BINDING,
            "The evidence is bound to something else: another key, session or contract.",
        )
