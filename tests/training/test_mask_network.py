"""The mask network's crops, losses and learning."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')

from unifiedmllm_ros.model.mask_network import CROP, MaskNetwork  # noqa: E402
from unifiedmllm_ros.tabletop.record import ObjectRecord  # noqa: E402
from unifiedmllm_ros.training.mask_network import (  # noqa: E402
    MaskRecipe,
    mask_iou,
    mask_loss,
    one_crop,
    train_mask_network,
)


def disc() -> tuple[np.ndarray, np.ndarray, ObjectRecord]:
    y, x = np.mgrid[:120, :160]
    inside = (x - 80) ** 2 + (y - 60) ** 2 < 20**2
    image = np.where(inside[..., None], (200, 30, 30), (40, 90, 40)).astype(np.uint8)
    box = (60 / 160, 40 / 120, 100 / 160, 80 / 120)
    zero = (0.0, 0.0, 0.0)
    thing = ObjectRecord(0, 'disc', box, int(inside.sum()), 1.0, zero, zero, zero)
    return image, inside.astype(np.uint8), thing


def test_crop_and_mask_show_the_same_thing() -> None:
    image, owners, thing = disc()
    crop, mask = one_crop(image, owners, thing, np.random.default_rng(0), 0.0)
    assert crop.shape == (CROP, CROP, 4)
    red = crop[..., 0] > 120
    assert (red == mask.astype(bool)).mean() > 0.98
    # The disc fills the box, the box two thirds of the crop's side.
    assert mask.mean() == pytest.approx(np.pi / 4 * (2 / 3) ** 2, rel=0.05)


def test_perfect_logits_have_no_loss() -> None:
    truth = torch.zeros(2, 8, 8)
    truth[:, :4] = 1
    logits = (truth - 0.5) * 60
    assert float(mask_loss(logits, truth)) < 0.01
    assert float(mask_iou(logits > 0, truth > 0.5)) == 1.0
    assert float(mask_loss(-logits, truth)) > 1.5


def test_network_learns_the_disc(tmp_path: Path) -> None:
    image, owners, thing = disc()
    rng = np.random.default_rng(0)
    pairs = [one_crop(image, owners, thing, rng, 0.05) for _ in range(8)]
    crops, masks = (np.stack(column) for column in zip(*pairs, strict=True))
    torch.manual_seed(0)
    model = MaskNetwork((8, 12, 16, 16))
    recipe = MaskRecipe(steps=150, batch=4, learning_rate=5e-3)
    train_mask_network(model, crops, masks, recipe, tmp_path / 'log.jsonl')
    inputs = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        said = model.eval()(inputs) > 0
    assert float(mask_iou(said, torch.from_numpy(masks) > 0)) > 0.85
