"""Folders of two owners: made-up eyes, or DRIVE's training images divided.

python fundus.py OUT [--eyes 10] [--side 256] [--seed 1]
python fundus.py OUT --drive FOLDER
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np
from eyes import Region
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

Point = NDArray[np.float64]
OWNERS = ("owner_a", "owner_b")


def eye(side: int, random: np.random.Generator) -> tuple[Image.Image, Image.Image, Image.Image]:
    """A photograph that nobody took, its vessels and its field of view."""
    scale = side / 256
    drawn = Image.new("L", (side, side))
    pen = ImageDraw.Draw(drawn)
    disc = np.array([0.28 + 0.08 * random.random(), 0.5 + 0.08 * (random.random() - 0.5)]) * side
    for angle in np.concatenate([np.linspace(-1.2, 1.2, 5), np.pi + np.linspace(-0.7, 0.7, 3)]):
        _grow(pen, disc, angle + 0.3 * random.normal(), 3.6 * scale, scale, random)
    rows, columns = np.mgrid[0:side, 0:side]
    field = np.hypot(rows - side / 2, columns - side / 2) < 0.47 * side
    vessels = np.asarray(drawn) > 0
    return (
        _coloured(drawn, field, disc, scale, random),
        Image.fromarray((vessels & field).astype(np.uint8) * 255),
        Image.fromarray(field.astype(np.uint8) * 255),
    )


def _grow(  # noqa: PLR0917
    pen: ImageDraw.ImageDraw,
    start: Point,
    angle: float,
    wide: float,
    scale: float,
    random: np.random.Generator,
) -> None:
    here, length = np.array(start, float), 6 * scale
    while wide > 0.8 * scale and (here > 0).all() and (here < pen.im.size[0]).all():
        angle += 0.16 * random.normal()
        there = here + length * np.array([np.cos(angle), np.sin(angle)])
        pen.line([*here, *there], fill=255, width=max(1, round(wide)))
        here, wide = there, wide * 0.965
        if random.random() < 0.11:
            turn = random.choice([-1, 1]) * (0.5 + 0.3 * random.random())
            _grow(pen, here, angle + turn, 0.7 * wide, scale, random)


def _coloured(
    drawn: Image.Image,
    field: Region,
    disc: Point,
    scale: float,
    random: np.random.Generator,
) -> Image.Image:
    side = drawn.size[0]
    rows, columns = np.mgrid[0:side, 0:side]
    dark = np.asarray(drawn.filter(ImageFilter.GaussianBlur(0.8 * scale)), np.float32) / 255
    from_middle = np.hypot(rows - side / 2, columns - side / 2) / side
    from_disc = np.hypot(rows - disc[1], columns - disc[0]) / (16 * scale)
    light = 1 - 0.9 * from_middle**2 + 0.5 / (1 + np.exp(4 * (from_disc - 1)))
    spots = Image.fromarray(random.integers(0, 256, (16, 16), np.uint8)).resize((side, side))
    light *= 0.92 + 0.16 * np.asarray(spots, np.float32) / 255
    colours = np.array([185, 95, 45]) * light[..., None]
    colours *= 1 - np.array([0.22, 0.38, 0.3]) * dark[..., None]
    colours += random.normal(0, 4, colours.shape)
    return Image.fromarray((np.clip(colours, 0, 255) * field[..., None]).astype(np.uint8))


def make(out: Path, eyes: int, side: int, seed: int) -> None:
    """Write `eyes` of them for each owner."""
    random = np.random.default_rng(seed)
    number = 0
    for owner in OWNERS:
        for folder in ("images", "1st_manual", "mask"):
            (out / owner / folder).mkdir(parents=True)
        for _ in range(eyes):
            number += 1
            photograph, vessels, field = eye(side, random)
            photograph.save(out / owner / "images" / f"{number:02}_made.png")
            vessels.save(out / owner / "1st_manual" / f"{number:02}_manual1.png")
            field.save(out / owner / "mask" / f"{number:02}_made_mask.png")


def divide(drive: Path, out: Path) -> None:
    """The first half of DRIVE's training images to one owner, the second to the other."""
    for folder in ("images", "1st_manual", "mask"):
        files = sorted((drive / folder).iterdir())
        for index, file in enumerate(files):
            target = out / OWNERS[2 * index // len(files)] / folder
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / file.name)


def main() -> None:
    """Write both owners' folders."""
    parser = argparse.ArgumentParser(description="Folders of two owners.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--eyes", type=int, default=10, help="of each owner")
    parser.add_argument("--side", type=int, default=256, help="pixels")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--drive", type=Path, help="the folder of DRIVE's training images")
    asked = parser.parse_args()
    if (asked.out / OWNERS[0]).exists():
        raise SystemExit(f"There are eyes in {asked.out} already.")
    if asked.drive:
        divide(asked.drive, asked.out)
    else:
        make(asked.out, asked.eyes, asked.side, asked.seed)


if __name__ == "__main__":
    main()
