"""Which encoding a text file has: byte order marks, strict UTF-8, else a judgement of its bytes."""

from __future__ import annotations

import codecs
from pathlib import Path

from cohortium.errors import InputError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BLOCK_BYTES = 4 * 1024 * 1024
_SAMPLE_BYTES = 256 * 1024
_FEW = 40
_CANDIDATES = ["gb18030", "big5", "shift_jis", "euc_kr", "cp1252", "cp1251", "cp1250"]


def detect_encoding(path: Path) -> str:
    """The name of a Python codec that decodes the whole file.

    Raises:
        InputError: ``bad-data`` where the file is not text or its encoding stays unknown.
    """
    with path.open("rb") as file:
        start = file.read(4)
    for mark, name in _MARKS:
        if start.startswith(mark):
            _check(path, name)
            return name
    if decodes(path, "utf-8"):
        return "utf-8"
    sample = _sample_of_foreign_lines(path)
    name = _judge(sample)
    _check(path, name)
    return name


def _check(path: Path, encoding: str) -> None:
    if not decodes(path, encoding):
        raise InputError(
            "bad-data",
            f"{path.name} is not valid {encoding} text. Name its encoding with --encoding.",
        )


def decodes(path: Path, encoding: str) -> bool:
    """Whether every byte of the file decodes; raises ``bad-data`` for an unknown codec."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError as error:
        raise InputError("bad-data", f"There is no encoding named {encoding!r}.") from error
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                if "\0" in decoder.decode(block):
                    return False
            decoder.decode(b"", final=True)
    except UnicodeError:
        return False
    return True


def _sample_of_foreign_lines(path: Path) -> bytes:
    """The lines that are not ASCII: only they tell encodings apart."""
    sample = bytearray()
    with path.open("rb") as file:
        for line in file:
            if not line.isascii():
                sample += line
            if len(sample) > _SAMPLE_BYTES:
                break
    return bytes(sample)


def _few_and_chinese(sample: bytes) -> bool:
    """Whether the foreign characters are few and all common Chinese (GB 2312, levels 0 and 1).

    Statistics cannot judge so few: a table whose only foreign text is 男 and 女 would pass for
    Korean. Western text fails here, because its accented letters stand alone between ASCII.
    """
    pairs: set[bytes] = set()
    place = 0
    while place < len(sample):
        if sample[place] < 0x80:
            place += 1
            continue
        pair = sample[place : place + 2]
        pairs.add(pair)
        common = len(pair) == 2 and (0xA1 <= pair[0] <= 0xA9 or 0xB0 <= pair[0] <= 0xD7)
        if not common or pair[1] < 0xA1 or len(pairs) > _FEW:
            return False
        place += 2
    return True


def _judge(sample: bytes) -> str:
    from charset_normalizer import from_bytes

    if b"\0" in sample:
        raise InputError("bad-data", "The file is not text. Is it a CSV file at all?")
    if _few_and_chinese(sample):
        return "gb18030"
    best = from_bytes(sample, cp_isolation=_CANDIDATES).best()
    if best is None:
        raise InputError(
            "bad-data", "The file's encoding is not recognised. Name it with --encoding."
        )
    return str(best.encoding)
