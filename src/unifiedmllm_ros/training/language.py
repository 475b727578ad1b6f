"""Train the language model to read regions: names, relations, counts, boxes.

The region encoder stays as it is. What is learnt from a batch is in `lessons`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from unifiedmllm_ros.model.modeling import NUMBERS, UnifiedMLLMForConditionalGeneration
from unifiedmllm_ros.model.projectors import (
    COORDINATE_FEATURES,
    coordinate_features,
    places_beside,
)
from unifiedmllm_ros.model.regions import Regions
from unifiedmllm_ros.training.answers import Batch
from unifiedmllm_ros.training.lessons import (
    EDGE_HEADS,
    LOOKS,
    PLACE_HEADS,
    PLACE_LAYER,
    REFER_LAYER,
    losses,
)

COPY_GAIN = 4.0  # of a copied coordinate over what the layer gets; numbers then win at once
WORTH_COMPILING = 500  # steps; compiling takes half a minute and makes a step a third shorter


@dataclass(frozen=True)
class LanguageRecipe:
    """One run.

    batch, questions, length: scenes of a step, questions of a scene, and tokens of its sequence,
    which bound them; attention costs the square of the length, so that many scenes with few
    questions are cheaper than few with many.
    decay: share of the steps, at the end, in which the learning rate falls to zero; before that
    it is constant after the warm-up, so that a run can be stopped anywhere and gone on from.
    softness: standard deviation, in coordinates, of the soft targets.
    """

    steps: int = 6000
    batch: int = 20
    questions: int = 4
    length: int = 192
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: int = 200
    decay: float = 0.4
    softness: float = 0.004
    look_weight: float = 0.3
    target_weight: float = 2.0
    seed: int = 0
    save_every: int = 500


def plateau(step: int, recipe: LanguageRecipe) -> float:
    """Share of the learning rate: a warm-up, a plateau, and a linear fall to zero."""
    left = (recipe.steps - step) / max(1.0, recipe.decay * recipe.steps)
    return min(1.0, (step + 1) / max(1, recipe.warmup), left)


@torch.no_grad()
def prepare_copying(model: UnifiedMLLMForConditionalGeneration, regions: Regions) -> None:
    """Set the values and outputs of edge and place heads so that they copy from the start.

    Raises: ValueError: the heads are not as wide as the features.
    """
    beside = model.config.vision_config.places
    _prepare(model, regions, REFER_LAYER, EDGE_HEADS, regions.boxes)
    if beside:
        _prepare(model, regions, PLACE_LAYER, PLACE_HEADS, places_beside(regions, *beside).far)


def _prepare(
    model: UnifiedMLLMForConditionalGeneration,
    regions: Regions,
    layer: int,
    heads: Sequence[int],
    coordinates: Tensor,
) -> None:
    """Set heads of a layer to copy the coordinates (B, K, heads) of the regions they look at.

    Values: the least-squares map from what the layer gets at the regions to the Fourier features
    of the coordinate. Outputs: from those features to the embeddings of the numbers, which were
    initialised from the same features.
    """
    decoder = model.language_model.model
    index = range(len(decoder.layers))[layer]
    block = decoder.layers[index]
    size = block.self_attn.head_dim
    if size != COORDINATE_FEATURES:
        raise ValueError(f'such heads copy {COORDINATE_FEATURES} features, heads have {size}')
    features = model.image_tower.project(regions, model.word_embeddings())
    start = torch.full((len(features), 1), model.config.text_config.bos_token_id)
    inputs = torch.cat((model.embed(start), features), dim=1)
    output = decoder(inputs_embeds=inputs, output_hidden_states=True, use_cache=False)
    states = output.hidden_states[index]
    normed = block.input_layernorm(states)
    count = regions.score.shape[1]
    strong = regions.score.flatten() > 0.2
    slots = normed[:, 1 : 1 + count].flatten(0, 1)[strong]
    rest = normed[:1, 0]
    # In double precision: <bos> weighs as much as all regions, the smallest directions very little.
    given = torch.cat((slots, len(slots) ** 0.5 * rest)).double()
    ridge = 1e-4 * len(given) * torch.eye(given.shape[1], dtype=torch.float64)
    inverse = torch.linalg.solve(given.T @ given + ridge, given.T).float()
    wanted = coordinate_features(coordinates).flatten(0, 1)[strong]
    basis = _number_basis(model)
    share = getattr(model.config.text_config, 'residual_multiplier', 1.0)
    gain = COPY_GAIN * float(states.pow(2).mean().sqrt()) / share
    for place, head in enumerate(heads):
        target = torch.cat((wanted[:, place], torch.zeros(len(rest), wanted.shape[-1])))
        own = slice(head * size, head * size + size)
        block.self_attn.v_proj.weight[own] = (inverse @ target).T
        block.self_attn.o_proj.weight[:, own] = gain * basis.T


def _number_basis(model: UnifiedMLLMForConditionalGeneration) -> Tensor:
    """(features, D): the directions of the numbers' embeddings along each Fourier feature."""
    numbers = coordinate_features(torch.linspace(0, 1, NUMBERS))
    first = model.config.first_number_id
    rows = model.get_input_embeddings().weight[first : first + NUMBERS]
    basis = torch.linalg.lstsq(numbers, rows - rows.mean(0)).solution
    return basis / basis.norm(dim=1, keepdim=True)


