"""The persons about whom this site has helped to release something, by study; never leaves.

A person is a row of a dataset of a certain content. When the content changes, rows are recognised
by their values: who has other values is another person, for whoever only sees aggregates.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from cohortium.analysis.screen import Codes, Earlier, Release
from cohortium.contract.model import Contract, Participant
from cohortium.core.dictionary import Variable
from cohortium.core.table import Table
from cohortium.disclosure.differencing import Bools, Ints, PersonSets
from cohortium.errors import CohortiumError, IntegrityFailure, PolicyRefusal
from cohortium.node.atoms import Atoms
from cohortium.node.row_hashes import SALT_BYTES, Hashes, row_hashes, same_rows
from cohortium.node.store import NodeStore
from cohortium.node.stored import Datasets

MAX_ATOM_BYTES: Final = 256 * 1024 * 1024
MOST_ATOMS: Final = 8
"""Studies and contents of datasets whose atoms are kept in memory."""
_LEVEL: Final = 1
"""Of zlib: the persons of a cohort compress little, and are read often."""


@dataclass(frozen=True)
class Place:
    """The rows that a run's persons are among.

    Attributes:
        digest: Of the dataset's content.
    """

    study: str
    dataset: str
    digest: str
    n_rows: int


@dataclass(frozen=True, repr=False)
class KnownRows:
    """How rows are recognised: the hash of each, with its secret.

    Attributes:
        columns: What is hashed: variables, and the dataset's names for them.
    """

    salt: bytes
    columns: tuple[tuple[Variable, str], ...]
    hashes: Hashes


class ReleasedSets:
    """What the site remembers of released person sets.

    Args:
        store: Where it is; every method that writes belongs in a transaction of it.
        datasets: For the values by which rows are recognised.
        random: Source of the secret in their hashes.
    """

    def __init__(
        self, store: NodeStore, datasets: Datasets, random: Callable[[int], bytes]
    ) -> None:
        self._store = store
        self._datasets = datasets
        self._random = random
        self._lock = threading.Lock()
        self._atoms: OrderedDict[tuple[str, str], Atoms] = OrderedDict()

    def known(self, study: str) -> dict[str, Release]:
        """The releases under the study, by key."""
        rows = self._store.execute("SELECT key, n_sets, kept FROM released WHERE study = ?", study)
        return {str(key): Release(str(key), int(n), int(kept)) for key, n, kept in rows}

    def holds(self, study: str, key: str) -> bool:
        """Whether these very sets were released before."""
        return bool(
            self._store.execute("SELECT 1 FROM released WHERE study = ? AND key = ?", study, key)
        )

    def add(self, place: Place, release: Release, sets: PersonSets, run_id: str) -> None:
        """Remember a release for good; what is remembered already stays as it is."""
        self._store.execute(
            "INSERT OR IGNORE INTO released VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            place.study,
            release.key,
            place.digest,
            release.n_sets,
            release.kept,
            _encode(sets),
            run_id,
            self._store.now(),
        )

    def joint(
        self, place: Place, codes: Codes, n_parts: int, earlier: Earlier
    ) -> Iterator[tuple[Ints, Bools]]:
        """New persons, on all rows of `place`, with those of each release; see `OwnSets.joint`.

        Raises:
            PolicyRefusal: ``differencing`` where persons cannot be recognised.
        """
        with self._lock:
            atoms = self._atoms_of(place)
            known = self.known(place.study)
            here = [one.key for one in earlier if one.key in known]
            for key in here:
                if key not in atoms:
                    atoms.add(key, self._read(place, key))
            counted = atoms.count(codes, n_parts + 1)
            found = {key: counted.with_release(key) for key in here}
        for key, n_sets, _ in earlier:
            joint, sets = found[key] if key in found else counted.with_nobody(n_sets)
            if len(sets) != n_sets:
                raise PolicyRefusal(
                    "differencing", "The hub describes an earlier result otherwise than this site."
                )
            yield joint, sets

    def _atoms_of(self, place: Place) -> Atoms:
        at = (place.study, place.digest)
        atoms = self._atoms.pop(at, None)
        if atoms is None or atoms.n_bytes > MAX_ATOM_BYTES:
            atoms = Atoms(place.n_rows)
        self._atoms[at] = atoms  # the last one used is the last to go
        while len(self._atoms) > MOST_ATOMS:
            self._atoms.popitem(last=False)
        return atoms

    def _read(self, place: Place, key: str) -> PersonSets:
        rows = self._store.execute(
            "SELECT digest, body FROM released WHERE study = ? AND key = ?", place.study, key
        )
        digest, body = rows[0]
        sets = _decode(body)
        return sets if digest == place.digest else self._moved(sets, place, str(digest))

    # Rows of changed datasets

    def new_rows(
        self, place: Place, contract: Contract, participant: Participant
    ) -> KnownRows | None:
        """By which values the rows of this content can be recognised; None where that is known."""
        known = self._store.execute(
            "SELECT 1 FROM released_rows WHERE study = ? AND digest = ?", place.study, place.digest
        )
        if known:
            return None
        columns = [
            (variable, participant.sources.get(variable.name, variable.name))
            for variable in contract.variables
            if variable.name in participant.variables
        ]
        salt = self._random(SALT_BYTES)
        return KnownRows(salt, tuple(columns), self._hashes(place, salt, columns))

    def add_rows(self, place: Place, rows: KnownRows) -> None:
        """Keep that for good."""
        self._store.execute(
            "INSERT OR IGNORE INTO released_rows VALUES (?, ?, ?, ?, ?)",
            place.study,
            place.digest,
            rows.salt,
            json.dumps([[v.to_json(), column] for v, column in rows.columns]).encode(),
            rows.hashes.astype("<u8").tobytes(),
        )

    def _hashes(self, place: Place, salt: bytes, columns: Sequence[tuple[Variable, str]]) -> Hashes:
        def read(variable: Variable, column: str) -> Table:
            return self._datasets.table(
                place.dataset, {variable.name: variable}, {variable.name: column}, place.digest
            )

        return row_hashes(salt, (read(v, column) for v, column in columns), place.n_rows)

    def _moved(self, sets: PersonSets, place: Place, digest: str) -> PersonSets:
        """Sets of an earlier content, on the rows of the present one and then on those it lacks."""
        rows = self._store.execute(
            "SELECT salt, columns, hashes FROM released_rows WHERE study = ? AND digest = ?",
            place.study,
            digest,
        )
        if not rows:
            raise IntegrityFailure("broken-store", "The rows of an earlier dataset are forgotten.")
        salt, columns, body = rows[0]
        before = np.frombuffer(body, dtype="<u8").astype(np.uint64)
        if len(before) != len(sets.codes):
            raise IntegrityFailure("broken-store", "The rows of an earlier dataset do not fit.")
        wanted = [(Variable.from_json(v), str(column)) for v, column in json.loads(columns)]
        try:
            now = self._hashes(place, salt, wanted)
        except CohortiumError as error:
            raise PolicyRefusal(
                "differencing",
                "The persons of earlier results cannot be recognised in the dataset as it is now: "
                "it no longer has the variables that the study had. Put them back.",
            ) from error
        at = same_rows(before, now)
        there = at >= 0
        gone = sets.codes[~there]
        codes = np.full(place.n_rows + len(gone), -1, dtype=sets.codes.dtype)
        codes[at[there]] = sets.codes[there]
        codes[place.n_rows :] = gone
        return PersonSets(codes, sets.sets)


def _encode(sets: PersonSets) -> bytes:
    """A JSON line, then which parts each set has and which part each row is in, compressed."""
    n_sets, width = sets.sets.shape
    kind = next(t for t in ("|i1", "<i2", "<i4") if width <= np.iinfo(np.dtype(t)).max)
    one = width == 1
    head: Mapping[str, Any] = {
        "rows": len(sets.codes),
        "sets": [n_sets, width],
        "codes": "bits" if one else kind,
    }
    codes = np.packbits(sets.codes >= 0) if one else sets.codes.astype(kind)
    body = np.packbits(sets.sets).tobytes() + codes.tobytes()
    return json.dumps(head).encode() + b"\n" + zlib.compress(body, _LEVEL)


def _decode(data: bytes) -> PersonSets:
    line, _, packed = data.partition(b"\n")
    head, body = json.loads(line), zlib.decompress(packed)
    n_sets, width = head["sets"]
    split = (n_sets * width + 7) // 8
    sets = np.unpackbits(np.frombuffer(body, np.uint8, count=split), count=n_sets * width)
    if head["codes"] == "bits":
        inside = np.unpackbits(np.frombuffer(body, np.uint8, offset=split), count=head["rows"])
        codes = inside.astype(np.int8) - np.int8(1)
    else:
        codes = np.frombuffer(body, np.dtype(head["codes"]), offset=split)
    return PersonSets(codes, sets.reshape(n_sets, width).astype(np.bool_))
