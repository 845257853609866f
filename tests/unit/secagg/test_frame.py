from __future__ import annotations

import numpy as np
import pytest

from cohortium.core.rounds import FieldSpec, Layout
from cohortium.errors import InputError
from cohortium.secagg.frame import BLOCK_BYTES, Frame, name_component
from cohortium.secagg.ring import COUNT, REAL

LAYOUT: Layout = {
    "weights": FieldSpec((3, 5), "vector", 2.0),
    "bias": FieldSpec((1,), "vector"),
    "sums": FieldSpec((2, 2), "real"),
    "persons": FieldSpec((), "count"),
    "cells": FieldSpec((4,), "count"),
    "none": FieldSpec((0, 3), "real"),
}


def test_fields_lie_by_kind_and_name_after_the_check_word() -> None:
    frame = Frame(LAYOUT, 3)
    assert [(s.name, s.start, s.n_bytes) for s in frame.segments] == [
        ("", 0, 8),
        ("cells", 8, 32),
        ("persons", 40, 8),
        ("none", 48, 0),
        ("sums", 48, 128),
        ("bias", 176, 4),
        ("weights", 184, 60),
    ]
    assert frame.n_bytes == 248
    assert Frame(dict(reversed(list(LAYOUT.items()))), 3).segments == frame.segments


def test_every_segment_is_aligned_and_in_the_ring_of_its_field() -> None:
    for n_sites in (2, 50):
        frame = Frame(LAYOUT, n_sites)
        for segment in frame.segments:
            assert segment.start % 8 == segment.padded_end % 8 == 0
        rings = {segment.name: segment.ring for segment in frame.fields}
        assert rings["cells"] == COUNT
        assert rings["sums"] == REAL
        assert rings["weights"].bits == rings["bias"].bits == 32
        assert rings["weights"].fraction_bits == rings["bias"].fraction_bits + 5


@pytest.mark.parametrize("counts", [0, 1, BLOCK_BYTES // 8 - 1, BLOCK_BYTES // 8, 100_000])
@pytest.mark.parametrize("vectors", [0, 1, BLOCK_BYTES // 4, 3 * BLOCK_BYTES // 4 + 3])
@pytest.mark.parametrize("reals", [0, 1, BLOCK_BYTES // 16 + 1])
def test_blocks_cover_the_vector_once_and_cut_no_element(
    counts: int, reals: int, vectors: int
) -> None:
    frame = Frame(
        {
            "c": FieldSpec((counts,), "count"),
            "d": FieldSpec((7,), "count"),
            "r": FieldSpec((reals,), "real"),
            "v": FieldSpec((vectors,), "vector"),
            "w": FieldSpec((vectors,), "vector"),
        },
        3,
    )
    at, components = 0, dict.fromkeys(["", *"cdrvw"], 0)
    for block in frame.blocks:
        assert block.start == at
        assert 0 < block.n_bytes <= BLOCK_BYTES
        assert block.n_bytes % block.ring.element_bytes == 0
        at += block.n_bytes
        for piece in block.pieces:
            segment = piece.segment
            assert segment.spec.kind == {"c": "count", "d": "count", "r": "real"}.get(
                segment.name, "vector" if segment.name else "count"
            )
            assert segment.ring.bits == block.ring.bits
            assert piece.first == components[segment.name]
            assert piece.start == segment.start + piece.first * segment.ring.element_bytes
            end = piece.start + (piece.end - piece.first) * segment.ring.element_bytes
            assert block.start <= piece.start < end <= block.start + block.n_bytes
            components[segment.name] = piece.end
    assert at == frame.n_bytes
    assert components == {s.name: s.spec.size for s in frame.segments}


@pytest.mark.parametrize(
    "contribution",
    [
        {"n": np.array([7]), "x": np.zeros(3)},
        {"n": np.array(7), "x": np.zeros((3, 1))},
        {"n": np.array(7)},
        {"n": np.array(7), "x": np.zeros(3), "extra": np.zeros(2)},
    ],
)
def test_a_contribution_that_does_not_fit_the_layout_is_a_programming_error(
    contribution: dict[str, np.ndarray],
) -> None:
    frame = Frame({"n": FieldSpec((), "count"), "x": FieldSpec((3,), "vector")}, 2)
    frame.check_shapes({"n": np.array(7), "x": np.zeros(3)})
    with pytest.raises(RuntimeError, match="shapes"):
        frame.check_shapes(contribution)


@pytest.mark.parametrize(
    ("kind", "remedy"), [("vector", "clip .* to 2.5,"), ("real", "rescale"), ("count", "rescale")]
)
def test_the_overflow_error_names_the_component_and_a_remedy(kind: str, remedy: str) -> None:
    n = BLOCK_BYTES // 4
    frame = Frame({"x": FieldSpec((n,), kind, 2.5)}, 3)  # type: ignore[arg-type]
    piece = frame.blocks[-1].pieces[-1]
    error = name_component(InputError("overflow", "", index=2), piece)
    assert error.code == "overflow"
    assert error.details == {"field": "x", "index": piece.first + 2}
    assert f"x[{piece.first + 2}]" in error.message
    with pytest.raises(InputError, match=remedy):
        raise error
