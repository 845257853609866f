"""Outputs as archives: they tell little from outside, and lead nowhere from inside."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohortium.enclave.output_archive import ArchivedOutputs, members, padded, unpack
from cohortium.errors import ConflictError, VerificationError


class Kept(BytesIO):
    """Keeps what was written when it is closed."""

    whole = b""

    def close(self) -> None:
        self.whole = self.getvalue()


def archived(*files: tuple[str, str, bytes], slots: tuple[str, ...] = ()) -> dict[str, bytes]:
    places: dict[str, Kept] = {}

    def open_slot(slot: str) -> Kept:
        return places.setdefault(slot, Kept())

    sink = ArchivedOutputs(open_slot)
    for slot, path, data in files:
        sink.begin(slot, path, len(data))
        for part in (data[:7], data[7:]):
            sink.write(part)
        sink.end()
    sink.close(slots)
    return {slot: place.whole for slot, place in places.items()}


def hostile(**fields: Any) -> BytesIO:
    made = BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        member = tarfile.TarInfo(fields.pop("name", "file"))
        for name, value in fields.items():
            setattr(member, name, value)
        archive.addfile(member, BytesIO(b"x" * member.size))
    return BytesIO(made.getvalue())


@pytest.mark.parametrize("kind", [b"x", b"g", b"X", b"L", b"K"])
def test_a_long_extended_header_is_refused_before_it_is_parsed(kind: bytes) -> None:
    header = tarfile.TarInfo("file")
    header.type, header.size = kind, 40_000
    archive = header.tobuf(tarfile.USTAR_FORMAT) + b"1" * 40_960
    with pytest.raises(VerificationError, match="too long"):
        list(members(BytesIO(archive + bytes(1024))))


def test_files_come_out_as_they_went_in_whatever_their_order(tmp_path: Path) -> None:
    long = "deep/" * 40 + "ä" * 60
    made = archived(
        ("model", "weights.bin", bytes(range(256)) * 3),
        ("report", "", b"{}"),
        ("model", long, b""),
        slots=("model", "report", "pictures"),
    )
    assert set(made) == {"model", "report", "pictures"}
    written = unpack(BytesIO(made["model"]), tmp_path / "model")
    assert [one.relative_to(tmp_path / "model").as_posix() for one in written] == [
        "weights.bin",
        long,
    ]
    assert written[0].read_bytes() == bytes(range(256)) * 3
    assert written[0].stat().st_mode & 0o777 == 0o600
    assert {n: c.read() for n, c in members(BytesIO(made["report"]))} == {"report": b"{}"}
    assert unpack(BytesIO(made["pictures"]), tmp_path / "none") == []
    with pytest.raises(ConflictError):
        unpack(BytesIO(made["model"]), tmp_path / "model")


def test_names_numbers_and_small_sizes_do_not_show() -> None:
    one = archived(("out", "a", b"x"))["out"]
    other = archived(*(("out", f"name-{n}", b"y" * n) for n in range(20)))["out"]
    assert len(one) == len(other) == 64 * 1024


@given(st.integers(0, 2**50))
def test_the_padding_is_little_and_leaves_few_sizes(size: int) -> None:
    grown = padded(size)
    assert grown >= max(size, 64 * 1024)
    assert grown <= max(size * 1.12, 64 * 1024)
    assert padded(grown) == grown
    # The bits that stay are the exponent's and as many as the exponent has.
    exponent = grown.bit_length() - 1
    assert grown % (1 << (exponent - exponent.bit_length())) == 0


@pytest.mark.parametrize(
    "archive",
    [
        hostile(name="/etc/cron.d/x"),
        hostile(name="../../x"),
        hostile(name="a/../../x"),
        hostile(name="."),
        hostile(type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        hostile(type=tarfile.LNKTYPE, linkname="file"),
        hostile(type=tarfile.DIRTYPE),
        hostile(type=tarfile.FIFOTYPE),
        hostile(type=tarfile.CHRTYPE),
        BytesIO(b"no archive at all" * 100),
        BytesIO(hostile(size=4000).getvalue()[:2000]),
        hostile(pax_headers={"path": "a\0b"}),
        hostile(pax_headers={"path": "\x1b[31mred"}),
        hostile(pax_headers={"path": "n" * 300}),
        hostile(pax_headers={"GNU.sparse.size": "many"}),
        hostile(pax_headers={"GNU.sparse.map": "1,many"}),
        hostile(pax_headers={"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}, size=512),
    ],
)
def test_what_leads_elsewhere_is_not_unpacked(archive: BytesIO, tmp_path: Path) -> None:
    with pytest.raises(VerificationError) as caught:
        unpack(archive, tmp_path / "top")
    assert caught.value.code == "bad-vault-file"
    assert not [one for one in tmp_path.rglob("*") if one.is_symlink() or one.name == "x"]


def test_a_file_in_the_place_of_a_folder_overwrites_nothing(tmp_path: Path) -> None:
    made = archived(("out", "a", b"first"), ("out", "a/b", b"second"), ("out", "a/b/c", b"third"))
    with pytest.raises(ConflictError) as caught:
        unpack(BytesIO(made["out"]), tmp_path)
    assert caught.value.code == "already-exists"
    assert (tmp_path / "a").read_bytes() == b"first"
