"""Programs on their way: what is bound arrives, and nothing else is ever written."""

import io
import os
import stat
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohortium.contract import code
from cohortium.contract.task import code_digest
from cohortium.errors import InputError, ProtocolError, VerificationError

FILES = {"task.yaml": b"command: [x]\n", "src/main.py": b"print(1)\n", "größe/a b.txt": b""}


def _zip(*members: tuple[str | zipfile.ZipInfo, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", how) as archive:
        warnings.simplefilter("ignore")  # zipfile warns of two files of one name
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def _linked(mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("link")
    info.create_system = 3
    info.external_attr = mode << 16
    return info


def test_a_program_arrives_as_it_was_sent(tmp_path: Path) -> None:
    source, arrived = tmp_path / "source", tmp_path / "arrived"
    for name, content in FILES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(content)
    cache = source / "src" / "__pycache__"
    cache.mkdir()
    (cache / "main.pyc").write_bytes(b"cached")
    archive = code.pack(source)
    assert archive == code.pack(source)
    assert code.files_of(archive) == FILES
    code.unpack(archive, arrived, code_digest(FILES))
    assert code.files_below(arrived) == FILES
    modes = {stat.S_IMODE(p.stat().st_mode) for p in arrived.rglob("*") if p.is_file()}
    assert modes == {0o600}


def test_another_program_than_the_one_asked_for_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(VerificationError) as caught:
        code.unpack(code.packed({**FILES, "x.py": b""}), tmp_path / "new", code_digest(FILES))
    assert caught.value.code == "bad-digest"
    assert not (tmp_path / "new").exists()


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_bytes(b"mine")
    with pytest.raises(InputError, match="not empty"):
        code.unpack(code.packed(FILES), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd",
        "../outside",
        "a/../../outside",
        "a//b",
        "./a",
        "a/.",
        "a\\b",
        "C:x",
        "a\nb",
        "a\u202eb",
        "__pycache__/main.pyc",
        "x" * 256,
        "/".join(["x" * 100] * 11),
    ],
)
def test_names_that_lead_elsewhere_or_do_not_travel_are_refused(name: str) -> None:
    with pytest.raises(ProtocolError):
        code.files_of(_zip((name, b"")))


@pytest.mark.parametrize(
    "archive",
    [
        _zip((_linked(stat.S_IFLNK | 0o777), b"/etc/passwd")),
        _zip((_linked(stat.S_IFIFO | 0o644), b"")),
        _zip(("folder/", b"")),
        _zip(("a", b"1"), ("a", b"2")),
        _zip(("a", b"1"), ("a/b", b"2")),
        _zip(("a", b"1"), how=zipfile.ZIP_BZIP2),
        _zip(("a", b"1"), how=zipfile.ZIP_LZMA),
        _zip(),
        _zip(("a", b"1")) + b"more",
        b"before" + _zip(("a", b"1")),
        b"",
        b"PK\x05\x06",
    ],
    ids=[
        "a link",
        "a pipe",
        "a folder",
        "one name twice",
        "a file in the place of a folder",
        "bzip2",
        "lzma",
        "nothing",
        "bytes behind",
        "bytes before",
        "no bytes",
        "an end only",
    ],
)
def test_what_is_no_archive_of_plain_files_is_refused(archive: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        code.files_of(archive)
    assert caught.value.code == "malformed-message"


def test_a_bomb_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = _zip(("a", b"\0" * (code.MAX_CODE_BYTES // 2)), ("b", b"\0" * 40 * 1024 * 1024))
    assert len(bomb) < 100_000
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(ProtocolError, match="64 MiB"):
        code.files_of(bomb)


def test_a_file_that_is_longer_than_it_says_is_refused() -> None:
    content = b"\0" * 1_000_000
    archive = bytearray(_zip(("a", content)))
    sizes = struct.pack("<L", len(content))
    crc = struct.pack("<L", zlib.crc32(content[:100]))
    while (at := archive.find(sizes)) >= 0:  # in front of the file, and in the list
        archive[at : at + 4] = struct.pack("<L", 100)
        archive[at - 8 : at - 4] = crc
    files = {}
    try:
        files = code.files_of(bytes(archive))
    except ProtocolError:
        return
    assert files == {"a": content[:100]}


def test_a_list_of_very_many_files_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = bytearray(_zip(("a", b"")))
    archive[-14:-10] = struct.pack("<HH", 60_000, 60_000)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("read"))
    with pytest.raises(ProtocolError, match="60000 files"):
        code.files_of(bytes(archive))


def test_folders_with_links_or_too_much_are_not_packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no file"):
        code.pack(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        code.pack(tmp_path / "none")
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        code.pack(tmp_path)
    (tmp_path / "link").unlink()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        code.pack(tmp_path)
    (tmp_path / "pipe").unlink()
    (tmp_path / "b\\c").write_bytes(b"")
    with pytest.raises(InputError, match="do not travel"):
        code.pack(tmp_path)
    (tmp_path / "b\\c").unlink()
    monkeypatch.setattr(code, "MAX_CODE_BYTES", 4)
    with pytest.raises(InputError, match="64 MiB"):
        code.pack(tmp_path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_altered_archives_are_read_or_refused(data: st.DataObject) -> None:
    archive = bytearray(code.packed(FILES))
    for _ in range(data.draw(st.integers(1, 6))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    try:
        files = code.files_of(bytes(archive[data.draw(st.integers(0, 3)) :]))
    except ProtocolError:
        return
    assert all(not name.startswith("/") and ".." not in name.split("/") for name in files)
