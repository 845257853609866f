"""The ledger at its size: verifying a copy, making proofs, appending, bytes per entry.

    python -m benchmarks.ledger [ENTRIES]

Everything is in one process; the copy is a folder of files as C2SP tlog-tiles has them.
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.common import Timing, measure, print_header, print_table, show_seconds
from sqlalchemy import text

from cohortium.crypto.keys import SigningKey
from cohortium.hub.database import Database
from cohortium.hub.ledger_store import BATCH, LedgerStore, Log, note
from cohortium.hub.store import HubStore
from cohortium.ledger.checkpoint import (
    Checkpoint,
    add_cosignatures,
    cosign,
    log_key,
    members_line,
    origin,
    sign,
)
from cohortium.ledger.entry import (
    ContractChanged,
    Entry,
    Fact,
    Rounds,
    RunDecided,
    RunEnded,
    RunSubmitted,
    SiteDecision,
    parse_entry,
)
from cohortium.ledger.members import Members, require_final
from cohortium.ledger.merkle import leaf_hash, verify_inclusion
from cohortium.ledger.note import Note
from cohortium.ledger.tiles import Mirror, Resource, read_folder, verified_entries, verify_mirror
from cohortium.ledger.tree import Tiles, Tree, tile_width, tree_of

SITES = ("Site A", "Site B", "Site C", "Site D")
LIMIT_VERIFY_S, LIMIT_PROOF_S, LIMIT_APPEND_S = 60, 5e-3, 1 / 1000
ORIGIN = origin("sha256:" + "5a" * 32)
STEP = 8192


def key(number: int) -> SigningKey:
    """A key that is the same in every run."""
    return SigningKey.from_seed(bytes([number]) * 32)


def facts(number: int) -> tuple[Fact, ...]:
    """What a run of an active study puts on the ledger, with one statement in a hundred runs."""
    run_id = hashlib.sha256(b"run %d" % number).hexdigest()[:32]
    digest = "sha256:" + hashlib.sha256(b"%d" % number).hexdigest()
    about = {"run_id": run_id, "study": "heart-failure", "contract": digest, "request": digest}
    submitted = RunSubmitted(computation="primary", researcher=key(9).public, **about)
    decided = RunDecided(
        run_id=run_id,
        sites={site: SiteDecision(decision="accepted", statement=digest) for site in SITES},
    )
    ended = RunEnded(
        run_id=run_id, status="succeeded", rounds=(Rounds(first=1, last=6, sites=SITES),),
        result=digest,
    )  # fmt: skip
    signed = ContractChanged(
        study="heart-failure", contract=digest, version=1, action="sign", author=SITES[0],
        key=key(10).public, statement=digest, state="active",
    )  # fmt: skip
    return (submitted, decided, ended, signed) if number % 100 == 0 else (submitted, decided, ended)


def make_entries(count: int) -> Iterator[bytes]:
    """`count` entries, one second apart."""
    made, number = 0, 0
    while True:
        for fact in facts(number):
            yield Entry(at=datetime.fromtimestamp(1_800_000_000 + made, UTC), fact=fact).to_bytes()
            made += 1
            if made == count:
                return
        number += 1


def build(entries: list[bytes]) -> tuple[Tiles, Timing]:
    """The tiles of a log, and how long an entry of each batch took."""
    tiles: Tiles = {}
    seconds = []
    for start in range(0, len(entries), STEP):
        began = time.perf_counter()
        leaves = [leaf_hash(entry) for entry in entries[start : start + STEP]]
        tree, changed = tree_of(tiles, start).extended(leaves)
        tree.root()
        seconds.append((time.perf_counter() - began) / len(leaves))
        tiles |= changed
    return tiles, Timing(tuple(seconds))


def signed(tree: Tree) -> tuple[bytes, dict[str, str]]:
    """A checkpoint that all sites cosigned, and the sites' keys."""
    members = {site: key(10 + number) for number, site in enumerate(SITES)}
    keys = {site: witness.public for site, witness in members.items()}
    line = members_line(Members(keys).digest)
    bare = sign(Checkpoint(ORIGIN, tree.size, tree.root(), (line,)), key(1))
    lines = [cosign(Note.parse(bare), ORIGIN, site, one, 1) for site, one in members.items()]
    return add_cosignatures(bare, lines), keys


def write_copy(folder: Path, mirror: Mirror) -> dict[str, int]:
    """All files; their bytes by kind."""
    sizes = {"entries": 0, "tiles": 0}
    for path in mirror.paths():
        data = mirror.get(path)
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        if path != "checkpoint":
            sizes["entries" if path.startswith("tile/entries/") else "tiles"] += len(data)
    return sizes


