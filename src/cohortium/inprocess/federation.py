"""``co.local``: hub, nodes, contract, guard and masked sums of a real consortium, in this process.

Nothing here replaces a check: each node verifies the contract and every request as it does behind
a network. What is missing is the separation: all keys and data are in one process, so this is for
notebooks, tests and rehearsing a study, not for protecting anyone's data.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal

import httpx
from pydantic import ValidationError

from cohortium.contract.model import (
    Cohort,
    Computation,
    Contract,
    Proposal,
    ProposedParticipant,
    ProposedVariable,
)
from cohortium.core.clock import system_clock
from cohortium.core.dictionary import Label, Variable, VariableType
from cohortium.core.model import explain
from cohortium.core.rest import API, ConsortiumInfo
from cohortium.crypto.authority import Authority
from cohortium.crypto.keys import SigningKey
from cohortium.disclosure.limits import Disclosure
from cohortium.errors import InputError
from cohortium.hub.api import build_app
from cohortium.hub.config import HubConfig
from cohortium.hub.service import Hub
from cohortium.hub.store import HubStore
from cohortium.hub.thread_runner import ThreadRunner
from cohortium.inprocess.frames import DATASET, harmonise
from cohortium.inprocess.transport import AsgiTransport, LoopThread
from cohortium.link._generated.link_pb2 import Message
from cohortium.link.memory import MemoryLink, MemoryUplink
from cohortium.link.ports import Reply
from cohortium.node import consent, outbox
from cohortium.node.datasets import MemoryDatasets
from cohortium.node.identity import Identity
from cohortium.node.policy import Policy
from cohortium.node.service import NodeService
from cohortium.node.store import NodeStore
from cohortium.node.watch import WATCH_S, keep_watch
from cohortium.sdk.client import Client
from cohortium.sdk.federation import Federation
from cohortium.sdk.study import Study

CONSORTIUM = "In this process"
RESEARCHER = "You"
STUDY = "local"
VALID_FOR = timedelta(days=3650)
TIMEOUT_S = 600.0
UNLIMITED = 1_000_000_000


class _Site:
    """A node on the in-memory link."""

    def __init__(self, name: str, datasets: MemoryDatasets, consortium: str, min_cell: int) -> None:
        self.identity = Identity(name=name, consortium=consortium, key=SigningKey.generate())
        self.store = NodeStore(":memory:")
        self.policy = Policy(min_cell=min_cell)
        self.service = NodeService(
            identity=self.identity,
            store=self.store,
            datasets=datasets,
            policy=lambda: self.policy,
        )
        self._datasets = datasets
        self._uplink: MemoryUplink | None = None

    async def connect(self, link: MemoryLink) -> None:
        """Say hello, and publish the dataset's dictionary."""
        self._uplink = link.join(self.identity.name, self)
        self.service.welcome(await self._uplink.request(self.service.hello(), TIMEOUT_S))
        outbox.owe_datasets(self.store, self._datasets.published())
        outbox.owe_policy(self.store, self.policy.digest)
        await self.flush()

    async def handle(self, message: Message) -> Reply:
        """See `cohortium.link.ports.Handler`.

        The end of a run may arrive while Python exits, when threads can no longer be started; it is
        a moment's work and answered on the loop.
        """
        if message.WhichOneof("body") == "run_end":
            return self.service.answer(message)
        return await self.service.handle(message)

    async def flush(self) -> None:
        """Send the hub what it is owed."""
        if self._uplink is not None:
            uplink = self._uplink
            await outbox.flush(self.store, lambda message: uplink.request(message, TIMEOUT_S))

    async def sign(self, digest: str) -> None:
        """Review a contract as a steward's command does, and say yes."""
        stored = consent.find_contract(self.store, digest)
        consent.sign(self.service, consent.review(self.service, stored))
        await self.flush()


class _Consortium:
    """Everything but the researcher, on one event loop in a thread."""

    def __init__(self, datasets: Mapping[str, MemoryDatasets], min_cell: int) -> None:
        authority = Authority.create(CONSORTIUM, system_clock())
        self.info = ConsortiumInfo(
            name=CONSORTIUM,
            fingerprint=authority.fingerprint,
            ca_pem=authority.certificate_pem.decode(),
            link_address="memory:0",
        )
        self.thread = LoopThread("cohortium-local")
        self._runner = ThreadRunner()
        self._store = HubStore("sqlite://")
        self._researcher = ""
        self._watches: list[asyncio.Task[None]] = []
        config = HubConfig(entries_per_minute=UNLIMITED)
        self.hub = Hub(self._store, consortium=self.info, runner=self._runner, config=config)
        self._link = MemoryLink(self.hub.handler_for)
        self.sites = [
            _Site(name, frames, self.info.fingerprint, min_cell)
            for name, frames in datasets.items()
        ]
        self.thread.run(self._start())

    async def _start(self) -> None:
        await self.hub.start(self._link, watch=False)
        for site in self.sites:
            self.hub.members.add(site.identity.name, site.identity.key.public)
            await site.connect(self._link)
            self.hub.on_connect(site.identity.name)
            watching = keep_watch(site.service.witness, lambda: True, every_s=WATCH_S)
            self._watches.append(asyncio.create_task(watching))

    def add_researcher(self, key: SigningKey) -> Client:
        """Register a researcher and connect to the hub's REST application."""
        self.hub.members.add_user(RESEARCHER, key.public)
        self._researcher = key.public
        http = httpx.Client(
            base_url="http://local" + API,
            transport=AsgiTransport(build_app(self.hub), self.thread),
            timeout=None,  # noqa: S113 - in this process; a run may take long
        )
        return Client(http, key=key, fingerprint=self.info.fingerprint)

    def sign(self, contract: Contract) -> None:
        """Every participant signs, and learns that the others did."""
        self.thread.run(self._sign(contract))

    async def _sign(self, contract: Contract) -> None:
        await self.hub.delivered()
        for site in self.sites:
            if contract.participant(site.identity.name) is not None:
                await site.sign(contract.digest)
        await self.hub.delivered()

    async def _stop(self) -> None:
        user = self._store.members.user_by_key(self._researcher)
        if user is not None:
            for run in self._store.runs.open():
                self.hub.cancel(run.info.id, user)
        for watching in self._watches:
            watching.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        await self.hub.stop()

    def close(self) -> None:
        """Stop the hub, end the threads, close the stores."""
        if self.thread.loop.is_closed():
            return
        self.thread.run(self._stop())
        self._runner.close()
        self.thread.close()
        for site in self.sites:
            site.store.close()
        self._store.close()


