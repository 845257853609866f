"""The attacks' results as one picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from examples.gradient_inversion.pictures import Images
from PIL import Image, ImageDraw, ImageFont

ZOOM = 3
GAP = 10
LINE = 20
NAMES = 110
INK = "#1b1f24"
PALE = "#59636e"


@dataclass(frozen=True)
class Cell:
    """An image, and the line beneath it."""

    image: Images
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """A titled table of images.

    Attributes:
        columns: A heading for each.
        names: A name for each row, which may have several lines; none where there is none.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    names: Sequence[str] = ()


def draw(bands: Sequence[Sequence[Panel]], path: Path) -> None:
    """Write the panels, side by side in each band, as a PNG."""
    side = bands[0][0].rows[0][0].image.shape[0] * ZOOM
    widths = [sum(_width(panel, side) for panel in band) for band in bands]
    heights = [max(_height(panel, side) for panel in band) for band in bands]
    canvas = Image.new("RGB", (max(widths) + GAP, sum(heights) + GAP), "white")
    y = GAP
    for band, height in zip(bands, heights, strict=True):
        x = 2 * GAP
        for panel in band:
            _draw_panel(canvas, panel, side, (x, y))
            x += _width(panel, side)
        y += height
    canvas.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def _width(panel: Panel, side: int) -> int:
    return (NAMES if panel.names else 0) + len(panel.columns) * (side + GAP) + 3 * GAP


def _height(panel: Panel, side: int) -> int:
    return 2 * LINE + len(panel.rows) * (side + LINE + GAP // 2) + 2 * GAP


def _draw_panel(canvas: Image.Image, panel: Panel, side: int, corner: tuple[int, int]) -> None:
    pen = ImageDraw.Draw(canvas)
    large, small = ImageFont.load_default(15), ImageFont.load_default(12)
    x, y = corner
    pen.text((x, y), panel.title, fill=INK, font=large)
    y += LINE + GAP // 2
    left = x + (NAMES if panel.names else 0)
    for place, heading in enumerate(panel.columns):
        pen.text((left + place * (side + GAP), y), heading, fill=PALE, font=small)
    y += LINE
    for row, name in zip(panel.rows, panel.names or [""] * len(panel.rows), strict=True):
        pen.text((x, y), name, fill=PALE, font=small)
        for place, cell in enumerate(row):
            at = (left + place * (side + GAP), y)
            canvas.paste(_enlarged(cell.image, side), at)
            pen.text((at[0], y + side + 2), cell.note, fill=INK, font=small)
        y += side + LINE + GAP // 2


def _enlarged(image: Images, side: int) -> Image.Image:
    grey = np.round(np.clip(np.nan_to_num(image, nan=0.5), 0, 1) * 255).astype(np.uint8)
    return Image.fromarray(grey).resize((side, side), Image.Resampling.NEAREST)
