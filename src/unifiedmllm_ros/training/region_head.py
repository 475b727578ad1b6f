"""Train the dense head of the region encoder, and the backbone's tail, on cached features."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from unifiedmllm_ros.model.efficientnet import EfficientNetLite0
from unifiedmllm_ros.model.regions import DenseMaps, Regions, RegionVisionModel
from unifiedmllm_ros.tabletop.record import SceneRecord
from unifiedmllm_ros.training.front_cache import FrontCache
from unifiedmllm_ros.training.region_targets import DenseTargets, dense_targets


@dataclass(frozen=True)
class RegionHeadRecipe:
    """Steps, batch size and learning rates of one run; the backbone's tail has its own."""

    steps: int = 6000
    batch: int = 16
    learning_rate: float = 1.5e-3
    tail_learning_rate: float = 4e-4
    weight_decay: float = 0.02
    warmup: int = 100
    seed: int = 0
    save_every: int = 500


def focal_loss(logits: Tensor, heat: Tensor, ignore: Tensor) -> Tensor:
    """Penalty-reduced focal loss of CornerNet and CenterNet, per object."""
    p = torch.sigmoid(logits).clamp(1e-5, 1 - 1e-5)
    centre = heat >= 1.0
    positive = -((1 - p) ** 2) * p.log() * centre
    negative = -((1 - heat) ** 4) * p**2 * (1 - p).log() * (~centre & ~ignore)
    return (positive.sum() + negative.sum()) / centre.sum().clamp(min=1)


def generalised_iou(a: Tensor, b: Tensor) -> Tensor:
    """GIoU (Rezatofighi et al., 2019) of boxes (N,4) x1 y1 x2 y2, row by row."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    union = (a[:, 2:] - a[:, :2]).prod(-1) + (b[:, 2:] - b[:, :2]).prod(-1) - intersection
    hull = (torch.maximum(a[:, 2:], b[:, 2:]) - torch.minimum(a[:, :2], b[:, :2])).prod(-1)
    return intersection / union.clamp(min=1e-9) - (hull - union) / hull.clamp(min=1e-9)


def dense_loss(maps: DenseMaps, targets: DenseTargets) -> dict[str, Tensor]:
    """Losses of centre, box, words and geometry."""
    heat = focal_loss(maps.heat[:, 0].float(), targets.heat, targets.ignore)
    image, row, column = torch.nonzero(targets.owner >= 0, as_tuple=True)
    owner = targets.owner[image, row, column]
    weight = targets.heat[image, row, column]
    weight = weight / weight.sum().clamp(min=1e-6)
    rows, columns = targets.heat.shape[1:]
    edges = maps.edges.float()[image, :, row, column]
    x, y = column + 0.5, row + 0.5
    boxes = torch.stack(
        (x - edges[:, 0], y - edges[:, 1], x + edges[:, 2], y + edges[:, 3]), dim=-1
    )
    truth = targets.boxes[owner] * torch.tensor([columns, rows, columns, rows])
    overlap = ((1 - generalised_iou(boxes, truth)) * weight).sum()
    distance = (functional.smooth_l1_loss(boxes, truth, reduction='none').mean(-1) * weight).sum()
    words = functional.binary_cross_entropy_with_logits(
        maps.words.float()[image, :, row, column], targets.words[owner], reduction='none'
    ).sum(-1)
    geometry = functional.smooth_l1_loss(
        maps.geometry.float()[image, :, row, column], targets.geometry[owner], reduction='none'
    ).sum(-1)
    return {
        'heat': heat,
        'overlap': 2 * overlap,
        'distance': 0.5 * distance,
        'words': 0.5 * (words * weight).sum(),
        'geometry': (geometry * weight).sum(),
    }


def augment(features: Tensor, generator: torch.Generator) -> Tensor:
    """Channel dropout and noise on the cached maps; pixels cannot be augmented any more."""
    shape = (features.shape[0], features.shape[1], 1, 1)
    keep = torch.rand(shape, generator=generator) > 0.05
    gain = 1 + 0.1 * torch.randn(shape, generator=generator)
    return features * keep * gain


def tail_parameters(backbone: EfficientNetLite0) -> list[nn.Parameter]:
    """What learns in the backbone: the tail's pointwise weights and normalisation scales.

    Its depthwise filters stay: their gradients alone would take twice the time of all the rest
    on a CPU.
    """
    tail = backbone._blocks[backbone.pyramid[0] + 1 :]
    return [p for name, p in tail.named_parameters() if '_depthwise_conv' not in name]


def batches(
    scenes: int, recipe: RegionHeadRecipe, rng: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Shuffled indices without end; sorted within a batch, which reads the disk in order."""
    while True:
        order = rng.permutation(scenes)
        for start in range(0, scenes - recipe.batch + 1, recipe.batch):
            yield np.sort(order[start : start + recipe.batch])


