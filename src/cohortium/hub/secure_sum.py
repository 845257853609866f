"""Drives the secure sum of a run over the link: asks, waits, gives up on those who dropped.

What is decided here is only whom to ask and how long to wait. What may be asked and what an answer
means is decided by `secagg.Aggregator`, and each site decides for itself.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from cohortium.core.rounds import Layout, State, Total
from cohortium.errors import CohortiumError, ConflictError, PeerError, PolicyRefusal, ProtocolError
from cohortium.hub.exchange import Exchange, named
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.codec import expect, put_state
from cohortium.link.ports import Addressed, Request
from cohortium.link.rounds import (
    get_key_shares,
    get_signature,
    get_unmasking,
    pack_keys,
    put_round,
    put_survivors,
    unpack_keys,
)
from cohortium.secagg.aggregator import (
    TIME_IS_UP,
    Aggregator,
    AggregatorRound,
    Incoming,
    Step,
)
from cohortium.secagg.binding import RoundBinding
from cohortium.secagg.messages import KeyShares, MaskedInput, SurvivorList
from cohortium.secagg.parties import Parties

logger = logging.getLogger(__name__)

REPLIES: Final[Mapping[str, str]] = {
    "ShareKeys": "share_reply",
    "MaskedInputCollection": "round_reply",
    "ConsistencyCheck": "survivor_signature",
    "Unmasking": "unmasking",
}
FEW_PARTIES: Final = 64
"""Up to so many, the roster goes with each round; more keep what came with their first."""

REJOIN_S: Final = 1.0
"""How long a site that is connected again has for sharing its keys before the next round."""


@dataclass(frozen=True)
class Patience:
    """How long the hub waits, in seconds.

    Attributes:
        round_s: For each site in a step.
        straggler_s: For the others once enough sites have answered, and at least as long as those
            took.
    """

    round_s: float
    straggler_s: float


class SecureSum:
    """The sums of one run.

    Args:
        parties: Verified.
        envelopes: Their signed round keys.
        run_id: Of the run.
        patience: How long to wait.
        open_exchange: Makes an `Exchange`.
        connected: The sites with a live link.
        continues: Whether rounds stand alone (`Analysis.drop_outs`).

    Attributes:
        active: Who takes part in the round that comes.
        summed: Whose contributions are in the last sum.
        payload_bytes: Masked bytes that left each site in it.
    """

    def __init__(
        self,
        parties: Parties,
        envelopes: Sequence[bytes],
        *,
        run_id: str,
        patience: Patience,
        open_exchange: Callable[[], Exchange],
        connected: Callable[[], frozenset[str]],
        continues: bool,
    ) -> None:
        self.parties = parties
        self.active = parties.all
        self.summed = parties.all
        self.payload_bytes = 0
        self._envelopes = envelopes
        self._run_id = run_id
        self._patience = patience
        self._open = open_exchange
        self._connected = connected
        self._continues = continues
        self._keys: dict[str, KeyShares] = {}
        self._greeted: set[str] = set()
        self._repeated = False

    # What the run's journal keeps beside each sum

    def note(self) -> bytes:
        """Who is in the last sum and who in the next round, with their keys for it.

        Keys are public, and shares are sealed: so that a hub that was restarted needs no site for
        them. With many sites they are asked for again.
        """
        bits = self.parties.to_bits(self.summed) + self.parties.to_bits(self.active)
        if len(self.parties.sites) > FEW_PARTIES:
            return bits
        return bits + pack_keys(self._keys, self._run_id, self.parties)

    def restore(self, note: bytes) -> None:
        """Go on from what `note` gave; the next round may have been asked before."""
        width = len(self.parties.to_bits(()))
        self.summed = self.parties.from_bits(note[:width])
        self.active = self.parties.from_bits(note[width : 2 * width])
        self._keys = unpack_keys(note[2 * width :], self.parties)
        self._repeated = True

    # Step 1, ShareKeys

    def share_keys(
        self, number: int, sites: Collection[str], wait_s: float, *, needed: bool = True
    ) -> frozenset[str]:
        """Ask for keys for a round where they are not known; returns who has given them.

        Raises:
            CohortiumError: A site's refusal, where its keys are needed.
        """
        if not self.parties.recoverable:
            return frozenset(sites)
        missing = {site for site in sites if not self._has_keys(site, number)}
        if missing:
            message = Message()
            message.share_request.run_id, message.share_request.round = self._run_id, number
            message.share_request.roster.extend(self._envelopes)
            until = time.monotonic() + wait_s
            with self._open() as exchange:
                exchange.send("ShareKeys", dict.fromkeys(sorted(missing), message))
                while missing and (answer := exchange.next(until)) is not None:
                    _, site, reply = answer
                    missing.discard(site)
                    try:
                        self._take_keys(site, reply, number)
                    except CohortiumError as refusal:
                        if needed:
                            raise
                        logger.warning("run %s goes on without %s", self._run_id, refusal)
        return frozenset(site for site in sites if self._has_keys(site, number))

    def _take_keys(self, site: str, reply: Message | CohortiumError, number: int) -> None:
        if isinstance(reply, CohortiumError):
            if not _away(reply):
                raise reply
            return
        try:
            shared = expect(reply, "share_reply").share_reply
            if (shared.run_id, shared.round) != (self._run_id, number):
                raise ProtocolError("wrong-round", "The answer is for another round.")
            self._keys[site] = get_key_shares(shared, site, self.parties)
        except CohortiumError as error:
            raise named(error, site) from error

    def _has_keys(self, site: str, number: int) -> bool:
        return site in self._keys and self._keys[site].round == number

    def require_enough(self) -> None:
        """Refuse to begin a round that could not end.

        Raises:
            PolicyRefusal: ``too-few-sites``.
        """
        absent = sorted(self.parties.all - self.active)
        if len(self.active) < self.parties.fewest:
            raise PolicyRefusal(
                "too-few-sites",
                f"{len(self.active)} sites shared keys; {self.parties.fewest} must. "
                f"Absent: {', '.join(absent)}. Resume the run when they are back.",
                absent=absent,
            )

    def rejoin(self, number: int) -> None:
        """Let sites that are back take part in round `number`, where each round stands alone."""
        back = (self.parties.all - self.active) & self._connected()
        if self._continues and back:
            self.active |= self.share_keys(number, back, REJOIN_S, needed=False)

    # Steps 2 to 4

    def sum(self, number: int, state: State, layout: Layout, binding: RoundBinding) -> Total:
        """Ask every active site for its masked contribution, and unmask the sum.

        Raises:
            CohortiumError: A site's refusal; see also `Aggregator.receive`.
        """
        absent = sorted(self.active - self.share_keys(number, self.active, self._patience.round_s))
        if absent:
            raise PolicyRefusal(
                "too-few-sites",
                f"{', '.join(absent)} did not share keys for round {number}. Resume the run when "
                "they are back.",
                absent=absent,
            )
        try:
            return self._sum(number, state, layout, binding, self.active)
        except ConflictError as error:
            if error.code != "other-survivors":
                raise
            survivors = frozenset(error.details["survivors"])
        # Before the hub was restarted, sites had agreed on who was left: so be it.
        return self._sum(number, state, layout, binding, survivors)

    def _sum(
        self,
        number: int,
        state: State,
        layout: Layout,
        binding: RoundBinding,
        asked: frozenset[str],
    ) -> Total:
        masks = {s: self._keys[s].mask_key for s in self.active if s in self._keys}
        aggregator = Aggregator(
            self.parties,
            binding,
            layout,
            active=self.active,
            asked=asked,
            repeated=self._repeated,
            mask_keys=masks,
            drop=asked == self.active and (self._continues or number == 1),
            threads=os.cpu_count() or 1,
        )
        collected = _Collected(self, aggregator, number)
        with self._open() as exchange:
            exchange.send(collected.progress.step, self._requests(number, state, asked))
            collected.from_sites(exchange)
        done = collected.progress
        self._keys = {
            site: collected.following[site] for site in done.survivors & set(collected.following)
        }
        self._greeted |= done.survivors
        self._repeated = False
        self.payload_bytes = len(done.total)
        self.summed = self.active = done.survivors
        if done.survivors != aggregator.active:
            logger.warning(
                "run %s, round %d: summed without %s",
                self._run_id,
                number,
                ", ".join(sorted(aggregator.active - done.survivors)),
            )
        return aggregator.result(done)

    def _requests(self, number: int, state: State, asked: Collection[str]) -> dict[str, Request]:
        common = Message()
        common.round_request.run_id, common.round_request.round = self._run_id, number
        put_state(state, common.round_request)
        few = len(self.parties.sites) <= FEW_PARTIES
        if few or not set(asked) <= self._greeted:
            common.round_request.roster.extend(self._envelopes)
        if not self.parties.recoverable:
            return dict.fromkeys(sorted(asked), common)
        requests: dict[str, Request] = {}
        for site in sorted(asked):
            neighbours = self.parties.neighbours(site) & self.active
            shares = {peer: self._keys[peer].to(site) for peer in sorted(neighbours)}
            own = Message()
            put_round(own.round_request, self.active, shares, self.parties)
            requests[site] = Addressed(common, own)
        return requests

    def survivor_request(self, step: Step, message: SurvivorList) -> Message:
        """A list of survivors, to be signed or to be unmasked for."""
        request = put_survivors(message, self._run_id, self.parties)
        if step == "ConsistencyCheck":
            return Message(consistency_request=request)
        return Message(unmask_request=request)

    def read(
        self, step: Step, site: str, reply: Message, following: dict[str, KeyShares]
    ) -> Incoming:
        """A site's answer as a message of the protocol.

        Raises:
            CohortiumError: The site's error, or ``wrong-round``.
        """
        expect(reply, REPLIES[step])
        body = getattr(reply, REPLIES[step])
        if body.run_id != self._run_id:
            raise ProtocolError("wrong-round", f"{site} answered for another run.", site=site)
        if step == "MaskedInputCollection":
            if body.HasField("next") and self.parties.recoverable:
                following[site] = get_key_shares(body.next, site, self.parties)
            return MaskedInput(
                site,
                body.round,
                body.masked,
                following.get(site),
                body.signature or None,
                self.parties.from_bits(body.agreed) if body.agreed else None,
            )
        if step == "ConsistencyCheck":
            return get_signature(body, site)
        return get_unmasking(body, site, self.parties)

    @property
    def patience(self) -> Patience:
        """How long to wait."""
        return self._patience


class _Collected:
    """The answers to one round, and the patience with those that are missing."""

    def __init__(self, sums: SecureSum, aggregator: Aggregator, number: int) -> None:
        self._sums = sums
        self._aggregator = aggregator
        self._number = number
        self.progress: AggregatorRound = aggregator.start()
        self.following: dict[str, KeyShares] = {}
        self._begin_step()

    def _begin_step(self) -> None:
        self._began = time.monotonic()
        # The link's own time-out comes first, and says more.
        self._latest = self._until = self._began + self._sums.patience.round_s + 1.0
        self._hurried = False
        self._absent: set[str] = set()

    def from_sites(self, exchange: Exchange) -> None:
        """Take in answers until the sum can be opened."""
        while self.progress.step != "done":
            step = self.progress.step
            answer = None
            if not self._aggregator.awaited(self.progress) <= self._absent:
                answer = exchange.next(self._until)
            if answer is None:
                self._receive(TIME_IS_UP, exchange)
            elif answer[0] == step:  # what comes later than its step counts no more
                self._take(answer[1], answer[2], exchange)

    def _take(self, site: str, reply: Message | CohortiumError, exchange: Exchange) -> None:
        step = self.progress.step
        if isinstance(reply, CohortiumError):
            may_be_away = self._aggregator.drop or step != "MaskedInputCollection"
            # A site that has answered for other survivors opens nothing for these.
            if not (may_be_away and (_away(reply) or reply.code == "other-survivors")):
                raise reply
            self._absent.add(site)
            return
        try:
            self._receive(self._sums.read(step, site, reply, self.following), exchange)
        except ProtocolError as error:
            raise named(error, site) from error
        if self._aggregator.drop and self.progress.step == "MaskedInputCollection":
            self._hurry()

    def _hurry(self) -> None:
        """Wait no longer than for stragglers, once enough have answered."""
        if self._aggregator.claimed(self.progress) - self.progress.inputs:
            # Others have begun to open the sum with them: without them there is none.
            self._hurried, self._until = False, self._latest
        elif len(self.progress.inputs) >= self._sums.parties.fewest and not self._hurried:
            self._hurried = True
            now = time.monotonic()
            patience = max(self._sums.patience.straggler_s, now - self._began)
            self._until = min(self._latest, now + patience)

    def _receive(self, message: Incoming, exchange: Exchange) -> None:
        step = self.progress.step
        self.progress, outgoing = self._aggregator.receive(self.progress, message)
        if self.progress.step != step:
            self._begin_step()
        if outgoing:
            following = self.progress.step
            exchange.send(
                following,
                {site: self._sums.survivor_request(following, text) for site, text in outgoing},
            )


def _away(error: CohortiumError) -> bool:
    """Whether a site did not answer, rather than say no."""
    return isinstance(error, PeerError) and error.code != "peer-failed"
