"""The secure sum: masking, whole rounds, a national network, memory.

    python -m benchmarks.secagg [--quick] [--flower-python flower/bin/python] [--only masking ...]

Beside each number stands what it is to be compared with in the same run: the raw cost of making
the keystream and adding it, the plain sum of the same vectors, and, where an interpreter that has
Flower is named, a round of Flower's SecAgg+ on the same vectors (see `benchmarks.flower_secagg`).
Rounds with real processes are in `benchmarks.consortium`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from benchmarks import flower_secagg
from benchmarks.common import measure, print_header, print_table, show_seconds
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from tests.support.secagg import BINDING, World

from cohortium.core.rounds import FieldSpec, Layout
from cohortium.link import rounds as wire
from cohortium.link._generated import link_pb2 as pb
from cohortium.secagg.aggregator import TIME_IS_UP, Aggregator
from cohortium.secagg.frame import BLOCK_BYTES, Frame
from cohortium.secagg.messages import KeyShares, SurvivorList
from cohortium.secagg.parties import Parties
from cohortium.secagg.party import Party, PartyRound
from cohortium.secagg.vector import MaskKey, encode_masked

MIB = 1024 * 1024
CORES = len(os.sched_getaffinity(0))


# Masking at one site


def raw(n_bytes: int, n_masks: int) -> Callable[[], None]:
    """The bound: AES-256-CTR into one reused buffer, added to one reused vector, block by block."""
    zeros, buffer = memoryview(bytes(BLOCK_BYTES)), bytearray(BLOCK_BYTES + 15)
    mask = np.frombuffer(buffer, dtype="<u8", count=BLOCK_BYTES // 8)
    total = np.zeros(n_bytes // 8, dtype=np.uint64)

    def work() -> None:
        streams = [Cipher(AES(os.urandom(32)), CTR(bytes(16))).encryptor() for _ in range(n_masks)]
        for start in range(0, n_bytes, BLOCK_BYTES):
            size = min(BLOCK_BYTES, n_bytes - start)
            block = total[start // 8 : (start + size) // 8]
            for stream in streams:
                stream.update_into(zeros[:size], buffer)
                np.add(block, mask[: size // 8], out=block)

    return work


def masking(repeats: int) -> None:
    """Encoding and masking of 10^6 components, one core."""
    rows = []
    for kind, what in (("count", "64-bit counts"), ("vector", "float32 in 32 bits")):
        spec = FieldSpec((1_000_000,), kind)  # type: ignore[arg-type]
        values = np.arange(1_000_000, dtype=np.int64 if kind == "count" else np.float32)
        contribution = {"x": values if kind == "count" else values / np.float32(2**20)}
        for n_sites in (3, 10, 50):
            frame = Frame({"x": spec}, n_sites)
            # Its own mask and one with each other site; with three sites none may drop.
            n_masks = n_sites if n_sites > 3 else 2
            keys = [MaskKey(os.urandom(32), negate=i % 2 == 0) for i in range(n_masks)]
            dither = os.urandom(32)
            bound = measure(raw(frame.n_bytes, n_masks), repeats=repeats)
            ours = measure(
                lambda f=frame, k=keys, d=dither, c=contribution: encode_masked(f, c, k, dither=d),
                repeats=repeats,
            )
            rows.append(
                [
                    what,
                    n_sites,
                    f"{n_masks} x {frame.n_bytes / 1e6:.0f} MB",
                    f"{ours.median_s * 1e3:.1f} ms",
                    f"{bound.median_s * 1e3:.1f} ms",
                    f"{ours.median_s / bound.median_s:.2f}",
                    ours.n,
                ]
            )
    print("Masking 10^6 components at one site, one core\n")
    print_table(
        ["components", "sites", "keystream", "encode and mask", "raw AES-CTR and add", "x", "n"],
        rows,
    )


# Whole rounds in one process


@dataclass
class Measured:
    """Seconds and bytes of one round.

    Attributes:
        site_s: By step: the thread's processor time of each site.
        hub_s: The hub's, in all steps.
        up, down: Bytes that left and reached each site.
    """

    wall_s: float = 0.0
    hub_s: float = 0.0
    site_s: dict[str, float] = field(default_factory=dict)
    up: dict[str, int] = field(default_factory=dict)
    down: dict[str, int] = field(default_factory=dict)

    def spent(self, site: str, seconds: float) -> None:
        self.site_s[site] = self.site_s.get(site, 0.0) + seconds

    def moved(self, site: str, *, up: int = 0, down: int = 0) -> None:
        self.up[site] = self.up.get(site, 0) + up
        self.down[site] = self.down.get(site, 0) + down


class Network:
    """All sites of a run and the hub in this process, with the masks and messages of a real run.

    One verified roster serves all (each real site verifies all signatures itself).
    """

    def __init__(self, n_sites: int, layout: Layout, min_sites: int = 2) -> None:
        sites = [f"Hospital {i:04d}" for i in range(n_sites)]
        self.world = World(sites, min_sites=min_sites)
        began = time.perf_counter()
        roster = self.world.roster()
        self.verify_s = time.perf_counter() - began
        self.parties = Parties(roster, min_sites)
        self.layout = layout
        self.party = {s: Party(s, self.world.secrets[s], self.parties) for s in sites}
        self.number = 0
        self.keys: dict[str, KeyShares] = {}
        self.pool = ThreadPoolExecutor(CORES)

    def each(self, sites: Iterable[str], work: Callable[[str], Any]) -> Iterable[Any]:
        return self.pool.map(work, sites)

    def share_keys(self) -> None:
        """Step 1 for the next round, where it did not come with the round before."""
        if self.parties.recoverable:
            missing = [s for s in self.parties.sites if s not in self.keys]
            number = self.number + 1
            for keys in self.each(missing, lambda s: self.party[s].share_keys(number)):
                self.keys[keys.sender] = keys

    def round(
        self, contributions: dict[str, Any], gone: Collection[str] = ()
    ) -> tuple[Measured, Any]:
        """One round; `gone` drop out before their masked input."""
        self.share_keys()
        self.number += 1
        told = Measured()
        began = time.perf_counter()
        sites = list(self.parties.sites)
        active = self.parties.all
        binding = replace(BINDING, round=self.number)
        aggregator = Aggregator(
            self.parties,
            binding,
            self.layout,
            mask_keys={s: k.mask_key for s, k in self.keys.items()},
            threads=CORES,
        )
        state = aggregator.start()
        memory: dict[str, PartyRound] = {}
        following: dict[str, KeyShares] = {}

        def mask(site: str) -> tuple[str, float, PartyRound, Any]:
            start = time.thread_time()
            shares = {p: self.keys[p].to(site) for p in self.neighbours(site)}
            state, message = self.party[site].masked_input(
                binding,
                self.layout,
                contributions[site],
                active,
                shares or None,
                sign=self.world.signing[site].sign,
            )
            return site, time.thread_time() - start, state, message

        present = [s for s in sites if s not in gone]
        for site, seconds, state_of_site, message in self.each(present, mask):
            told.spent(site, seconds)
            told.moved(site, down=self.request_bytes(site), up=self.reply_bytes(message))
            memory[site] = state_of_site
            if message.next is not None:
                following[site] = message.next
            start = time.thread_time()
            state, outgoing = aggregator.receive(state, message)
            told.hub_s += time.thread_time() - start
        if gone:
            state, outgoing = aggregator.receive(state, TIME_IS_UP)
        while state.step != "done":
            step = state.step

            def answer(item: tuple[str, SurvivorList], step: str = step) -> tuple[str, float, Any]:
                site, text = item
                start = time.thread_time()
                if step == "ConsistencyCheck":
                    sign = self.world.signing[site].sign
                    memory[site], reply = self.party[site].consistency_check(
                        memory[site], text, sign
                    )
                    return site, time.thread_time() - start, reply
                memory[site], opened = self.party[site].unmask(memory[site], text)
                return site, time.thread_time() - start, opened

            pending = list(outgoing)
            for (_, text), (site, seconds, reply) in zip(
                pending, self.each(pending, answer), strict=True
            ):
                told.spent(site, seconds)
                told.moved(
                    site,
                    down=wire.put_survivors(text, binding.run_id, self.parties).ByteSize(),
                    up=self.answer_bytes(step, reply),
                )
                if state.step == step:
                    start = time.thread_time()
                    state, outgoing = aggregator.receive(state, reply)
                    told.hub_s += time.thread_time() - start
        start = time.perf_counter()
        total = aggregator.result(state)
        told.hub_s += time.perf_counter() - start
        told.wall_s = time.perf_counter() - began
        self.keys = following
        return told, total

    def neighbours(self, site: str) -> Iterable[str]:
        return self.parties.neighbours(site) if self.parties.recoverable else ()

    def request_bytes(self, site: str) -> int:
        """Without the state."""
        request = pb.RoundRequest(run_id=BINDING.run_id, round=self.number)
        shares = {p: self.keys[p].to(site) for p in self.neighbours(site)}
        wire.put_round(request, self.parties.all, shares, self.parties)
        return int(request.ByteSize())

    def reply_bytes(self, message: Any) -> int:
        size = len(message.vector) + len(message.signature or b"")
        if message.next is not None:
            size += wire.put_key_shares(message.next, BINDING.run_id, self.parties).ByteSize()
        return size

    def answer_bytes(self, step: str, reply: Any) -> int:
        if step == "ConsistencyCheck":
            return len(reply.signature) + 40
        return int(wire.put_unmasking(reply, BINDING.run_id, self.parties).ByteSize())


def whole_rounds(repeats: int, flower_python: str | None) -> None:
    """10^6 components: everyone's masking, the hub's sum and unmasking."""
    rows = []
    for n_sites in (10, 50):
        rng = np.random.default_rng(n_sites)
        plain = [rng.uniform(-1, 1, 1_000_000) for _ in range(n_sites)]
        sums = measure(lambda p=plain: np.sum(p, axis=0), repeats=repeats)
        theirs = flower(flower_python, plain, 3 if n_sites > 10 else repeats)
        for kind, what in (("count", "64-bit integers"), ("vector", "float32 in 32 bits")):
            layout: Layout = {"x": FieldSpec((1_000_000,), kind, bound=1.0)}  # type: ignore[arg-type]
            network = Network(n_sites, layout)
            values = [
                np.rint(v * 2**32).astype(np.int64) if kind == "count" else v.astype(np.float32)
                for v in plain
            ]
            contributions = {
                s: {"x": v} for s, v in zip(network.parties.sites, values, strict=True)
            }
            expected = sum(values)

            def one(net: Any = network, given: Any = contributions, want: Any = expected) -> None:
                _, total = net.round(given)
                if not np.allclose(total["x"], want, rtol=0, atol=1e-4):
                    raise RuntimeError("the sum is wrong")

            ours = measure(one, repeats=repeats)
            faster = "" if theirs is None else f"{theirs / ours.median_s:.0f} x"
            rows.append(
                [
                    n_sites,
                    what,
                    f"{len(network.parties.neighbours(network.parties.sites[0]))} (all)",
                    network.parties.threshold,
                    show_seconds(ours.median_s),
                    show_seconds(sums.median_s),
                    "not installed" if theirs is None else show_seconds(theirs),
                    faster,
                    ours.n,
                ]
            )
    print(f"A whole round of 10^6 components in one process, {CORES} cores, nobody drops\n")
    print_table(
        ["sites", "components", "neighbours", "t", "round", "plain sum", "Flower SecAgg+", "", "n"],
        rows,
    )


def flower(python: str | None, vectors: Sequence[Any], repeats: int) -> float | None:
    """Median seconds of Flower's round on the same vectors."""
    if python is None:
        return None
    rounds = flower_secagg.run_in(python, vectors, repeats=repeats, threads=CORES)
    return median(made.seconds for made in rounds)