def train_region_head(
    model: RegionVisionModel,
    cache: FrontCache,
    scenes: list[SceneRecord],
    words: list[NDArray[np.float32]],
    recipe: RegionHeadRecipe,
    log: Path,
    save: Callable[[], None],
) -> None:
    """Train the head and the tail in place.

    Every 50 steps a JSON line of losses goes to `log`; every `save_every` steps, and at the end,
    `save` is called.
    """
    rng = np.random.default_rng(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    head = model.head.train().to(memory_format=torch.channels_last)
    # The tail keeps the statistics of ImageNet; only its scales follow.
    backbone = model.backbone.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    tail = tail_parameters(backbone)
    parameters = [*head.parameters(), *tail]
    for parameter in tail:
        parameter.requires_grad_(True)
    groups = [
        {'params': list(head.parameters()), 'peak': recipe.learning_rate},
        {'params': tail, 'peak': recipe.tail_learning_rate},
    ]
    optimizer = torch.optim.AdamW(
        groups, recipe.learning_rate, (0.9, 0.99), weight_decay=recipe.weight_decay
    )
    shape = cache.maps.shape[2:]
    started, recent = time.monotonic(), []
    indices = batches(len(scenes), recipe, rng)
    for step in tqdm(range(recipe.steps), desc='region head', mininterval=10):
        chosen = next(indices)
        targets = dense_targets([scenes[i] for i in chosen], [words[i] for i in chosen], shape)
        features = augment(cache.batch(chosen), generator)
        features = features.contiguous(memory_format=torch.channels_last)
        for group in optimizer.param_groups:
            group['lr'] = group['peak'] * schedule(step, recipe.steps, recipe.warmup)
        with torch.autocast('cpu', torch.bfloat16):
            maps = head(backbone.tail(features))
        losses = dense_loss(maps, targets)
        loss = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        recent.append({name: float(value.detach()) for name, value in losses.items()})
        if (step + 1) % 50 == 0:
            means = {name: float(np.mean([r[name] for r in recent])) for name in losses}
            line = {'step': step + 1, 'seconds': time.monotonic() - started, **means}
            with log.open('a') as file:
                file.write(json.dumps(line) + '\n')
            recent = []
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            save()


def schedule(step: int, steps: int, warmup: int) -> float:
    """Linear warm-up, then a cosine to zero; in [0, 1]."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


@torch.inference_mode()
def find_regions(model: RegionVisionModel, features: Tensor) -> Regions:
    """Regions of cached features (B, C, h, w), computed in bfloat16, given in float32."""
    model.eval().to(memory_format=torch.channels_last)
    features = features.contiguous(memory_format=torch.channels_last)
    with torch.autocast('cpu', torch.bfloat16):
        maps = model.head(model.backbone.tail(features))
    return model.select(maps.map(Tensor.float))


def recall(regions: Regions, scenes: list[SceneRecord], words: list[NDArray[np.float32]]) -> dict:
    """Share of referable objects that some region covers (IoU > 0.5 and > 0.75), and the share
    of those whose words are all right."""
    found, tight, named, total = 0, 0, 0, 0
    for i, scene in enumerate(scenes):
        boxes = regions.boxes[i]
        strong = regions.score[i] > 0.2
        for thing, row in zip(scene.objects, words[i], strict=True):
            if not scene.referable(thing):
                continue
            total += 1
            overlap = box_iou(boxes, torch.tensor(thing.box, dtype=torch.float32))
            overlap[~strong] = 0
            best = int(overlap.argmax())
            found += bool(overlap[best] > 0.5)
            tight += bool(overlap[best] > 0.75)
            said = regions.words[i, best] > 0.5
            named += bool(overlap[best] > 0.5) and bool((said == torch.tensor(row > 0)).all())
    total = max(total, 1)
    return {'recall50': found / total, 'recall75': tight / total, 'named': named / total}


def box_iou(boxes: Tensor, box: Tensor) -> Tensor:
    """IoU of (N,4) boxes with one box (4,)."""
    low, high = torch.maximum(boxes[:, :2], box[:2]), torch.minimum(boxes[:, 2:], box[2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    areas = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(-1) + (box[2:] - box[:2]).prod(-1)
    return intersection / (areas - intersection).clamp(min=1e-9)
