"""A second verifier of audit bundles, from docs/evidence.md: verify_bundle.py BUNDLE RESULT..."""

# fmt: off
import base64
import json
import pathlib
import sys
from collections.abc import Iterator
from decimal import Decimal
from fnmatch import fnmatchcase
from hashlib import sha256
from itertools import pairwise
from typing import Any
from urllib.parse import quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

HOSTILE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
def must(holds: Any, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
def parse(text: str | bytes) -> Any:  # whole numbers from 2^53 on are doubles
    return json.loads(text, parse_int=lambda n: int(n) if abs(float(n)) < 2**53 else float(n))
def canonical(value: Any) -> str:  # RFC 8785, with ECMAScript's numbers
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{canonical(n)}:{canonical(value[n])}" for n in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if not isinstance(value, float):
        return json.dumps(value, ensure_ascii=False)
    if value == 0 or 1e-6 <= abs(value) < 1e21:
        return format(Decimal(repr(value or 0)), "f").removesuffix(".0")
    return repr(value).replace("e-0", "e-")
def digest(data: str | bytes) -> str:
    return "sha256:" + sha256(data.encode() if isinstance(data, str) else data).hexdigest()
def raw(key: str) -> bytes:
    return base64.urlsafe_b64decode(key.removeprefix("ed25519:") + "=")
def keys_of(people: list[Any]) -> dict[str, str]:
    return {one["name"]: one["key"] for one in people}
def opened(envelope: str, kind: str, key: str) -> Any:  # DSSE; with the document's own digest
    dsse, kind = parse(envelope), f"application/vnd.cohortium.{kind}+json"
    (by,), payload = dsse["signatures"], base64.b64decode(dsse["payload"])
    must((dsse["payloadType"], key or by["keyid"]) == (kind, by["keyid"]), "another type or key")
    data = b"DSSEv1 %d %b %d %b" % (len(kind), kind.encode(), len(payload), payload)
    Ed25519PublicKey.from_public_bytes(raw(by["keyid"])).verify(base64.b64decode(by["sig"]), data)
    return parse(payload) | {"digest": digest(payload)}
def root_of(leaves: list[bytes]) -> bytes:  # RFC 9162 2.1.1
    split = 1 << (len(leaves) - 1).bit_length() - 1 if len(leaves) > 1 else 0
    halves = (leaves[:split], leaves[split:])
    return sha256(b"\1" + b"".join(map(root_of, halves))).digest() if split else leaves[0]
def climb(fn: int, sn: int, path: list[str]) -> tuple[bytes, bytes]:
    old = new = bytes.fromhex(path[0])  # RFC 9162 2.1.3.2, 2.1.4.2: roots of old and new tree
    for c in map(bytes.fromhex, path[1:]):
        must(sn > 0, "a proof is too long")
        if fn & 1 or fn == sn:
            old, new = root_of([c, old]), root_of([c, new])
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = root_of([new, c])
        fn, sn = fn >> 1, sn >> 1
    must(sn == 0, "a proof is too short")
    return old, new
def witnessed(note: str, log_key: str, origin: str, *groups: dict[str, str]) -> tuple[Any, ...]:
    text, _, tail = note.rpartition("\n\n")
    named, size, root, members = text.split("\n")
    must(named == origin, "a checkpoint of another log")
    lines = [line.removeprefix("\u2014 ").split(" ") for line in tail.splitlines()]
    for keys in ({"": log_key}, *groups):
        seen = set()
        for site, key in keys.items():
            name = f"{origin}/{quote(site, safe='')}" if site else origin
            own = sha256(f"{name}\n".encode() + (b"\4" if site else b"\1") + raw(key)).digest()[:4]
            for data in [base64.b64decode(signature) for who, signature in lines if who == name]:
                if data[:4] == own:
                    time = b"cosignature/v1\ntime %d\n" % int.from_bytes(data[4:-64], "big")
                    what = (time if site else b"") + f"{text}\n".encode()
                    Ed25519PublicKey.from_public_bytes(raw(key)).verify(data[-64:], what)
                    seen.add(site)
        must(len(seen) > len(keys) * 2 // 3, f"{len(seen)} of {len(keys)} have witnessed it")
    return int(size), base64.b64decode(root), members.removeprefix("members ")
def verify(data: bytes, results: dict[str, Any]) -> Iterator[str]:  # noqa: PLR0915
    yield "format"
    bundle = parse(data)
    must(canonical(bundle).encode() == data, "the file is not canonical")
    must(bundle["schema_id"] == "cohortium/audit-bundle/1", "another version of the format")
    held, said, study = bundle["entries"], bundle["statements"], bundle["study"]
    must(all(canonical(parse(e["entry"])) == e["entry"] for e in held), "an entry not canonical")
    log = [(e["index"], parse(e["entry"])["at"], parse(e["entry"])["fact"]) for e in held]
    must(all(a[0] < b[0] for a, b in pairwise(log)), "the entries are not in order")
    must(all(digest(text) == name for name, text in said.items()), "a document is exchanged")
    ours = [(i, at, f) for i, at, f in log if f.get("study", study) == study]
    yield "log"
    (founded,) = [(i, f["fingerprint"]) for i, _, f in log if f["kind"] == "consortium.founded"]
    origin, (signer,) = "cohortium/" + founded[1][7:39], bundle["log"]["keys"]
    named, _, key = signer["key"].split("+", 2)
    must((founded[0], bundle["log"]["origin"], named) == (0, origin, origin), "another log")
    log_key = base64.urlsafe_b64encode(base64.b64decode(key)[1:]).decode()[:-1]
    yield "checkpoint"
    size, root, named = witnessed(bundle["checkpoint"], log_key, origin)
    must(named == digest(canonical(bundle["members"])), "the members are others")
    yield "entries"
    leaves = [sha256(b"\0" + e["entry"].encode()).digest() for e in held]
    whole = bundle["coverage"] == "log"
    must(not whole or (len(leaves) == size and root_of(leaves) == root), "not all the entries")
    for leaf, e in zip(leaves, held, strict=True):
        i, path = e["index"], [leaf.hex(), *e["proof"]]
        must(whole or (i < size and climb(i, size - 1, path)[1] == root), f"entry {i}")
    must(whole or ours == log, "an entry is of another study")
    must(all(a[1] <= b[1] for a, b in pairwise(log)), "an entry is dated back")
    yield "statements"
    parties = "".join(str(base64.b64decode(parse(text)["payload"])) for text in said.values())
    ours = [(i, at, f) for i, at, f in ours if f["kind"] != "contract" or f["statement"] in said
            or (f["state"] != "draft" and f["key"] in parties)]  # else nobody of the study said it
    ordered = {f["run_id"]: f for _, _, f in ours if f["kind"] == "run.submitted"}
    runs = [(i, f) for i, _, f in ours if f.get("run_id") in ordered]
    must("key.released" not in [f["kind"] for _, f in runs], "runs of tasks are not judged here")
    naming = [f for _, _, f in ours] + [d for _, f in runs for d in f.get("sites", {}).values()]
    needed = {one.get("statement", one.get("request")) for one in naming} - {None}
    must(needed == set(said), "a document is missing or superfluous")
    yield "contract"
    contracts: dict[str, Any] = {}
    force: dict[int, Any] = {-1: None}  # the contract in force after an entry
    ruled: dict[str, int] = {}  # the contracts that were, and the places where they ended
    for i, f in [(i, f) for i, _, f in ours if f.get("state", "draft") != "draft"]:
        act = f["action"]
        kind = "contract" if act in ("propose", "sign") else "transition"
        doc = opened(said[f["statement"]], kind, f["key"])
        about = (doc.get("contract_digest", doc["digest"]), doc["study"], doc.get("action", act))
        must(about == (f["contract"], study, act), f"entry {i}: it says something else")
        c = contracts.setdefault(f["contract"], doc | {"signed": set()})
        people = keys_of([*c["participants"], *c["recipients"], *c["owners"], c["proposed_by"]])
        must(people[doc.get("author", f["author"])] == f["key"], f"entry {i}: by somebody else")
        must(c["consortium"] == founded[1], f"entry {i}: a contract of another consortium")
        c["signed"] |= {f["author"]} if act == "sign" else set()
        if f["state"] in ("active", "suspended"):
            must(keys_of(c["participants"]).keys() <= c["signed"], f"entry {i}: not all signed")
            ruled = {d: end or i for d, end in ruled.items() if d != c["digest"]} | {c["digest"]: 0}
            force[i] = None if act == "suspend" and "computations" not in doc else c
        elif f["contract"] in ruled:
            ruled[f["contract"]], force[i] = ruled[f["contract"]] or i, None
    yield "quorum"
    def earlier(held: Any, people: list[Any], place: int) -> None:
        members = held.get("members", bundle["members"])
        m, old, named = witnessed(held["checkpoint"], log_key, origin, members, keys_of(people))
        must(named == digest(canonical(members)) and place < m <= size, "another checkpoint")
        path = [] if m & (m - 1) else [old.hex()]
        path, odd = [*path, *held.get("consistency", [])], (m & -m).bit_length() - 1
        roots = climb(m - 1 >> odd, size - 1 >> odd, path) if m < size else (old, old)
        must(roots == (old, root), "an earlier checkpoint is of a fork")
    last = [contracts[name]["participants"] for name in [*(ruled or contracts)][-1:]]
    witnessed(bundle["checkpoint"], log_key, origin, bundle["members"], *map(keys_of, last))
    ends = {one["contract"]: one for one in bundle.get("handovers", [])}
    for name, place in [*ruled.items()][:-1]:
        earlier(ends.get(name, bundle), contracts[name]["participants"], place)
    yield "requests"
    for i, at, f in [one for one in ours if one[2]["kind"] in ("run.submitted", "run.denied")]:
        doc = opened(said[f["request"]], "run-request", "" if "code" in f else f["researcher"])
        same = [doc[name] for name in ("run_id", "study", "contract_digest", "computation")]
        must(same == [f["run_id"], study, f["contract"], f["computation"]], f"entry {i}: other run")
        if f["kind"] == "run.submitted":
            c = force[max(place for place in force if place < i)]
            must(c and c["digest"] == f["contract"], f"entry {i}: the contract is not in force")
            must(at < c["expires_at"], f"entry {i}: the contract had expired")
            fit = [one for one in c["computations"] if fnmatchcase(f["computation"], one["name"])]
            terms = min(fit, key=lambda t: (t["name"].endswith("*"), -len(t["name"])))
            names = [r["name"] for r in c["recipients"] if r["key"] == f["researcher"]]
            must(set(names) & set(terms.get("recipients", names)), f"entry {i}: no recipient")
            for name, allowed in terms["limits"].items():
                must(doc["params"].get(name, allowed[0]) in allowed, f"entry {i}: {name}")
            ordered[f["run_id"]] = c | {"request": doc["digest"]}
    yield "sites"
    for i, f in [(i, f) for i, f in runs if f["kind"] == "run.decided"]:
        c = ordered[f["run_id"]]
        for site, key in keys_of(c["participants"]).items():
            if f["sites"][site]["decision"] == "accepted":
                doc = opened(said[f["sites"][site]["statement"]], "round-key", key)
                same = [doc[n] for n in ("site", "run_id", "contract_digest", "request_digest")]
                must(same == [site, f["run_id"], c["digest"], c["request"]], f"entry {i}: {site}")
    yield "releases"
    done = {f["run_id"]: (i, f) for i, f in runs if "result" in f}
    must([r["run_id"] for r in bundle["releases"]] == sorted(done), "a receipt is missing")
    for r in bundle["releases"]:
        earlier(r, ordered[r["run_id"]]["participants"], done[r["run_id"]][0])
    yield "keys"
    yield "results"
    for run, result in results.items():
        (nonce,) = [bytes.fromhex(r["nonce"]) for r in bundle["releases"] if r["run_id"] == run]
        opening = b"cohortium result v1\0" + nonce + canonical(result).encode()
        must(digest(opening) == done[run][1]["result"], f"the result of {run} is another")
if __name__ == "__main__":
    files = [parse(pathlib.Path(name).read_bytes()) for name in sys.argv[2:]]
    found, step = {file["run"]["id"]: file["result"] for file in files}, ""
    try:
        for step in verify(pathlib.Path(sys.argv[1]).read_bytes(), found):
            print(step)
    except (InvalidSignature, *HOSTILE) as error:
        sys.exit(f"{step}: {error}")
