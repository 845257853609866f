"""Photographs of eyes with vessels drawn by hand, in folders as DRIVE has them.

    images/21_training.tif   1st_manual/21_manual1.gif   mask/21_training_mask.gif

Files belong together by what stands before the first ``_``. Without a mask it is what is not dark.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Plane = NDArray[np.float32]
Region = NDArray[np.bool_]
PATCH = 64
BATCH = 16


@dataclass(frozen=True)
class Eye:
    """One photograph.

    Attributes:
        plane: The green channel less its surroundings, in standard deviations; 0 outside the field.
        field: The field of view.
        vessels: As drawn by hand.
    """

    name: str
    plane: Plane
    field: Region
    vessels: Region


def read_owner(folder: Path) -> list[Eye]:
    """The eyes of an owner, by name."""
    drawn = _by_number(folder / "1st_manual")
    masks = _by_number(folder / "mask")
    eyes = []
    for number, file in _by_number(folder / "images").items():
        with Image.open(file) as photograph:
            field = _region(masks[number]) if number in masks else field_of(photograph)
            plane = plane_of(photograph, field)
        eyes.append(Eye(number, plane, field, _region(drawn[number])))
    return eyes


def field_of(photograph: Image.Image) -> Region:
    """What is not dark."""
    return np.asarray(photograph.convert("RGB"))[..., 0] > 30


def plane_of(photograph: Image.Image, field: Region) -> Plane:
    """What the network sees of a photograph."""
    green = photograph.convert("RGB").getchannel("G")
    around = green.filter(ImageFilter.GaussianBlur(12))
    difference = np.asarray(green, np.float32) - np.asarray(around, np.float32)
    return np.where(field, difference / difference[field].std(), 0).astype(np.float32)


def batches(
    eyes: list[Eye], patches: int, random: np.random.Generator
) -> Iterator[tuple[Plane, Plane]]:
    """Patches from random places of the field, turned and mirrored: (n, 1, side, side) each."""
    places = [np.argwhere(eye.field) for eye in eyes]
    for _ in range(0, patches, BATCH):
        seen = np.empty((BATCH, 1, PATCH, PATCH), np.float32)
        wanted = np.empty_like(seen)
        for index, which in enumerate(random.integers(len(eyes), size=BATCH)):
            eye = eyes[which]
            middle = places[which][random.integers(len(places[which]))]
            top, left = np.clip(middle - PATCH // 2, 0, np.array(eye.field.shape) - PATCH)
            turns, mirrored = int(random.integers(4)), random.integers(2)
            for source, target in ((eye.plane, seen), (eye.vessels, wanted)):
                patch = np.rot90(source[top : top + PATCH, left : left + PATCH], turns)
                target[index, 0] = patch[:, ::-1] if mirrored else patch
        yield seen, wanted


def padded(plane: Plane) -> Plane:
    """With rows and columns of zeros, so that it can be halved twice: (1, 1, height, width)."""
    height, width = plane.shape
    return np.pad(plane, ((0, -height % 4), (0, -width % 4)))[None, None]


def _by_number(folder: Path) -> dict[str, Path]:
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {file.name.partition("_")[0]: file for file in files if not file.name.startswith(".")}


def _region(file: Path) -> Region:
    with Image.open(file) as drawn:
        return np.asarray(drawn.convert("L")) > 127
