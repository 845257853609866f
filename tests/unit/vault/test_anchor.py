"""Old versions put back, and files that take another's place."""

from __future__ import annotations

import io
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.vault import OWNER, STRANGER, header_of, opened, vault_file

from cohortium.errors import IntegrityFailure, PolicyRefusal, VerificationError
from cohortium.vault.anchor import Anchor, FileAnchor, Mark, MemoryAnchor, judge
from cohortium.vault.reader import Expected
from cohortium.vault.storage import StreamSink
from cohortium.vault.writer import VaultWriter

FIRST = vault_file(b"first")
ID = header_of(FIRST).file_id
SECOND = vault_file(b"second", file_id=ID, version=2)


@pytest.fixture(params=["memory", "file"])
def anchor(request: pytest.FixtureRequest, tmp_path: Path) -> Anchor:
    return MemoryAnchor() if request.param == "memory" else FileAnchor(tmp_path / "a" / "anchor")


def refused(data: bytes, anchor: Anchor) -> str:
    with pytest.raises(VerificationError) as caught:
        opened(data, expected=Expected(anchor=anchor))
    return caught.value.code


def test_an_old_version_put_back_is_refused(anchor: Anchor) -> None:
    for data in (FIRST, FIRST, SECOND, SECOND):
        opened(data, expected=Expected(anchor=anchor)).close()
    assert refused(FIRST, anchor) == "vault-rollback"
    assert anchor.latest(ID) == Mark.of(header_of(SECOND))


def test_a_second_file_with_the_same_version_is_refused(anchor: Anchor) -> None:
    opened(SECOND, expected=Expected(anchor=anchor)).close()
    other = vault_file(b"other", file_id=ID, version=2)
    assert refused(other, anchor) == "vault-rollback"


def test_a_newer_version_by_another_writer_is_refused(anchor: Anchor) -> None:
    """Whoever knows the recipients' public keys can make a file for them."""
    opened(FIRST, expected=Expected(anchor=anchor)).close()
    forged = vault_file(b"forged", to=[OWNER], by=STRANGER, file_id=ID, version=9)
    assert refused(forged, anchor) == "unknown-signer"


def test_what_cannot_be_opened_is_not_remembered(anchor: Anchor) -> None:
    with pytest.raises(PolicyRefusal):
        opened(SECOND, STRANGER, expected=Expected(anchor=anchor))
    assert anchor.latest(ID) is None


def test_the_writer_tells_the_anchor_of_what_is_in_its_place(anchor: Anchor) -> None:
    data = vault_file(b"x", anchor=anchor)
    assert anchor.latest(header_of(data).file_id) == Mark.of(header_of(data))


def test_of_two_writers_at_once_the_first_one_s_version_stays(
    anchor: Anchor, tmp_path: Path
) -> None:
    path = tmp_path / "f"
    one, two = (
        VaultWriter.open(path, [OWNER.public], OWNER.signing, file_id=ID, version=5, anchor=anchor)
        for _ in range(2)
    )
    one.write(b"one")
    two.write(b"two")
    one.close()
    with pytest.raises(VerificationError) as caught:
        two.close()
    assert caught.value.code == "vault-rollback"
    assert opened(path.read_bytes(), expected=Expected(anchor=anchor)).read() == b"one"


def test_the_rules_in_one_place() -> None:
    known = Mark(5, b"d" * 32, b"w" * 32)
    judge(None, known)
    judge(known, known)
    judge(known, replace(known, version=6, digest=b"e" * 32))
    for seen in (
        replace(known, version=4),
        replace(known, digest=b"e" * 32),
        replace(known, version=6, writer=b"x" * 32),
    ):
        with pytest.raises(VerificationError):
            judge(known, seen)


def test_marks_survive_the_process_and_can_be_forgotten(tmp_path: Path) -> None:
    path = tmp_path / "anchor"
    mark = Mark(2**60, b"d" * 32, b"w" * 32)
    FileAnchor(path).advance(b"f" * 16, mark)
    FileAnchor(path).advance(b"g" * 16, mark)
    assert FileAnchor(path).latest(b"f" * 16) == mark
    FileAnchor(path).forget(b"f" * 16)
    assert FileAnchor(path).latest(b"f" * 16) is None
    assert FileAnchor(path).latest(b"g" * 16) == mark


@pytest.mark.parametrize("text", ["", "[]", "{", '{"zz":{}}', '{"00":{"version":"1"}}', '{"00":1}'])
def test_a_damaged_anchor_stops(tmp_path: Path, text: str) -> None:
    (tmp_path / "anchor").write_text(text)
    with pytest.raises(IntegrityFailure) as caught:
        opened(FIRST, expected=Expected(anchor=FileAnchor(tmp_path / "anchor")))
    assert caught.value.code == "broken-store"


def test_of_two_writers_at_the_same_time_one_stays_and_is_the_one_remembered(
    anchor: Anchor,
) -> None:
    committed: list[bytes] = []
    refusals: list[str] = []
    both = threading.Barrier(2)

    class Place(StreamSink):
        def __init__(self) -> None:
            self.out = io.BytesIO()
            super().__init__(self.out)

        def commit(self) -> None:
            committed.append(self.out.getvalue())

    def write(plain: bytes) -> None:
        file = VaultWriter(
            Place(), [OWNER.public], OWNER.signing, file_id=ID, version=2, anchor=anchor
        )
        file.write(plain)
        both.wait()
        try:
            file.close()
        except VerificationError as error:
            refusals.append(error.code)

    opened(FIRST, expected=Expected(anchor=anchor)).close()
    for _ in range(10):
        committed.clear()
        writers = [threading.Thread(target=write, args=(plain,)) for plain in (b"one", b"two")]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        if committed:
            known = anchor.latest(ID)
            assert [Mark.of(header_of(data)) for data in committed] == [known]
    assert anchor.latest(ID) != Mark.of(header_of(FIRST))
    assert set(refusals) == {"vault-rollback"}