# A national network


def national(repeats: int) -> None:
    """10^5 components of 64 bits; 5% drop out in the measured round."""
    rows = []
    for n_sites in (50, 100, 200, 400, 800):
        layout: Layout = {"x": FieldSpec((100_000,), "count")}
        network = Network(n_sites, layout)
        rng = np.random.default_rng(n_sites)
        contributions = {
            s: {"x": rng.integers(-(2**40), 2**40, 100_000)} for s in network.parties.sites
        }
        rounds = []
        for _ in range(repeats if n_sites < 400 else max(1, repeats // 2)):
            gone = set(rng.choice(network.parties.sites, n_sites // 20, replace=False))
            told, total = network.round(contributions, gone)
            expected = sum(contributions[s]["x"] for s in network.parties.sites if s not in gone)
            if not np.array_equal(total["x"], expected):
                raise RuntimeError("the sum is wrong")
            rounds.append(told)
        told = rounds[-1]
        log = n_sites * math.log2(n_sites)
        rows.append(
            [
                n_sites,
                n_sites // 20,
                len(network.parties.neighbours(network.parties.sites[0])),
                network.parties.threshold,
                f"{median(median(r.site_s.values()) for r in rounds) * 1e3:.0f} ms",
                f"{median(told.up.values()) / 1e6:.2f} MB",
                f"{median(told.down.values()) / 1e3:.0f} kB",
                show_seconds(median(r.hub_s for r in rounds)),
                f"{sum(told.up.values()) / 1e6:.0f} / {sum(told.down.values()) / 1e6:.1f} MB",
                show_seconds(median(r.wall_s for r in rounds)),
                f"{median(r.wall_s for r in rounds) / log * 1e3:.2f} ms",
                f"{network.verify_s * 1e3:.0f} ms",
                len(rounds),
            ]
        )
    print(f"A round of 10^5 components of 64 bits, 5% drop out, one process, {CORES} cores\n")
    print_table(
        [
            "sites",
            "drop",
            "k",
            "t of k + 1",
            "a site, processor",
            "a site sends",
            "receives",
            "hub, processor",
            "hub receives / sends",
            "whole round",
            "/ (n log2 n)",
            "once a run: verify all keys",
            "n",
        ],
        rows,
    )


# Memory

CHILD = """
import json, sys
import numpy as np
from benchmarks.secagg import Network
from cohortium.core.rounds import FieldSpec

def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024

n = int(sys.argv[1])
network = Network(5, {"x": FieldSpec((n,), "vector")})
network.share_keys()
network.number = 1
small = Network(5, {"x": FieldSpec((10,), "vector")})
small.round({s: {"x": np.zeros(10, dtype=np.float32)} for s in small.parties.sites})
before = peak()
values = np.ones(n, dtype=np.float32)
site = network.parties.sites[0]
from dataclasses import replace
from benchmarks.secagg import BINDING
shares = {p: network.keys[p].to(site) for p in network.neighbours(site)}
_, message = network.party[site].masked_input(
    BINDING, network.layout, {"x": values}, network.parties.all, shares, threads=2
)
print(json.dumps({"size": values.nbytes, "peak": peak() - before, "sent": len(message.vector)}))
"""


def memory() -> None:
    """Peak of a process that masks a large update, above what it used before it made it."""
    rows = []
    for n in (10_000_000, 100_000_000):
        done = subprocess.run(
            [sys.executable, "-c", CHILD, str(n)],
            check=True,
            capture_output=True,
            text=True,
            cwd=Path(__file__).parents[1],
        )
        told = json.loads(done.stdout)
        rows.append(
            [
                f"{told['size'] / 1e6:.0f} MB",
                f"{told['sent'] / 1e6:.0f} MB",
                f"{told['peak'] / 1e6:.0f} MB",
                f"{told['peak'] / told['size']:.2f}",
            ]
        )
    print(
        "Memory of a site that masks a float32 update among 5 sites, the update itself included\n"
    )
    print_table(["update", "masked vector", "peak", "x its size"], rows)


PARTS = ("masking", "rounds", "national", "memory")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument("--flower-python", help="an interpreter that has flwr")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    repeats = 3 if options.quick else 7
    print_header("The secure sum")
    if "masking" in options.only:
        masking(3 * repeats)
    if "rounds" in options.only:
        whole_rounds(repeats, options.flower_python)
    if "national" in options.only:
        national(repeats)
    if "memory" in options.only:
        memory()


if __name__ == "__main__":
    main()