def make_optimizers(
    modules: Sequence[nn.Module], recipe: LanguageRecipe
) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al., 2024) for matrices inside the network, AdamW for all else.

    Muon's steps are scaled to those of AdamW (Liu et al., 2025), so one learning rate serves both.
    """
    matrices: list[nn.Parameter] = []
    tables: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for module in modules:
        embeddings = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
        for parameter in module.parameters():
            if parameter.ndim != 2 or min(parameter.shape) == 1:
                plain.append(parameter)
            else:
                (tables if id(parameter) in embeddings else matrices).append(parameter)
    muon = torch.optim.Muon(
        matrices,
        lr=recipe.learning_rate,
        weight_decay=recipe.weight_decay,
        adjust_lr_fn='match_rms_adamw',
    )
    groups = [
        {'params': tables, 'weight_decay': recipe.weight_decay},
        {'params': plain, 'weight_decay': 0.0},
    ]
    return [muon, torch.optim.AdamW(groups, recipe.learning_rate, (0.9, 0.98))]


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
    probe = nn.Linear(model.config.text_config.hidden_size, 1)
    projector = model.image_tower.projector
    optimizers = make_optimizers((model.language_model, projector, probe), recipe)
    parameters = [p for o in optimizers for group in o.param_groups for p in group['params']]
    # On a CPU the backward pass of fused attention takes longer than all of plain attention.
    model.language_model.set_attn_implementation('eager')
    if recipe.steps >= WORTH_COMPILING:
        for layer in model.language_model.model.layers:
            layer.compile(dynamic=True)
    model.train()
    started, recent = time.monotonic(), []
    for step in range(recipe.steps):
        batch, regions = next_batch(recipe.batch, rng)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group['lr'] = recipe.learning_rate * plateau(step, recipe)
        parts = losses(model, probe, batch, regions, recipe.softness)
        looks = torch.stack([parts[name] for name in LOOKS]).sum()
        loss = parts['token'] + recipe.look_weight * looks
        if 'target' in parts:
            loss = loss + recipe.target_weight * parts['target']
        if not torch.isfinite(loss):
            torch.save({'batch': batch, 'regions': regions}, folder / f'{name}-nan-batch.pt')
            raise FloatingPointError(f'loss is {float(loss.detach())} at step {step}; batch saved')
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        recent.append({key: float(value.detach()) for key, value in parts.items()})
        if (step + 1) % 50 == 0:
            means = {key: float(np.nanmean([r[key] for r in recent])) for key in parts}
            line = {'step': step + 1, 'seconds': round(time.monotonic() - started, 1), **means}
            print(json.dumps(line), flush=True)
            with (folder / f'{name}.jsonl').open('a') as file:
                file.write(json.dumps(line) + '\n')
            recent = []
        if (step + 1) % recipe.save_every == 0 or step + 1 == recipe.steps:
            # Written beside and renamed, so that there is always a whole checkpoint.
            beside = folder / f'{name}.pt.part'
            torch.save({'model': model.state_dict(), 'step': step + 1}, beside)
            beside.replace(folder / f'{name}.pt')
