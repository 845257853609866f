"""Gramine manifests: written as TOML, and checked more strictly than Gramine does.

Every key that is not known here is refused, and so is everything that Gramine's documents call
insecure, for debugging, or unprotected.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from itertools import combinations
from pathlib import PurePosixPath
from typing import Any, Final

from cohortium.errors import InputError

_STRING, _BOOLEAN, _INTEGER = "a string", "true or false", "a number"
_KNOWN: Final[Mapping[str, Any]] = {
    "libos.entrypoint": _STRING,
    "loader.entrypoint.uri": _STRING,
    "loader.argv": [_STRING],
    "loader.env.*": _STRING,
    "loader.log_level": {"none", "error"},
    "loader.uid": _INTEGER,
    "loader.gid": _INTEGER,
    "fs.start_dir": _STRING,
    "fs.mounts": [dict],
    "sys.stack.size": _STRING,
    "sys.disallow_subprocesses": _BOOLEAN,
    "sgx.debug": {False},
    "sgx.edmm_enable": _BOOLEAN,
    "sgx.enclave_size": _STRING,
    "sgx.file_check_policy": {"strict"},
    "sgx.max_threads": _INTEGER,
    "sgx.remote_attestation": {"dcap"},
    "sgx.trusted_files": [dict],
}
"""Every key must be there but ``loader.env.*``; a set: one of these values."""
_MOUNT_KEYS: Final[Mapping[str, frozenset[str]]] = {
    "chroot": frozenset({"type", "path", "uri"}),
    "encrypted": frozenset({"type", "path", "uri", "key_name"}),
    "tmpfs": frozenset({"type", "path"}),
}
_SIZE: Final = re.compile(r"^([1-9][0-9]*)([KMG])$")
_SHA256: Final = re.compile(r"^[0-9a-f]{64}$")
_KEY_NAME: Final = re.compile(r"^[a-zA-Z][a-zA-Z0-9_-]*$")
_BARE_KEY: Final = re.compile(r"^[A-Za-z0-9_-]+$")


def to_toml(manifest: Mapping[str, Any]) -> str:
    """A manifest as text: dotted keys, sorted; the same for the same manifest."""
    return "".join(f"{path} = {_value(value)}\n" for path, value in sorted(_flat(manifest)))


def require_sound(text: bytes) -> None:
    """Refuse a manifest with any finding.

    Raises:
        InputError: ``bad-config``.
    """
    if found := findings(text):
        raise InputError("bad-config", f"The manifest is not sound: {'; '.join(found[:5])}.")


def findings(text: bytes) -> tuple[str, ...]:
    """What is wrong with a manifest; nothing where it is sound."""
    try:
        manifest = tomllib.loads(text.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return (f"it is no TOML: {error}",)
    out = _of_keys(manifest)
    return tuple(out or [*_of_mounts(manifest), *_of_trusted(manifest), *_of_sizes(manifest)])


def _flat(value: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for key, inner in value.items():
        path = before + (key if _BARE_KEY.match(key) else _text(key))
        out += _flat(inner, f"{path}.") if isinstance(inner, Mapping) else [(path, inner)]
    return out


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    return "[\n" + "".join(f"  {_value(one)},\n" for one in value) + "]"


def _text(text: str) -> str:
    # A basic string of TOML escapes as JSON does, and DEL beside.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _of_keys(manifest: Mapping[str, Any]) -> list[str]:
    given = dict(_flat(manifest))
    out = [f"there is no {key}" for key in _KNOWN if "*" not in key and key not in given]
    for path, value in given.items():
        wanted = _KNOWN.get("loader.env.*" if path.startswith("loader.env.") else path)
        if wanted is None:
            out.append(f"{path} is not allowed")
        elif not _is(value, wanted):
            out.append(f"{path} may not be {str(value)[:40]!r}")
    return out


def _is(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, set):
        return any(type(value) is type(one) and value == one for one in wanted)
    if isinstance(wanted, list):
        inner = wanted[0]
        return isinstance(value, list) and all(inner is dict or _is(one, inner) for one in value)
    kind = {_STRING: str, _BOOLEAN: bool, _INTEGER: int}[wanted]
    return type(value) is kind


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _of_mounts(manifest: Mapping[str, Any]) -> list[str]:
    out, encrypted = [], []
    for one in manifest["fs"]["mounts"]:
        kind = one.get("type") if isinstance(one, Mapping) else None
        known = _MOUNT_KEYS.get(kind) if isinstance(kind, str) else None
        if known is None or set(one) != known or not all(map(_is_text, one.values())):
            out.append(f"the mount {str(one)[:80]} is not allowed")
            continue
        path = one["path"]
        if not path.startswith("/") or ".." in PurePosixPath(path).parts:
            out.append(f"the mount of {path} is no absolute path")
        if kind != "tmpfs" and not one["uri"].startswith("file:"):
            out.append(f"the mount of {path} is no file")
        if kind == "encrypted":
            encrypted.append(PurePosixPath(one["uri"].removeprefix("file:")))
            if not _KEY_NAME.match(one["key_name"]):
                out.append(f"the key of {path} is not one that attestation sets")
    out += [
        f"the encrypted mounts {one} and {other} overlap"
        for one, other in combinations(encrypted, 2)
        if one.is_relative_to(other) or other.is_relative_to(one)
    ]
    return out


def _of_trusted(manifest: Mapping[str, Any]) -> list[str]:
    out = []
    seen: set[str] = set()
    for one in manifest["sgx"]["trusted_files"]:
        whole = isinstance(one, str) and one.startswith("file:/") and one.endswith("/")
        single = (
            isinstance(one, Mapping)
            and set(one) == {"uri", "sha256"}
            and all(map(_is_text, one.values()))
            and one["uri"].startswith("file:")
            and ".." not in PurePosixPath(one["uri"]).parts
            and bool(_SHA256.match(one["sha256"]))
        )
        uri = str(one["uri"] if single else one)
        if not (whole or single) or uri in seen:
            out.append(f"the trusted file {str(one)[:80]} has no digest, or stands there twice")
        seen.add(uri)
    for mount in manifest["fs"]["mounts"]:
        if not isinstance(mount, Mapping) or set(mount) != _MOUNT_KEYS["chroot"]:
            continue
        host = str(mount["uri"]).rstrip("/")
        if not any(uri == host or uri.startswith(f"{host}/") for uri in seen):
            out.append(f"nothing below {host} is trusted")
    return out


def _of_sizes(manifest: Mapping[str, Any]) -> list[str]:
    out = []
    sgx = manifest["sgx"]
    size = _SIZE.match(sgx["enclave_size"])
    if size is None or int(size[1]).bit_count() != 1:
        out.append("sgx.enclave_size is no power of two")
    if sgx["max_threads"] < 4:
        out.append("sgx.max_threads is below 4, which Gramine needs itself")
    if not manifest["libos"]["entrypoint"].startswith("/"):
        out.append("libos.entrypoint is no absolute path")
    return out
