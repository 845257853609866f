"""Find the vessels in a hospital's photographs with a network that somebody else trained.

What is given out is black and white: probabilities would tell more of the network. NumPy alone
does the arithmetic, so that this file is all that two owners have to read and agree to.

python predict.py --model FOLDER --images FOLDER --vessels FOLDER
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Planes = NDArray[np.float32]
MODEL = "vessels.npz"


class Network:
    """The U-Net of `vessels.npz`, as either framework trains it; planes are (channels, y, x)."""

    def __init__(self, file: Path) -> None:
        with np.load(file, allow_pickle=False) as weights:
            self._weights: dict[str, Planes] = dict(weights)

    def log_odds(self, seen: Planes) -> Planes:
        """Of each pixel: is it of a vessel?"""
        one = self._level(seen, "down1")
        two = self._level(_halved(one), "down2")
        bottom = self._level(_halved(two), "bottom_")
        two = self._level(np.concatenate([_twice(bottom), two]), "up2")
        one = self._level(np.concatenate([_twice(two), one]), "up1")
        odds: Planes = self._convolved(one, "out")[0]
        return odds

    def _level(self, seen: Planes, name: str) -> Planes:
        for part in "ab":
            seen = np.maximum(self._convolved(seen, f"{name}{part}"), 0)
        return seen

    def _convolved(self, seen: Planes, name: str) -> Planes:
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        side = weight.shape[-1]
        edge = side // 2
        height, width = seen.shape[1:]
        seen = np.pad(seen, ((0, 0), (edge, edge), (edge, edge)))
        out: Planes = np.tile(bias[:, None, None], (1, height, width))
        for y in range(side):
            for x in range(side):
                moved = seen[:, y : y + height, x : x + width]
                out += np.tensordot(weight[:, :, y, x], moved, axes=1)
        return out


def _halved(planes: Planes) -> Planes:
    channels, height, width = planes.shape
    squares = planes.reshape(channels, height // 2, 2, width // 2, 2)
    largest: Planes = squares.max(axis=(2, 4))
    return largest


def _twice(planes: Planes) -> Planes:
    return planes.repeat(2, axis=1).repeat(2, axis=2)


def vessels(network: Network, photograph: Image.Image, mask: Image.Image | None) -> Image.Image:
    """White where there is a vessel. The photograph is prepared as it was for training."""
    colours = photograph.convert("RGB")
    if mask is None:
        field = np.asarray(colours)[..., 0] > 30
    else:
        field = np.asarray(mask.convert("L")) > 127
    green = colours.getchannel("G")
    around = green.filter(ImageFilter.GaussianBlur(12))
    difference = np.asarray(green, np.float32) - np.asarray(around, np.float32)
    plane = np.where(field, difference / difference[field].std(), 0).astype(np.float32)
    height, width = plane.shape
    padded = np.pad(plane, ((0, -height % 4), (0, -width % 4)))
    found = network.log_odds(padded[None])[:height, :width] > 0
    return Image.fromarray((found & field).astype(np.uint8) * 255)


def main() -> None:
    """Write a picture of the vessels for each photograph."""
    parser = argparse.ArgumentParser(description="Find vessels with somebody's network.")
    for name in ("model", "images", "vessels"):
        parser.add_argument(f"--{name}", type=Path, required=True, metavar="FOLDER")
    asked = parser.parse_args()
    network = Network(asked.model / MODEL)
    masks = {one.name.partition("_")[0]: one for one in (asked.images / "mask").glob("[!.]*")}
    asked.vessels.mkdir(parents=True, exist_ok=True)
    files = sorted((asked.images / "images").glob("[!.]*"))
    for file in files:
        number = file.name.partition("_")[0]
        with Image.open(file) as photograph:
            mask = Image.open(masks[number]) if number in masks else None
            vessels(network, photograph, mask).save(asked.vessels / f"{number}_vessels.png")
    print(f"{len(files)} photographs")


if __name__ == "__main__":
    main()
