"""The example of the gradient-inversion attack: its parts work; the attack itself, in small."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from examples.gradient_inversion.figure import Cell, Panel, draw
from examples.gradient_inversion.masking import BOUND, secure_sum
from examples.gradient_inversion.pictures import load, made_up_eyes, pair_up, psnr_db
from PIL import Image
from tests.support.source import ROOT

PICTURE = ROOT / "docs" / "images" / "gradient-inversion.png"


def test_what_the_hub_sees_of_an_update_has_nothing_of_it_but_the_sum_has_all() -> None:
    updates = [np.random.default_rng(site).normal(size=4000) for site in range(3)]
    seen = secure_sum(updates)
    np.testing.assert_allclose(seen.total, np.sum(updates, axis=0), atol=1e-5)
    for update, plain, masked in zip(updates, seen.plain, seen.masked, strict=True):
        np.testing.assert_allclose(plain, update, atol=1e-5)
        assert abs(np.corrcoef(update, masked)[0, 1]) < 0.1
        # Uniform over a ring that reaches at least 3 * BOUND to either side.
        assert np.std(masked) > 3 * BOUND / np.sqrt(3) * 0.9


def test_noise_hides_the_sum() -> None:
    pytest.importorskip("dp_accounting", reason="needs the extra dp")
    pytest.importorskip("opendp", reason="needs the extra dp")
    updates = [np.random.default_rng(site).normal(size=1000) for site in range(3)]
    seen = secure_sum(updates, epsilon=8.0)
    assert np.std(seen.total - np.sum(updates, axis=0)) > 10 * np.std(updates)


def test_made_up_eyes_are_images_and_each_is_another() -> None:
    eyes = made_up_eyes(4, 32)
    assert eyes.shape == (4, 32, 32)
    assert eyes.min() >= 0
    assert eyes.max() <= 1
    assert np.array_equal(eyes, made_up_eyes(4, 32))
    assert max(psnr_db(eyes[a], eyes[b]) for a in range(4) for b in range(a)) < 25


def test_recovered_images_are_shown_beside_the_originals_they_resemble() -> None:
    eyes = made_up_eyes(3, 32)
    assert pair_up(eyes[[2, 0, 1]], eyes) == [1, 2, 0]


def test_own_images_are_read_from_a_folder(tmp_path: Path) -> None:
    ramp = Image.linear_gradient("L").convert("RGB")
    for name in ("a.png", "b.tif", "c.png"):
        ramp.save(tmp_path / name)
    (tmp_path / "notes.txt").touch()
    loaded = load(tmp_path, 32, at_most=2)
    assert loaded.shape == (2, 32, 32)
    assert loaded.min() == 0
    assert loaded.max() > 0.99


def test_the_picture_is_drawn_and_the_committed_one_is_small(tmp_path: Path) -> None:
    eyes = made_up_eyes(2, 32)
    panel = Panel("Two", ["left", "right"], [[Cell(eyes[0], "9 dB"), Cell(eyes[1])]], ["row"])
    draw([[panel], [panel]], tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as drawn:
        assert drawn.size[0] > 2 * 32 * 3
    assert PICTURE.stat().st_size < 300_000


def test_the_attack_recovers_a_small_image_from_its_update() -> None:
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'cohortium[torch]'")
    attack = import_module("examples.gradient_inversion.attack")
    original = made_up_eyes(1, 8)
    found = attack.update(attack.network(8), original, [2])
    recovered = attack.invert(found, n_images=1, side=8, iterations=40, keep=(1,))
    assert psnr_db(recovered.images[0], original[0]) > 30
    assert psnr_db(recovered.after[1][0], original[0]) < 20
    assert recovered.labels == [2]
