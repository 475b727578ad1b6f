"""Train the mask network on crops of rendered scenes with exact masks."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from unifiedmllm_ros.experts.crops import crop_box, crop_window
from unifiedmllm_ros.model.mask_network import CROP, MaskNetwork
from unifiedmllm_ros.tabletop.pictures import read_owners, read_picture
from unifiedmllm_ros.tabletop.record import ObjectRecord, SceneRecord
from unifiedmllm_ros.training.region_head import schedule


@dataclass(frozen=True)
class MaskRecipe:
    """One run; `jitter` moves each edge of the box, as a share of its size."""

    steps: int = 1500
    batch: int = 32
    learning_rate: float = 2e-3
    jitter: float = 0.06
    seed: int = 0


def crop_bank(
    folder: Path, scenes: Sequence[SceneRecord], recipe: MaskRecipe
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Crops (N, 96, 96, 4) uint8, the box indicator in the last channel, and masks (N, 96, 96)."""
    rng = np.random.default_rng(recipe.seed)
    crops, masks = [], []
    for scene in scenes:
        image, owners = read_picture(folder, scene), read_owners(folder, scene)
        for thing in scene.objects:
            if scene.referable(thing):
                crop, mask = one_crop(image, owners, thing, rng, recipe.jitter)
                crops.append(crop)
                masks.append(mask)
    return np.stack(crops), np.stack(masks)


def one_crop(
    image: NDArray[np.uint8],
    owners: NDArray[np.uint8],
    thing: ObjectRecord,
    rng: np.random.Generator,
    jitter: float,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A crop around a slightly wrong box, and the object's mask in it (0 or 1)."""
    height, width = owners.shape
    x1, y1, x2, y2 = np.array(thing.box) * (width, height, width, height)
    size = np.array([x2 - x1, y2 - y1, x2 - x1, y2 - y1])
    edges = np.array([x1, y1, x2, y2]) + rng.normal(size=4) * jitter * size
    box = (edges[0], edges[1], max(edges[2], edges[0] + 2), max(edges[3], edges[1] + 2))
    window = crop_window(box)
    crop = crop_box(image, box)
    mask = cv2.warpAffine(
        (owners == thing.index + 1).astype(np.float32),
        window.matrix,
        (CROP, CROP),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    )
    pixels = np.rint(crop * 255).astype(np.uint8).transpose(1, 2, 0)
    return pixels, (mask > 0.5).astype(np.uint8)


def train_mask_network(
    model: MaskNetwork,
    crops: NDArray[np.uint8],
    masks: NDArray[np.uint8],
    recipe: MaskRecipe,
    log: Path,
) -> None:
    """Train in place; one JSON line every 50 steps goes to `log`."""
    rng = np.random.default_rng(recipe.seed)
    model.train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, weight_decay=0.02)
    started, recent = time.monotonic(), []
    for step in range(recipe.steps):
        chosen = np.sort(rng.choice(len(crops), recipe.batch, replace=False))
        inputs, truth = crop_batch(crops[chosen], masks[chosen], rng)
        for group in optimizer.param_groups:
            group['lr'] = recipe.learning_rate * schedule(step, recipe.steps, 100)
        with torch.autocast('cpu', torch.bfloat16):
            logits = model(inputs)
        loss = mask_loss(logits.float(), truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        recent.append((float(loss.detach()), float(mask_iou(logits.detach() > 0, truth > 0.5))))
        if (step + 1) % 50 == 0:
            mean = np.mean(recent, axis=0)
            line = {'step': step + 1, 'loss': mean[0], 'iou': mean[1]}
            with log.open('a') as file:
                file.write(json.dumps({**line, 'seconds': time.monotonic() - started}) + '\n')
            recent = []


def crop_batch(
    crops: NDArray[np.uint8], masks: NDArray[np.uint8], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Inputs (B, 4, 96, 96) and truth (B, 96, 96), mirrored and recoloured at random."""
    inputs = torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
    truth = torch.from_numpy(masks).float()
    flip = torch.from_numpy(rng.random(len(crops)) < 0.5)
    inputs[flip], truth[flip] = inputs[flip].flip(-1), truth[flip].flip(-1)
    gain = torch.from_numpy(rng.uniform(0.7, 1.3, (len(crops), 3, 1, 1)).astype(np.float32))
    inputs[:, :3] = (inputs[:, :3] * gain).clamp(0, 1)
    return inputs.contiguous(memory_format=torch.channels_last), truth


def mask_loss(logits: Tensor, truth: Tensor) -> Tensor:
    """Cross entropy plus Dice, the usual pair for masks."""
    entropy = functional.binary_cross_entropy_with_logits(logits, truth)
    p = torch.sigmoid(logits)
    overlap = (2 * (p * truth).sum((1, 2)) + 1) / (p.sum((1, 2)) + truth.sum((1, 2)) + 1)
    return entropy + (1 - overlap).mean()


def mask_iou(said: Tensor, truth: Tensor) -> Tensor:
    """Mean IoU of boolean masks (B, H, W)."""
    shared = (said & truth).sum((1, 2))
    return (shared / (said | truth).sum((1, 2)).clamp(min=1)).mean()
