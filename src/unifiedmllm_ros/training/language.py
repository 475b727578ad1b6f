"""Train the language model to read regions: names, relations, counts, boxes.

The region encoder stays as it is. Besides the next token there are two lessons about where to
look, given to a few attention heads themselves, because a small model finds that out last:

- `match`: in the second layer, a word that names things looks at the regions it names;
- `refer`: in the last but one, whoever names a thing or writes its box looks at its region.

Attention supervision of this kind: Mi et al., 2016; Liu et al., 2017 (captioning).
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
    look_weight: float = 0.3
    seed: int = 0
    save_every: int = 500


@dataclass(frozen=True)
class Heads:
    """Attention heads that are told where to look: the first `count` of a layer."""

    layer: int
    count: int


MATCH = Heads(1, 2)
REFER = Heads(-2, 2)


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


def region_attention(
    decoder: nn.Module, states: Tensor, positions: Tensor, heads: Heads, regions: int
) -> Tensor:
    """Attention logits of some heads over the regions: (B, T, count, K).

    decoder: a Llama-like stack; states: (B, T, D), what the layer gets. The prefix is <bos> and
    then the regions.
    """
    layer = decoder.layers[heads.layer]
    attention, normed = layer.self_attn, layer.input_layernorm(states)
    shape = (*states.shape[:2], -1, attention.head_dim)
    queries = attention.q_proj(normed).view(shape)[:, :, : heads.count]
    keys = attention.k_proj(normed[:, 1 : 1 + regions]).view(
        states.shape[0], regions, -1, attention.head_dim
    )[:, :, : heads.count]
    cos, sin = decoder.rotary_emb(states, positions)
    queries = rotate(queries, cos, sin)
    keys = rotate(keys, cos[:, 1 : 1 + regions], sin[:, 1 : 1 + regions])
    return torch.einsum('bthd,bkhd->bthk', queries, keys) * attention.scaling


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al., 2021) of x (B, T, H, d)."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos.unsqueeze(2) + turned * sin.unsqueeze(2)


def attention_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of (M, heads, K) attention logits with a distribution (M, K)."""
    return -(target.unsqueeze(1) * logits.float().log_softmax(-1)).sum(-1).mean()


def matching_regions(ids: Tensor, word_ids: Tensor, regions: Regions) -> tuple[Tensor, Tensor]:
    """Which tokens name regions, and which: rows (M,) of the flattened ids, targets (M, K)."""
    known = word_ids >= 0
    words, tokens = torch.nonzero(known, as_tuple=True)[0], word_ids[known]
    table = torch.full((int(max(ids.max(), tokens.max())) + 1,), -1, dtype=torch.long)
    table[tokens] = words
    word = table[ids.flatten()]
    rows = torch.nonzero(word >= 0).flatten()
    scene = torch.div(rows, ids.shape[1], rounding_mode='floor')
    said = regions.words[scene, :, word[rows]] * regions.score[scene]
    strong = said > 0.2
    kept = strong.any(-1)
    target = (said * strong)[kept]
    return rows[kept], target / target.sum(-1, keepdim=True)


def losses(
    model: UnifiedMLLMForConditionalGeneration,
    batch: Batch,
    regions: Regions,
    recipe: LanguageRecipe,
) -> dict[str, Tensor]:
    """Token, match and refer losses of a batch, and how often `refer` looks right."""
    decoder, count = model.language_model.model, regions.score.shape[1]
    with torch.autocast('cpu', torch.bfloat16):
        features = model.image_tower.project(regions, model.word_embeddings())
        output = decoder(
            inputs_embeds=model.embed(batch.ids, features),
            attention_mask=batch.mask,
            position_ids=batch.positions,
            output_hidden_states=True,
            use_cache=False,
        )
        labels = batch.labels.flatten()
        taught = labels != IGNORED
        logits = model.language_model.lm_head(output.last_hidden_state.flatten(0, 1)[taught])

        def looks(heads: Heads, rows: Tensor) -> Tensor:
            states = output.hidden_states[range(len(decoder.layers))[heads.layer]]
            found = region_attention(decoder, states, batch.positions, heads, count)
            return found.flatten(0, 1)[rows]

        rows, named = matching_regions(batch.ids, model.word_ids, regions)
        match = attention_loss(looks(MATCH, rows), named)
        wanted = pointer_targets(batch.boxes, _rows(regions.boxes, batch))
        known = wanted != IGNORED
        refers = looks(REFER, batch.box_rows[known])
        target = functional.one_hot(wanted[known], count).float()
    starts = batch.labels.flatten()[batch.box_rows[known]] == batch.opening
    return {
        'token': token_loss(
            logits.float(), labels[taught], model.config.first_number_id, recipe.softness
        ),
        'match': match,
        'refer': attention_loss(refers, target),
        'refer_right': _right(refers[starts], wanted[known][starts]),
    }


def _right(logits: Tensor, wanted: Tensor) -> Tensor:
    return (logits.float().mean(1).argmax(-1) == wanted).float().mean()


def _rows(regions: Tensor, batch: Batch) -> Tensor:
    return regions[torch.div(batch.box_rows, batch.ids.shape[1], rounding_mode='floor')]


NextBatch = Callable[[int, np.random.Generator], tuple[Batch, Regions]]


def train_language(
    model: UnifiedMLLMForConditionalGeneration,
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
        parts = losses(model, batch, regions, recipe)
        loss = parts['token'] + recipe.look_weight * (parts['match'] + parts['refer'])
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
                {'model': model.state_dict(), 'step': step + 1},
                folder / f'{name}.pt',
            )
