"""What a site remembers of the persons it told of, and how it knows them again."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.support.builders import World

from cohortium.analysis.screen import Release
from cohortium.core.dictionary import Variable, VariableType
from cohortium.core.table import Table
from cohortium.disclosure.differencing import PersonSets, Split, joint_counts
from cohortium.errors import PolicyRefusal
from cohortium.node import atoms
from cohortium.node.datasets import MemoryDatasets
from cohortium.node.released import Place, ReleasedSets
from cohortium.node.row_hashes import row_hashes, same_rows
from cohortium.node.store import NodeStore

SALT = b"s" * 32
KEY = "sha256:" + "1" * 64
STUDY = "lung"


def _frame(ages: list[int]) -> pd.DataFrame:
    return pd.DataFrame({"age": ages, "weight": [float(age) / 2 for age in ages]})


def _memory(path: Path | str, frame: pd.DataFrame) -> tuple[ReleasedSets, Place]:
    datasets = MemoryDatasets.from_frame("patients", frame)
    digest = datasets.get("patients").digest
    assert digest is not None
    place = Place(STUDY, "patients", digest, len(frame))
    return ReleasedSets(NodeStore(path), datasets, lambda size: b"r" * size), place


def _add(memory: ReleasedSets, place: Place, sets: PersonSets, key: str = KEY) -> None:
    world = World()
    contract = world.contract()
    rows = memory.new_rows(place, contract, contract.givers[0])
    with memory._store.transaction():
        memory.add(place, Release(key, len(sets.sets)), sets, "run")
        if rows is not None:
            memory.add_rows(place, rows)


def _whole(inside: list[int]) -> PersonSets:
    return PersonSets(np.array(inside, dtype=np.int8) - np.int8(1), Split.whole().sets)


def _inside(memory: ReleasedSets, place: Place, n_sets: int) -> int:
    """How many of all persons were told of."""
    codes = np.zeros(place.n_rows, dtype=np.int8)
    ((joint, sets),) = memory.joint(place, codes, 0, (Release(KEY, n_sets),))
    assert len(sets) == n_sets
    return int(joint[1, 1:].sum())


@pytest.mark.parametrize("parts", [0, 3, 200, 40_000])
def test_sets_are_read_back_as_they_were_told(tmp_path: Path, parts: int) -> None:
    frame = _frame(list(range(50)))
    codes = np.random.default_rng(parts).integers(-1, parts + 1, 50).astype(np.int32)
    split = np.ones((2, parts + 1), dtype=np.bool_)
    split[1, ::2] = False
    if parts == 0:
        split, codes = split[:1], np.minimum(codes, 0)
    memory, place = _memory(tmp_path / "node.db", frame)
    _add(memory, place, PersonSets(codes, split))
    again, _ = _memory(tmp_path / "node.db", frame)
    assert again.known(STUDY) == {KEY: Release(KEY, len(split))}
    assert again.holds(STUDY, KEY)
    assert not again.holds("other", KEY)
    found = again._read(place, KEY)
    assert np.array_equal(found.codes, codes)
    assert np.array_equal(found.sets, split)


def test_what_the_site_lacks_is_empty_until_it_is_told() -> None:
    memory, place = _memory(":memory:", _frame([1, 2, 3]))
    assert _inside(memory, place, 2) == 0
    _add(memory, place, _whole([1, 0, 1]))
    assert _inside(memory, place, 1) == 2
    with pytest.raises(PolicyRefusal):
        _inside(memory, place, 7)


def test_what_was_told_can_neither_be_changed_nor_forgotten() -> None:
    memory, place = _memory(":memory:", _frame([1, 2, 3]))
    _add(memory, place, _whole([1, 0, 1]))
    _add(memory, place, _whole([0, 0, 0]))
    assert memory._read(place, KEY).codes.tolist() == [0, -1, 0]
    for statement in ("DELETE FROM released", "UPDATE released SET study = 'x'"):
        with pytest.raises(sqlite3.IntegrityError):
            memory._store.execute(statement)


def test_persons_are_known_again_when_the_dataset_changes(tmp_path: Path) -> None:
    memory, place = _memory(tmp_path / "node.db", _frame([10, 20, 30, 40]))
    _add(memory, place, _whole([1, 1, 0, 1]))
    # 20 is gone, 40 has become 41, 50 is new, and the order is another.
    later, now = _memory(tmp_path / "node.db", _frame([30, 50, 10, 41]))
    assert now.digest != place.digest
    found = later._read(now, KEY)
    assert found.codes[:4].tolist() == [-1, -1, 0, -1]
    assert found.codes[4:].tolist() == [0, 0]
    ((joint, _),) = later.joint(now, np.array([0, 0, -1, 0]), 0, (Release(KEY, 1),))
    assert joint.tolist() == [[0, 3], [3, 0]]  # the one who was told of left; two others are gone


def test_a_dataset_without_the_variables_of_the_study_is_refused(tmp_path: Path) -> None:
    memory, place = _memory(tmp_path / "node.db", _frame([10, 20, 30]))
    _add(memory, place, _whole([1, 1, 0]))
    later, now = _memory(tmp_path / "node.db", pd.DataFrame({"age": [10, 20, 30]}))
    with pytest.raises(PolicyRefusal) as caught:
        _inside(later, now, 1)
    assert caught.value.code == "differencing"


# Many releases at once


@pytest.mark.parametrize("table", [0, 10**6])
def test_atoms_count_as_a_comparison_with_each_release_does(
    table: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(atoms, "MAX_TABLE", table)
    rng = np.random.default_rng(3)
    found = atoms.Atoms(200)
    releases = {}
    for number in range(6):
        parts, gone = int(rng.integers(0, 5)), 3 * (number % 2)
        codes = rng.integers(-1, parts + 1, 200 + gone).astype(np.int16)
        releases[str(number)] = PersonSets(codes, np.ones((1, parts + 1), dtype=np.bool_))
        found.add(str(number), releases[str(number)])
    assert all(key in found for key in releases)
    new = PersonSets(rng.integers(-1, 4, 200), np.ones((1, 4), dtype=np.bool_))
    counted = found.count(new.codes, 4)
    for key, earlier in releases.items():
        longer = np.concatenate([new.codes, np.full(len(earlier.codes) - 200, -1)])
        expected = joint_counts(PersonSets(longer, new.sets), earlier)
        assert np.array_equal(counted.with_release(key)[0], expected)
    nobody = joint_counts(new, PersonSets.nobody(200, 1))
    assert np.array_equal(counted.with_nobody(1)[0], nobody)


# Hashes of rows


def _table(name: str, column: np.ndarray, **declared: object) -> Table:
    variable = Variable.model_validate({"name": name, "type": VariableType.REAL, **declared})
    return Table({name: variable}, {name: column})


def _numbers(values: list[float]) -> np.ndarray:
    return row_hashes(SALT, [_table("x", np.array(values))], len(values))


def test_a_row_has_the_same_hash_wherever_it_stands() -> None:
    first, second = _numbers([1.0, 2.0, np.nan]), _numbers([np.nan, 1.0, 2.0])
    assert second.tolist() == [first[2], first[0], first[1]]
    assert _numbers([-0.0])[0] == _numbers([0.0])[0]
    assert len(set(_numbers([float(i) for i in range(1000)]).tolist())) == 1000


def test_values_count_with_their_column_and_secret() -> None:
    one, two = np.array([1.0]), np.array([2.0])
    here = row_hashes(SALT, [_table("x", one), _table("y", two)], 1)
    swapped = row_hashes(SALT, [_table("x", two), _table("y", one)], 1)
    other = row_hashes(b"t" * 32, [_table("x", one), _table("y", two)], 1)
    turned = row_hashes(SALT, [_table("y", two), _table("x", one)], 1)
    assert here[0] == turned[0]
    assert len({int(here[0]), int(swapped[0]), int(other[0])}) == 3


def test_a_level_is_its_name_and_not_its_number() -> None:
    def of(levels: tuple[str, ...], codes: list[int]) -> list[int]:
        column = np.array(codes, dtype=np.int32)
        table = _table("sex", column, type=VariableType.CATEGORY, levels=levels)
        return [int(one) for one in row_hashes(SALT, [table], len(codes))]

    assert of(("f", "m"), [0, 1, -1]) == of(("m", "x", "f"), [2, 0, -1])


def test_texts_are_hashed_whole_and_missing_ones_are_none_of_them() -> None:
    column = np.array(["a", None, "", "a"], dtype=object)
    hashes = row_hashes(SALT, [_table("note", column, type=VariableType.TEXT)], 4)
    assert hashes[0] == hashes[3]
    assert len(set(hashes.tolist())) == 3


def test_equal_rows_are_matched_one_by_one() -> None:
    before = np.array([7, 7, 7, 9], dtype=np.uint64)
    now = np.array([9, 7, 7], dtype=np.uint64)
    assert same_rows(before, now).tolist() == [1, 2, -1, 0]
    assert same_rows(before, now[:0]).tolist() == [-1] * 4
    assert same_rows(before[:0], now).tolist() == []
