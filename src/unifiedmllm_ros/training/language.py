"""Train the language model to read regions: names, relations, counts, boxes.

The region encoder stays as it is. Besides the next token there is one more lesson: at each
coordinate a middle layer must point at the region whose box is being written. The pointer is
dropped after training; with it the read-out is learnt in a fraction of the steps.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from unifiedmllm_ros.model.modeling import NUMBERS, UnifiedMLLMForConditionalGeneration
from unifiedmllm_ros.model.regions import Regions
from unifiedmllm_ros.training.answers import IGNORED, Batch
from unifiedmllm_ros.training.region_head import schedule


@dataclass(frozen=True)
class LanguageRecipe:
    """One run. `softness` is the standard deviation, in coordinates, of the soft targets."""

    steps: int = 5000
    batch: int = 4
    questions: int = 18
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 200
    softness: float = 0.004
    pointer_weight: float = 0.5
    seed: int = 0
    save_every: int = 500


class Pointer(nn.Module):
    """Scores of the regions as the one that a hidden state speaks of."""

    def __init__(self, hidden_size: int, size: int = 64) -> None:
        super().__init__()
        self.query = nn.Linear(hidden_size, size)
        self.key = nn.Linear(hidden_size, size)

    def forward(self, states: Tensor, regions: Tensor) -> Tensor:
        """states (M, D), regions (M, K, D) -> logits (M, K)."""
        return (self.query(states).unsqueeze(1) * self.key(regions)).sum(-1) / 8.0


def pointer_targets(boxes: Tensor, regions: Tensor) -> Tensor:
    """For boxes (M, 4) the index of the best of regions (M, K, 4); IGNORED below IoU 0.4."""
    low = torch.maximum(regions[..., :2], boxes[:, None, :2])
    high = torch.minimum(regions[..., 2:], boxes[:, None, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    areas = (regions[..., 2:] - regions[..., :2]).clamp(min=0).prod(-1)
    whole = areas + (boxes[:, 2:] - boxes[:, :2]).prod(-1, keepdim=True) - shared
    best, index = (shared / whole.clamp(min=1e-9)).max(-1)
    return torch.where(best > 0.4, index, IGNORED)


def token_loss(logits: Tensor, labels: Tensor, first_number: int, softness: float) -> Tensor:
    """Cross entropy; a number's target is spread over the numbers around it."""
    number = (labels >= first_number) & (labels < first_number + NUMBERS)
    plain = functional.cross_entropy(logits, labels, reduction='none')
    chosen = logits[number]
    if not len(chosen):
        return plain.mean()
    value = (labels[number] - first_number).float().unsqueeze(1)
    grid = torch.arange(NUMBERS, dtype=torch.float32)
    target = torch.softmax(-0.5 * ((grid - value) / (1000 * softness)) ** 2, dim=1)
    numbers = chosen[:, first_number : first_number + NUMBERS]
    soft = chosen.logsumexp(-1) - (target * numbers).sum(-1)
    # The entropy of the target itself is no error.
    soft = soft + (target * target.clamp(min=1e-12).log()).sum(-1)
    return (plain[~number].sum() + soft.sum()) / len(labels)


def losses(
    model: UnifiedMLLMForConditionalGeneration,
    pointer: Pointer,
    batch: Batch,
    regions: Regions,
    recipe: LanguageRecipe,
) -> dict[str, Tensor]:
    """Token and pointer losses of a batch."""
    first = model.config.first_number_id
    with torch.autocast('cpu', torch.bfloat16):
        features = model.image_tower.project(regions, model.word_embeddings())
        output = model.language_model.model(
            inputs_embeds=model.embed(batch.ids, features),
            attention_mask=batch.mask,
            position_ids=batch.positions,
            output_hidden_states=True,
            use_cache=False,
        )
        states = output.last_hidden_state.flatten(0, 1)
        labels = batch.labels.flatten()
        taught = labels != IGNORED
        logits = model.language_model.lm_head(states[taught])
        middle = output.hidden_states[len(output.hidden_states) // 2]
        points = _point(pointer, middle, batch, regions)
    wanted = pointer_targets(batch.boxes, _rows(regions.boxes, batch))
    return {
        'token': token_loss(logits.float(), labels[taught], first, recipe.softness),
        'pointer': functional.cross_entropy(points.float(), wanted, ignore_index=IGNORED),
        'pointer_right': (points.argmax(-1) == wanted)[wanted != IGNORED].float().mean(),
    }


def _rows(regions: Tensor, batch: Batch) -> Tensor:
    return regions[torch.div(batch.box_rows, batch.ids.shape[1], rounding_mode='floor')]


def _point(pointer: Pointer, middle: Tensor, batch: Batch, regions: Regions) -> Tensor:
    count = regions.score.shape[1]
    # The prefix is <bos> and then the regions.
    slots = middle[:, 1 : 1 + count]
    return pointer(middle.flatten(0, 1)[batch.box_rows], _rows(slots, batch))


NextBatch = Callable[[int, np.random.Generator], tuple[Batch, Regions]]


def train_language(
    model: UnifiedMLLMForConditionalGeneration,
    pointer: Pointer,
    next_batch: NextBatch,
    recipe: LanguageRecipe,
    folder: Path,
    name: str,
) -> None:
    """Train the language model and the projector; checkpoints and a log go to `folder`."""
    rng = np.random.default_rng(recipe.seed)
    parameters = [
        *model.language_model.parameters(),
        *model.image_tower.projector.parameters(),
        *pointer.parameters(),
    ]
    decayed = [p for p in parameters if p.ndim > 1]
    plain = [p for p in parameters if p.ndim <= 1]
    groups = [
        {'params': decayed, 'weight_decay': recipe.weight_decay},
        {'params': plain, 'weight_decay': 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, recipe.learning_rate, (0.9, 0.98))
    model.train()
    started, recent = time.monotonic(), []
    for step in range(recipe.steps):
        batch, regions = next_batch(recipe.batch, rng)
        for group in optimizer.param_groups:
            group['lr'] = recipe.learning_rate * schedule(step, recipe.steps, recipe.warmup)
        parts = losses(model, pointer, batch, regions, recipe)
        loss = parts['token'] + recipe.pointer_weight * parts['pointer']
        if not torch.isfinite(loss):
            torch.save({'batch': batch, 'regions': regions}, folder / f'{name}-nan-batch.pt')
            raise FloatingPointError(f'loss is {float(loss.detach())} at step {step}; batch saved')
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        recent.append({key: float(value.detach()) for key, value in parts.items()})
        if (step + 1) % 50 == 0:
            means = {key: float(np.nanmean([r[key] for r in recent])) for key in parts}
            line = {'step': step + 1, 'seconds': round(time.monotonic() - started, 1), **means}
            print(json.dumps(line), flush=True)
            with (folder / f'{name}.jsonl').open('a') as file:
                file.write(json.dumps(line) + '\n')
            recent = []
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            torch.save(
                {'model': model.state_dict(), 'pointer': pointer.state_dict(), 'step': step + 1},
                folder / f'{name}.pt',
            )