class LocalFederation(Federation):
    """A `Federation` in this process; `close` it, or use it as a context manager.

    Every study that is proposed is signed by all sites at once.
    """

    def __init__(self, client: Client, consortium: _Consortium) -> None:
        super().__init__(client, CONSORTIUM)
        self._consortium = consortium
        # Studies and runs hold the client: everything lives as long as any of them.
        self._finalizer = weakref.finalize(client, _close_unattended, consortium.close)

    def submit_proposal(self, proposal: Proposal, *, amends: Contract | None = None) -> Study:
        """See `Federation.submit_proposal`; all sites sign."""
        study = super().submit_proposal(proposal, amends=amends)
        self._consortium.sign(study.contract)
        return study.refresh()

    def close(self) -> None:
        """Stop everything; studies and results of this federation are gone."""
        super().close()
        if self._finalizer.detach() is not None:
            self._consortium.close()


def _close_unattended(close: Callable[[], None]) -> None:
    """At exit, or when the garbage collector comes by: perhaps in a thread that `close` joins."""
    if threading.current_thread() is threading.main_thread():
        close()
    else:
        threading.Thread(target=close, name="cohortium-close").start()


def local(
    frames: Mapping[str, Any],
    *,
    categories: Collection[str] = (),
    min_cell: int = 5,
    floor: Literal["site", "total"] = "total",
    min_sites: int | None = None,
    by_site: bool = False,
) -> LocalFederation:
    """A whole federation in this process, over data frames.

    Its one study, ``local``, permits every built-in computation on all columns (but free text),
    over any cohort, and is signed by every site. The code is that of a real consortium: contract,
    signatures, each node's guard, masked sums.

        fed = co.local({"north": north, "south": south}, categories=["sex"])
        fed.study().describe(["age"], by="sex")

    Args:
        frames: pandas, polars or pyarrow tables by site, at least two, with the same columns.
        categories: Columns that hold codes (``1``, ``2``) and are categories.
        min_cell: Smallest number of persons that a released number may rest on.
        floor: ``total``: `min_cell` holds for the sum over sites. ``site``: a site with fewer
            persons of its own in a cohort or group contributes nothing to it.
        min_sites: Sites that a run needs; all by default.
        by_site: Whether numbers of single sites may be released.

    Raises:
        InputError: ``bad-data`` where the frames do not fit together; ``bad-input``.
    """
    if not hasattr(frames, "items") or len(frames) < 2:
        raise InputError(
            "bad-input",
            'A federation has at least two sites: co.local({"north": frame, "south": frame}).',
        )
    named = {str(site): frame for site, frame in frames.items()}
    datasets, variables = harmonise(named, categories)
    try:
        disclosure = Disclosure(min_cell=min_cell, floor=floor, by_site=by_site or None)
    except ValidationError as error:
        raise InputError("bad-input", f"Not a federation: {explain(error)}.") from error
    proposal = _proposal(list(named), variables, disclosure, min_sites)
    consortium = _Consortium(datasets, min_cell)
    try:
        federation = LocalFederation(consortium.add_researcher(SigningKey.generate()), consortium)
    except BaseException:
        consortium.close()
        raise
    try:
        federation.submit_proposal(proposal)
    except BaseException:
        federation.close()
        raise
    return federation


def _proposal(
    sites: Sequence[Label],
    variables: Sequence[Variable],
    disclosure: Disclosure,
    min_sites: int | None,
) -> Proposal:
    """The permissive study."""
    usable = [variable for variable in variables if variable.type is not VariableType.TEXT]
    if not usable:
        raise InputError("bad-data", "All columns are free text; there is nothing to compute.")
    try:
        return Proposal(
            study=STUDY,
            title="Everything on these frames",
            purpose="Analyses in one process, for notebooks and tests.",
            participants=tuple(
                ProposedParticipant(
                    name=site, dataset=DATASET, variables=tuple(v.name for v in usable)
                )
                for site in sites
            ),
            variables=tuple(
                ProposedVariable(
                    name=v.name,
                    type=v.type,
                    unit=v.unit,
                    levels=v.levels,
                    decimals=v.decimals,
                    description=v.description,
                )
                for v in usable
            ),
            cohort=Cohort(adjustable=tuple(v.name for v in usable)),
            computations=tuple(
                Computation(name=name)
                for name in (
                    "stats.*",
                    "survival.*",
                    "models.*",
                    "evaluate.*",
                    "causal.*",
                    "missing.*",
                    "glm",
                )
            ),
            min_sites=len(sites) if min_sites is None else min_sites,
            disclosure=disclosure,
            recipients=(RESEARCHER,),
            expires_at=system_clock() + VALID_FOR,
        )
    except ValidationError as error:
        raise InputError("bad-input", f"Not a federation: {explain(error)}.") from error
