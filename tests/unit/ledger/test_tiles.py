"""The static copy of a log: paths, bundles, serving and verifying."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.logs import Log, log_of

from cohortium.errors import CohortiumError, InputError, ProtocolError, VerificationError
from cohortium.ledger.checkpoint import Checkpoint, open_checkpoint
from cohortium.ledger.entry import MAX_ENTRY_BYTES
from cohortium.ledger.tiles import (
    MAX_FILE_BYTES,
    Mirror,
    Resource,
    pack_entries,
    parse_path,
    read_folder,
    resources,
    unpack_entries,
    verified_entries,
    verify_mirror,
)

SIZE = 256 * 256 + 256 * 2 + 7


@pytest.fixture(scope="module")
def log() -> Log:
    return log_of(SIZE)


@pytest.fixture
def files(log: Log) -> dict[str, bytes]:
    return log.mirror()


def checkpoint_of(log: Log, size: int | None = None) -> Checkpoint:
    return open_checkpoint(log.checkpoint(size), log.key)[0]


def refusal_of(files: dict[str, bytes], checkpoint: Checkpoint) -> CohortiumError:
    with pytest.raises((VerificationError, ProtocolError)) as refusal:
        verify_mirror(files.get, checkpoint)
    return refusal.value


def test_a_whole_copy_verifies_and_gives_the_entries(log: Log, files: dict[str, bytes]) -> None:
    checkpoint = checkpoint_of(log)
    found = [entry for part in verified_entries(files.get, checkpoint) for entry in part]
    assert found == log.entries
    assert verify_mirror(files.get, checkpoint) == sum(map(len, log.entries))


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 65_535, 65_536, 65_537, SIZE - 1])
def test_a_copy_that_has_grown_still_has_what_was_before(
    size: int, log: Log, files: dict[str, bytes]
) -> None:
    # The partial tiles of that size are gone; those that they grew into are there.
    mirror = Mirror(log.tree, lambda start, end: log.entries[start:end], b"")
    partial = {path: mirror.get(path) for path in mirror.paths()}
    partial |= {resource.path: mirror.get(resource.path) for resource in resources(size)}
    checkpoint = checkpoint_of(log, size)
    found = [entry for part in verified_entries(partial.get, checkpoint) for entry in part]
    assert found == log.entries[:size]
    if size % 256 == 0:
        assert verify_mirror(files.get, checkpoint) == sum(map(len, log.entries[:size]))


def test_a_full_bundle_stands_in_for_a_partial_one(log: Log, files: dict[str, bytes]) -> None:
    size = 256 * 2 - 5
    short = log_of(size)
    checkpoint = checkpoint_of(short)
    kept = {path: data for path, data in files.items() if ".p/" not in path}
    assert verify_mirror(kept.get, checkpoint) == sum(map(len, log.entries[:size]))


def test_what_a_copy_lacks_since_an_earlier_size(log: Log) -> None:
    mirror = Mirror(log.tree, lambda start, end: log.entries[start:end], log.cosigned())
    earlier = 256 * 256 + 3
    since = list(mirror.paths(earlier))
    assert since == [
        *(f"tile/entries/{n}" for n in ("256", "257", "258.p/7")),
        *(f"tile/0/{n}" for n in ("256", "257", "258.p/7")),
        "tile/1/001.p/2",
        "checkpoint",
    ]
    assert list(mirror.paths(SIZE)) == ["checkpoint"]
    copy = {resource.path: mirror.get(resource.path) for resource in resources(earlier)}
    copy |= {path: mirror.get(path) for path in since}
    assert verify_mirror(copy.get, checkpoint_of(log)) == sum(map(len, log.entries))


@pytest.mark.parametrize(
    "path",
    ["tile/entries/003", "tile/0/007", "tile/0/258.p/7", "tile/1/000", "tile/1/001.p/2",
     "tile/2/000.p/1", "tile/entries/258.p/7"],
)  # fmt: skip
@pytest.mark.parametrize("how", ["altered", "shortened", "lengthened", "missing", "empty"])
def test_a_damaged_copy_is_refused(path: str, how: str, log: Log, files: dict[str, bytes]) -> None:
    data = files.pop(path)
    match how:
        case "altered":
            files[path] = data[:10] + bytes([data[10] ^ 1]) + data[11:]
        case "shortened":
            files[path] = data[:-1]
        case "lengthened":
            files[path] = data + b"\x00"
        case "empty":
            files[path] = b""
        case _:
            pass
    checkpoint = checkpoint_of(log)
    if how == "lengthened" and ".p/" in path and "entries" not in path:
        # More hashes than the checkpoint needs: the copy has grown.
        assert verify_mirror(files.get, checkpoint)
        return
    assert refusal_of(files, checkpoint).code in {"bad-proof", "malformed-message"}


def test_entries_in_another_order_are_refused(log: Log, files: dict[str, bytes]) -> None:
    files["tile/entries/000"], files["tile/entries/001"] = (
        files["tile/entries/001"],
        files["tile/entries/000"],
    )
    assert "Bundle 0" in refusal_of(files, checkpoint_of(log)).message


def test_a_bundle_cut_otherwise_is_refused(log: Log, files: dict[str, bytes]) -> None:
    entries = log.entries[:256]
    files["tile/entries/000"] = pack_entries([entries[0] + entries[1], b"", *entries[2:]])
    assert refusal_of(files, checkpoint_of(log)).code == "bad-proof"


def test_only_proven_entries_are_given(log: Log, files: dict[str, bytes]) -> None:
    files["tile/entries/002"] = files["tile/entries/003"]
    given: list[bytes] = []
    parts = verified_entries(files.get, checkpoint_of(log))
    with pytest.raises(VerificationError):
        list(map(given.extend, parts))
    assert given == log.entries[:512]


def test_a_copy_of_another_log_is_refused(log: Log) -> None:
    other = Log()
    other.append(*log.entries[:600], b"another")
    assert refusal_of(other.mirror(), checkpoint_of(log, 601)).code == "bad-proof"


def test_an_empty_log_is_verified() -> None:
    log = Log()
    assert list(log.mirror()) == ["checkpoint"]
    assert verify_mirror(log.mirror().get, checkpoint_of(log)) == 0
    false = Checkpoint("o", 0, b"\x01" * 32)
    assert refusal_of({}, false).code == "bad-proof"


@pytest.mark.parametrize("size", [2**62, 2**40, SIZE + 1])
def test_a_checkpoint_that_claims_more_is_refused(size: int, files: dict[str, bytes]) -> None:
    assert refusal_of(files, Checkpoint("o", size, b"\x01" * 32)).code == "bad-proof"


def test_a_mirror_serves_partial_tiles_of_earlier_sizes(log: Log) -> None:
    mirror = Mirror(log.tree, lambda start, end: log.entries[start:end], b"note")
    assert mirror.get("checkpoint") == b"note"
    assert mirror.get("tile/0/000.p/3") == log.tiles[0, 0][: 3 * 32]
    assert mirror.get("tile/entries/258.p/2") == pack_entries(log.entries[-7:-5])


@pytest.mark.parametrize(
    "path", ["tile/0/258", "tile/0/258.p/8", "tile/0/259.p/1", "tile/3/000.p/1", "tile/entries/999"]
)
def test_what_the_log_does_not_have_is_not_found(path: str, log: Log) -> None:
    mirror = Mirror(log.tree, lambda start, end: log.entries[start:end], b"note")
    with pytest.raises(InputError) as refusal:
        mirror.get(path)
    assert refusal.value.code == "not-found"


@pytest.mark.parametrize("path", ["", "checkpoint/", "../checkpoint", "tile/0/٠٠٠", "tile/0/000\n"])
def test_what_cannot_be_a_path_is_refused(path: str) -> None:
    with pytest.raises(ProtocolError):
        parse_path(path)


def test_long_paths() -> None:
    resource = Resource(0, 2**55)
    assert resource.path == "tile/0/x036/x028/x797/x018/x963/968"
    assert parse_path(resource.path) == resource
    assert Resource(1, 5, 3).whole == Resource(1, 5)


def test_entries_go_through_a_bundle() -> None:
    entries = [b"", b"a", bytes(MAX_ENTRY_BYTES)]
    bundle = pack_entries(entries)
    assert unpack_entries(bundle, 3) == entries
    assert unpack_entries(bundle, 2) == entries[:2]
    with pytest.raises(InputError) as refusal:
        pack_entries([bytes(MAX_ENTRY_BYTES + 1)])
    assert refusal.value.code == "too-large"


@pytest.mark.parametrize(
    ("bundle", "count"),
    [(b"\x00", 0), (b"\x00\x01", 0), (b"\x00\x00", 2), (b"\x00\x01a\x00", 1), (bytes(514), 256)],
)
def test_damaged_bundles_are_refused(bundle: bytes, count: int) -> None:
    with pytest.raises(ProtocolError) as refusal:
        unpack_entries(bundle, count)
    assert refusal.value.code == "malformed-message"


def test_a_folder_is_a_copy(tmp_path: Path) -> None:
    log = log_of(300)
    for path, data in log.mirror().items():
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    read = read_folder(tmp_path)
    checkpoint, _ = open_checkpoint(read("checkpoint") or b"", log.key)
    assert verify_mirror(read, checkpoint) == sum(map(len, log.entries))
    assert read("tile/0/999") is None
    assert read("tile/0") is None
    assert read("checkpoint/x") is None


def test_a_folders_file_that_is_too_long_or_unreadable_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "checkpoint").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(VerificationError, match="too long"):
        read_folder(tmp_path)("checkpoint")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(VerificationError, match="cannot be read"):
        read_folder(tmp_path)("loop")
