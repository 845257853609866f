"""The kernel's questions about the files of a read-only mount, and the answers (FUSE 7.31).

Bytes in, bytes out: `Files.answer` takes a request as ``/dev/fuse`` gives it. Everything that asks
comes from a hostile task, but through the kernel, which has checked permissions and sizes.

Reference: Linux, include/uapi/linux/fuse.h; Documentation/filesystems/fuse.rst.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import PurePosixPath
from typing import Final

from cohortium.enclave.inside.namespaces import INSIDE_ID
from cohortium.enclave.job import OpenedFile, OpenSource
from cohortium.errors import InputError

LARGEST_READ: Final = 1 << 20
REQUEST_BYTES: Final = 1 << 16
_ROOT: Final = 1
_OPEN_READERS: Final = 16
_BLOCK_BITS: Final = 17
_FOREVER_S: Final = 1 << 31
_PAGE: Final = 4096

_LOOKUP, _FORGET, _GETATTR, _READ, _STATFS = 1, 2, 3, 15, 17
_INIT, _READDIR, _INTERRUPT, _DESTROY, _BATCH_FORGET = 26, 28, 36, 38, 42
_UNANSWERED: Final = frozenset({_FORGET, _BATCH_FORGET, _INTERRUPT, _DESTROY})

_MAJOR, _MINOR = 7, 31
_ASYNC_READ, _NO_OPEN, _PARALLEL, _MAX_PAGES, _NO_OPENDIR = 1, 1 << 17, 1 << 18, 1 << 22, 1 << 24
_WANTED: Final = _ASYNC_READ | _NO_OPEN | _PARALLEL | _MAX_PAGES | _NO_OPENDIR

_IN: Final = struct.Struct("<IIQQIIIHH")
_OUT: Final = struct.Struct("<IiQ")
_INIT_IN: Final = struct.Struct("<IIII")
_INIT_OUT: Final = struct.Struct("<IIIIHHIIHHI28x")
_READ_IN: Final = struct.Struct("<QQI")
_ATTRIBUTES: Final = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY: Final = struct.Struct("<QQQQII")
_ATTR_OUT: Final = struct.Struct("<QII")
_DIRENT: Final = struct.Struct("<QQII")
_STATFS_OUT: Final = struct.Struct("<QQQQQIII28x")


@dataclass
class _Node:
    """A file or folder; its number is its place in the list."""

    number: int
    path: str
    size: int | None
    children: dict[bytes, _Node] = field(default_factory=dict)

    @property
    def mode(self) -> int:
        return stat.S_IFDIR | 0o500 if self.size is None else stat.S_IFREG | 0o400

    @cached_property
    def entries(self) -> list[tuple[bytes, _Node]]:
        return [(b".", self), (b"..", self), *self.children.items()]


class Files:
    """Answers for one mount.

    Attributes:
        fault: What went wrong with the source; from then on every read fails.
    """

    def __init__(self, source: OpenSource) -> None:
        self._source = source
        self._nodes = _nodes(source.files())
        self._blocks = -(-sum(one.size or 0 for one in self._nodes) // _PAGE)
        self._readers: OrderedDict[int, OpenedFile] = OrderedDict()
        self._buffer = bytearray(LARGEST_READ)
        self.fault: Exception | None = None

    def answer(self, request: memoryview) -> list[bytes | memoryview]:
        """What to write back, in parts that hold until the next request; empty where nothing is."""
        _, operation, unique, number, *_ = _IN.unpack_from(request)
        if operation in _UNANSWERED:
            return []
        body = request[_IN.size :]
        try:
            if operation == _INIT:
                reply: bytes | memoryview = _agreed(body)
            else:
                reply = self._about(operation, self._node(number), body)
        except struct.error:
            return [_OUT.pack(_OUT.size, -errno.EINVAL, unique)]
        except OSError as refused:
            return [_OUT.pack(_OUT.size, -(refused.errno or errno.EIO), unique)]
        return [_OUT.pack(_OUT.size + len(reply), 0, unique), reply]

    def close(self) -> None:
        """Forget what was read."""
        while self._readers:
            self._readers.popitem()[1].close()
        self._buffer[:] = bytes(len(self._buffer))

    def _node(self, number: int) -> _Node:
        if not _ROOT <= number < _ROOT + len(self._nodes):
            raise OSError(errno.ESTALE, "no such file")
        return self._nodes[number - _ROOT]

    def _about(self, operation: int, node: _Node, body: memoryview) -> bytes | memoryview:
        if operation == _LOOKUP:
            name = bytes(body).partition(b"\0")[0]
            return _entry(node.children.get(name))
        if operation == _GETATTR:
            return _ATTR_OUT.pack(_FOREVER_S, 0, 0) + _attributes(node)
        if operation == _READ:
            _, offset, size = _READ_IN.unpack_from(body)
            return self._read(node, offset, min(size, LARGEST_READ))
        if operation == _READDIR:
            _, offset, size = _READ_IN.unpack_from(body)
            return _listing(node, offset, size)
        if operation == _STATFS:
            return _STATFS_OUT.pack(self._blocks, 0, 0, len(self._nodes), 0, _PAGE, 255, _PAGE)
        raise OSError(errno.ENOSYS, "not answered")

    def _read(self, node: _Node, offset: int, size: int) -> memoryview:
        wanted = max(0, min(size, (node.size or 0) - offset))
        into = memoryview(self._buffer)[:wanted]
        try:
            # The kernel would fill up what is short with zeros, and the task compute with them.
            if self.fault is not None or (
                wanted and self._reader(node).pread_into(offset, into) != wanted
            ):
                raise InputError("bad-data", "An input was changed while it was read; start again.")
        except Exception as error:
            self.fault = self.fault or error
            raise OSError(errno.EIO, "not read") from error
        return into

    def _reader(self, node: _Node) -> OpenedFile:
        found = self._readers.pop(node.number, None)
        if found is None:
            if len(self._readers) >= _OPEN_READERS:
                self._readers.popitem(last=False)[1].close()
            found = self._source.open(node.path)
        self._readers[node.number] = found
        return found


def _nodes(files: Iterable[tuple[str, int]]) -> list[_Node]:
    listed = list(files)
    if [path for path, _ in listed] == [""]:
        return [_Node(_ROOT, "", listed[0][1])]
    nodes = [_Node(_ROOT, "", None)]
    for path, size in listed:
        folder, parts = nodes[0], PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts:
            raise InputError("bad-data", "An input has a file whose name leads elsewhere.")
        for depth, part in enumerate(parts, 1):
            name = os.fsencode(part)
            known = folder.children.get(name)
            if known is None:
                last = depth == len(parts)
                known = _Node(len(nodes) + _ROOT, path, size if last else None)
                nodes.append(known)
                folder.children[name] = known
            folder = known
    return nodes


def _agreed(body: memoryview) -> bytes:
    major, _, read_ahead, offered = _INIT_IN.unpack_from(body)
    if major != _MAJOR:
        raise OSError(errno.EPROTO, "another protocol")
    flags = offered & _WANTED
    pages = LARGEST_READ // _PAGE
    return _INIT_OUT.pack(_MAJOR, _MINOR, read_ahead, flags, 12, 9, _PAGE, 1, pages, 0, 0)


def _attributes(node: _Node) -> bytes:
    size = node.size or 0
    blocks, links = -(-size // 512), 1 if node.size is not None else 2
    times, owner = (0,) * 6, (INSIDE_ID, INSIDE_ID)
    return _ATTRIBUTES.pack(
        node.number, size, blocks, *times, node.mode, links, *owner, 0, 1 << _BLOCK_BITS, 0
    )


def _entry(node: _Node | None) -> bytes:
    """Number 0 is a name that is not there, which the kernel need not ask for again."""
    if node is None:
        return _ENTRY.pack(0, 0, _FOREVER_S, 0, 0, 0) + bytes(_ATTRIBUTES.size)
    return _ENTRY.pack(node.number, 0, _FOREVER_S, _FOREVER_S, 0, 0) + _attributes(node)


def _listing(node: _Node, offset: int, size: int) -> bytes:
    out = bytearray()
    for at, (name, one) in enumerate(islice(node.entries, offset, None), offset + 1):
        padded = -(-len(name) // 8) * 8
        if len(out) + _DIRENT.size + padded > size:
            break
        out += _DIRENT.pack(one.number, at, len(name), stat.S_IFMT(one.mode) >> 12)
        out += name.ljust(padded, b"\0")
    return bytes(out)
