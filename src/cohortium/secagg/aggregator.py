"""The hub's side of the secure sum: a pure state machine.

`Aggregator` holds what is fixed for a round, `AggregatorRound` what has arrived. `receive` takes a
state and a message, or the news that time is up, and gives the next state and what is to be sent.
Masked inputs are added up as they come, so that the hub holds one vector whatever the number of
sites; the running total passes from state to state and is changed in place: a state is used once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from cohortium.core.rounds import Layout, Total
from cohortium.errors import ConflictError, PolicyRefusal, ProtocolError
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.frame import Frame
from cohortium.secagg.keys import agree, pair_mask, private_key, public_key, self_mask
from cohortium.secagg.messages import MaskedInput, SurvivorList, SurvivorSignature, Unmasking
from cohortium.secagg.parties import Parties
from cohortium.secagg.party import require_same_run
from cohortium.secagg.shamir import combine_all, is_share
from cohortium.secagg.survivors import check_signatures
from cohortium.secagg.vector import MaskKey, add, apply_masks, check_word, decode

Step = Literal["MaskedInputCollection", "ConsistencyCheck", "Unmasking", "done"]


class TimeIsUp:
    """The message that no more answers of the present step will be waited for."""


TIME_IS_UP: Final = TimeIsUp()

Incoming = MaskedInput | SurvivorSignature | Unmasking | TimeIsUp
Outgoing = tuple[str, SurvivorList]
"""Recipient and message."""


@dataclass(frozen=True)
class AggregatorRound:
    """What the hub knows of a round.

    Attributes:
        step: The step whose answers are awaited.
        inputs: Whose masked inputs are in `total`.
        total: Their sum in the rings.
        survivors: The list that is being opened; empty before step 3.
        claims: Lists of survivors that sites had answered for before they were asked again.
        signatures: On `survivors`, by committee member; before step 3 on the round's parties.
        shares: Of step 4: by holder, by the party whose secret it is.
    """

    step: Step
    inputs: frozenset[str] = frozenset()
    total: bytearray = field(default_factory=bytearray, repr=False)
    survivors: frozenset[str] = frozenset()
    claims: Mapping[str, frozenset[str]] = field(default_factory=dict)
    signatures: Mapping[str, bytes] = field(default_factory=dict)
    shares: Mapping[str, Mapping[str, bytes]] = field(default_factory=dict, repr=False)


class Aggregator:
    """One round at the hub.

    Args:
        parties: Of the run.
        binding: Of the round.
        layout: Of the contributions.
        active: The parties whose keys are shared (U2 of the paper); None: all.
        asked: Those of them whose inputs are awaited; None: all of them. After a restart of the hub
            these are the survivors on whom sites had agreed before.
        repeated: Whether the round may have been asked before, by a hub that was restarted.
        mask_keys: Public mask keys by party; None where nothing can be recovered.
        drop: Whether the round may end without some of them.
        threads: Cores to use.
    """

    def __init__(
        self,
        parties: Parties,
        binding: RoundBinding,
        layout: Layout,
        *,
        active: Collection[str] | None = None,
        asked: Collection[str] | None = None,
        repeated: bool = False,
        mask_keys: Mapping[str, bytes] | None = None,
        drop: bool = True,
        threads: int = 1,
    ) -> None:
        require_same_run(binding, parties.roster)
        self.parties = parties
        self.active = parties.all if active is None else frozenset(active)
        self._asked = self.active if asked is None else frozenset(asked) & self.active
        self._repeated = repeated
        self._round = binding.round
        self._digest = binding.digest(layout, parties.roster.digest, parties.text(self.active))
        self._frame = Frame(layout, len(parties.sites))
        self._mask_keys = mask_keys or {}
        self.drop = drop and parties.recoverable
        self._threads = threads

    def start(self) -> AggregatorRound:
        """Nothing has arrived."""
        return AggregatorRound("MaskedInputCollection")

    def awaited(self, state: AggregatorRound) -> frozenset[str]:
        """Who has not answered the present step."""
        if state.step == "MaskedInputCollection":
            return self._asked - state.inputs
        if state.step == "ConsistencyCheck":
            return self.parties.committee & state.survivors - set(state.signatures)
        return state.survivors - set(state.shares) if state.step == "Unmasking" else frozenset()

    def receive(
        self, state: AggregatorRound, message: Incoming
    ) -> tuple[AggregatorRound, list[Outgoing]]:
        """The next state and what is to be sent.

        Raises:
            ProtocolError: ``unexpected-message``, ``wrong-round``, ``wrong-length``,
                ``malformed-message``.
            VerificationError: ``bad-signature``.
            PolicyRefusal: ``too-few-sites``: the step can be asked for again when more are back.
            ConflictError: ``round-burnt``: masks were opened, and now too few are there.
        """
        if isinstance(message, TimeIsUp):
            return self._time_is_up(state)
        if message.round != self._round:
            raise ProtocolError(
                "wrong-round",
                f"{message.sender} answered for another round.",
                site=message.sender,
            )
        if message.sender not in self.awaited(state):
            raise ProtocolError(
                "unexpected-message",
                f"{message.sender} is not asked for this now.",
                site=message.sender,
            )
        if isinstance(message, MaskedInput) and state.step == "MaskedInputCollection":
            return self._collect_input(state, message)
        if isinstance(message, SurvivorSignature) and state.step == "ConsistencyCheck":
            return self._collect_signature(state, message)
        if isinstance(message, Unmasking) and state.step == "Unmasking":
            return self._collect_shares(state, message)
        raise ProtocolError(
            "unexpected-message", f"{message.sender} answered another step.", site=message.sender
        )

    # Step 2, MaskedInputCollection

    def _collect_input(
        self, state: AggregatorRound, message: MaskedInput
    ) -> tuple[AggregatorRound, list[Outgoing]]:
        if len(message.vector) != self._frame.n_bytes:
            raise ProtocolError(
                "wrong-length",
                f"The masked vector of {message.sender} has {len(message.vector)} bytes, not "
                f"{self._frame.n_bytes}.",
                site=message.sender,
            )
        claims = dict(state.claims)
        if message.agreed is not None:
            self._require_possible(message.sender, message.agreed)
            claims[message.sender] = message.agreed
        signatures = dict(state.signatures)
        if message.signature is not None and message.sender in self.parties.committee:
            signatures[message.sender] = message.signature
        total = state.total or bytearray(self._frame.n_bytes)
        add(self._frame, total, message.vector)
        state = replace(
            state,
            inputs=state.inputs | {message.sender},
            total=total,
            signatures=signatures,
            claims=claims,
        )
        if state.inputs != self._asked:
            return state, []
        self._require_claimed(state)
        if state.inputs != self.active:
            return self._close_inputs(state)
        if not self.parties.recoverable:
            return replace(state, step="done", survivors=state.inputs), []
        state = replace(state, survivors=state.inputs)
        if not self.parties.complete:
            check_signatures(state.signatures, self._digest, state.survivors, self.parties)
        return self._ask_to_unmask(state)

    def _time_is_up(self, state: AggregatorRound) -> tuple[AggregatorRound, list[Outgoing]]:
        if state.step == "MaskedInputCollection":
            self._require_claimed(state)
            return self._close_inputs(state)
        raise ConflictError(
            "round-burnt",
            f"Round {self._round} cannot be completed: in the step {state.step} too few sites are "
            f"left. Missing: {_names(self.awaited(state))}. Resume the run when they are back, or "
            "submit a new one.",
            absent=sorted(self.awaited(state)),
        )

    def claimed(self, state: AggregatorRound) -> frozenset[str]:
        """The list of survivors that most of the sites which answered for one say; else empty."""
        said = Counter(state.claims.values())
        return max(said, key=lambda names: (said[names], len(names)), default=frozenset())

    def _require_possible(self, sender: str, claim: frozenset[str]) -> None:
        """Refuse a list that the site cannot have answered for."""
        possible = (
            self._repeated
            and claim <= self.active
            and sender in claim
            and len(claim) >= self.parties.fewest
        )
        if not possible:
            raise ProtocolError(
                "unexpected-message",
                f"{sender} cannot have answered for those survivors of round {self._round}.",
                site=sender,
            )

    def _require_claimed(self, state: AggregatorRound) -> None:
        """Go on with the list of survivors that was begun to be opened."""
        claimed = self.claimed(state)
        if not claimed:
            return
        if claimed < state.inputs:
            raise ConflictError(
                "other-survivors",
                f"Sites have answered for other survivors of round {self._round}.",
                survivors=sorted(claimed),
            )
        absent = sorted(claimed - state.inputs)
        if absent:
            raise PolicyRefusal(
                "too-few-sites",
                f"Round {self._round} was begun to be opened for {_names(claimed)}. "
                f"Absent: {_names(absent)}. Resume the run when they are back.",
                absent=absent,
            )

    def _close_inputs(self, state: AggregatorRound) -> tuple[AggregatorRound, list[Outgoing]]:
        absent = sorted(self.active - state.inputs)
        poor = [
            site
            for site in sorted(self.active)
            if len(self.parties.holders(site) & state.inputs) < self.parties.threshold
        ]
        unexpected = state.inputs != self._asked and not self.drop
        if unexpected or len(state.inputs) < self.parties.fewest or poor:
            raise PolicyRefusal(
                "too-few-sites",
                f"{len(state.inputs)} of {len(self.active)} sites answered in round {self._round}. "
                f"Absent: {_names(absent)}. Resume the run when they are back.",
                absent=absent,
            )
        state = replace(state, step="ConsistencyCheck", survivors=state.inputs, signatures={})
        message = SurvivorList(self._round, state.survivors)
        return state, [(site, message) for site in sorted(self.awaited(state))]

    # Step 3, ConsistencyCheck

    def _collect_signature(
        self, state: AggregatorRound, message: SurvivorSignature
    ) -> tuple[AggregatorRound, list[Outgoing]]:
        state = replace(state, signatures={**state.signatures, message.sender: message.signature})
        if len(state.signatures) < self.parties.quorum:
            return state, []
        check_signatures(state.signatures, self._digest, state.survivors, self.parties)
        return self._ask_to_unmask(state)

    # Step 4, Unmasking

    def _ask_to_unmask(self, state: AggregatorRound) -> tuple[AggregatorRound, list[Outgoing]]:
        state = replace(state, step="Unmasking")
        message = SurvivorList(self._round, state.survivors, state.signatures)
        return state, [(site, message) for site in sorted(state.survivors)]

    def _collect_shares(
        self, state: AggregatorRound, message: Unmasking
    ) -> tuple[AggregatorRound, list[Outgoing]]:
        expected = self.parties.holders(message.sender) & self.active
        if set(message.shares) != expected or any(
            not is_share(share) for share in message.shares.values()
        ):
            raise ProtocolError(
                "malformed-message",
                f"{message.sender} did not answer with the shares that it holds.",
                site=message.sender,
            )
        state = replace(state, shares={**state.shares, message.sender: message.shares})
        return (replace(state, step="done") if self._can_open(state) else state), []

    def _can_open(self, state: AggregatorRound) -> bool:
        answered = frozenset(state.shares)
        return len(answered) >= self.parties.threshold and all(
            len(self.parties.holders(site) & answered) >= self.parties.threshold
            for site in self.active
        )

    def result(self, state: AggregatorRound) -> Total:
        """The sum over the survivors.

        Raises:
            ProtocolError: ``masks-do-not-cancel`` where the sites did not mask for the same round.
        """
        if state.step != "done":
            raise RuntimeError("the round is not finished")
        if self.parties.recoverable:
            apply_masks(self._frame, state.total, self._open(state), threads=self._threads)
        if check_word(self._frame, state.total) != len(state.survivors):
            raise ProtocolError(
                "masks-do-not-cancel",
                f"In round {self._round} the sites did not mask for the same state and parties. "
                "Resume the run; if it happens again, a site or the hub breaks the protocol.",
                round=self._round,
            )
        return decode(self._frame, state.total)

    def _open(self, state: AggregatorRound) -> list[MaskKey]:
        """The masks that are left in the total, with the sign that takes them away."""
        owners = sorted(self.active)
        shares = [
            {
                self.parties.point(holder): state.shares[holder][owner]
                for holder in sorted(self.parties.holders(owner) & set(state.shares))
            }
            for owner in owners
        ]
        opened = dict(zip(owners, combine_all(shares, self.parties.threshold), strict=True))
        masks = [
            MaskKey(self_mask(opened[site], self._digest), negate=True) for site in state.survivors
        ]
        for gone in sorted(self.active - state.survivors):
            if public_key(opened[gone]) != self._mask_keys[gone]:
                raise ProtocolError(
                    "masks-do-not-cancel",
                    f"The shares do not open the mask key of {gone}. Submit a new run; if it "
                    "happens again, a site breaks the protocol.",
                    round=self._round,
                )
            secret = private_key(opened[gone])
            for peer in self.parties.neighbours(gone) & state.survivors:
                shared = agree(secret, self._mask_keys[peer], peer)
                key = pair_mask(shared, self._digest, gone, peer)
                masks.append(MaskKey(key, negate=peer < gone))
        return masks


def _names(sites: Collection[str]) -> str:
    return ", ".join(sorted(sites)) or "none"