def append_rate(folder: Path, count: int) -> tuple[Timing, float]:
    """The hub's store on SQLite: facts noted in transactions of ten runs, appended in batches.

    Returns:
        Seconds per entry of each batch, and the database's bytes per entry.
    """
    url = f"sqlite:///{folder / 'hub.db'}"
    HubStore(url).close()
    database = Database(url)
    store, log = LedgerStore(database), Log("Benchmark", "sha256:" + "5a" * 32, key(1))
    seconds: list[float] = []
    number = 0
    while store.size() < count:
        began, size = time.perf_counter(), store.size()
        for _ in range(BATCH // 30):
            with database.write() as c:
                for _ in range(10):
                    for fact in facts(number):
                        note(c, fact)
                    number += 1
        while store.append(log, datetime.now(UTC)):
            pass
        seconds.append((time.perf_counter() - began) / (store.size() - size))
    with database.read() as c:
        pages = c.execute(text("PRAGMA page_count")).scalar_one()
        page = c.execute(text("PRAGMA page_size")).scalar_one()
    stored = pages * page / store.size()
    database.close()
    return Timing(tuple(seconds)), stored


def rate(timing: Timing) -> str:
    """Seconds per entry as entries per second."""
    return f"{1 / timing.median_s:,.0f} entries/s (n={timing.n})"


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print_header(f"The ledger at {count:,} entries")
    rows: list[list[str]] = []
    entries = list(make_entries(count))
    tiles, appended = build(entries)
    tree = tree_of(tiles, count)
    checkpoint, keys = signed(tree)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        mirror = Mirror(tree, lambda start, end: entries[start:end], checkpoint)
        sizes = write_copy(folder, mirror)
        read = read_folder(folder)

        def verify() -> None:
            note_read = read("checkpoint") or b""
            opened = require_final(note_read, log_key(ORIGIN, key(1).public), keys)
            if verify_mirror(read, opened) != sum(map(len, entries)):
                raise SystemExit("the copy is not the log")

        def verify_documents() -> None:
            opened = require_final(checkpoint, log_key(ORIGIN, key(1).public), keys)
            members = Members()
            for part in verified_entries(read, opened):
                members = members.after_all(parse_entry(entry).fact for entry in part)

        verified = measure(verify, repeats=3, warm_ups=0)
        rows.append(["verify a copy: files, entries' hashes, tiles, root, signatures",
                     f"{LIMIT_VERIFY_S} s", str(verified)])  # fmt: skip
        documents = measure(verify_documents, repeats=1, warm_ups=0)
        rows.append(["the same, and parse each entry as a document", f"{LIMIT_VERIFY_S} s",
                     str(documents)])  # fmt: skip
        chosen = random.Random(4)

        def disk_tile(level: int, index: int) -> bytes:
            return read(Resource(level, index, tile_width(level, index, count)).path) or b""

        on_disk = Tree(count, disk_tile)
        rows.append(["make an inclusion proof from the files", show_seconds(LIMIT_PROOF_S),
                     str(measure(lambda: on_disk.inclusion_proof(chosen.randrange(count)),
                                 repeats=500))])  # fmt: skip
        rows.append(["make a consistency proof from the files", "",
                     str(measure(lambda: on_disk.consistency_proof(chosen.randrange(count)),
                                 repeats=500))])  # fmt: skip
        leaf, proof, root = leaf_hash(entries[7]), on_disk.inclusion_proof(7), tree.root()
        rows.append(["verify an inclusion proof", "",
                     str(measure(lambda: verify_inclusion(7, count, leaf, proof, root),
                                 repeats=500))])  # fmt: skip
        rows.append([f"append to the tree alone, {STEP} at a time", "", rate(appended)])
    with tempfile.TemporaryDirectory() as name:
        hub, stored = append_rate(Path(name), min(count, 20_000))
    rows.append(["the hub notes facts and appends them, SQLite",
                 f"{1 / LIMIT_APPEND_S:,.0f} entries/s", rate(hub)])  # fmt: skip
    rows.append(["bytes per entry: the entry", "", f"{sizes['entries'] / count:.0f}"])
    rows.append(["bytes per entry: tiles of hashes", "", f"{sizes['tiles'] / count:.1f}"])
    rows.append(["bytes per entry in the hub's SQLite file, all of it", "", f"{stored:.0f}"])
    print_table(["What", "Limit", "Measured"], rows)


if __name__ == "__main__":
    main()
