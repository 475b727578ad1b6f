"""What the language model learns from a batch: the next token, where to look, what is meant.

Besides the next token there are lessons about where to look,
given to a few attention heads themselves, because a small model finds that out last (attention
supervision: Mi et al., 2016; Liu et al., 2017):

- in the second layer, a word that names things looks at the regions it names, in the third at
  those that it names together with the words before it, and at <bos> where there are none;
- in the last but one, whoever writes a box's x1, y1, x2 or y2 looks at its region with a head of
  its own for each, which otherwise rests on <bos>; whoever names a thing looks at its region too,
  and whoever repeats the user's words in an argument looks at them in the question;
- in the last, whoever writes the far edge of what is put beside a thing looks at the thing, with a
  head for each side;
- where the visual tokens stand again behind a question, a linear probe must tell from each one's
  state whether its region is among those that the answer points at (the probe is thrown away).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional

from unifiedmllm_ros.model.configuration import UnifiedMLLMConfig
from unifiedmllm_ros.model.modeling import NUMBERS, UnifiedMLLMForConditionalGeneration
from unifiedmllm_ros.model.regions import Regions
from unifiedmllm_ros.tabletop.changing import GAP, LARGEST
from unifiedmllm_ros.training.answers import IGNORED, Batch

MATCH_LAYER, MATCH_HEADS = 1, (0, 1)
PHRASE_LAYER, PHRASE_HEADS = 2, (0, 1)
FILLERS = frozenset({'a', 'and', 'with'})
REFER_LAYER = -2
PROSE_WEIGHT = 3.0
EDGE_HEADS = (0, 1, 2, 3)
PLACE_LAYER, PLACE_HEADS = -1, (0, 2)
NAME_HEADS = (4, 5)
COPY_HEADS = (6, 7)
LOOKS = ('match', 'phrase', 'name', 'edge', 'copy')
RESTING_SHARE = 0.25
MASKED = -1e4
FREE = -1


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
    """Cross entropy; a number's target is spread over the numbers around it.

    A word weighs PROSE_WEIGHT times a coordinate or marker: the few words of an answer (yes, how
    many, that there is none) are what it decides.
    """
    number = (labels >= first_number) & (labels < first_number + NUMBERS)
    weight = torch.where(labels < first_number, PROSE_WEIGHT, 1.0)
    chances = logits.log_softmax(-1)
    plain = -chances.gather(-1, labels.unsqueeze(-1)).squeeze(-1) * weight
    total = plain[~number].sum()
    if number.any():
        spread = chances[:, first_number : first_number + NUMBERS][number]
        total = total + _number_loss(spread, labels[number] - first_number, softness)
    return total / weight.sum()


def _number_loss(chances: Tensor, values: Tensor, softness: float) -> Tensor:
    grid = torch.arange(NUMBERS, dtype=torch.float32)
    distance = (grid - values.float().unsqueeze(1)) / (1000 * softness)
    target = torch.softmax(-0.5 * distance**2, dim=1)
    # The entropy of the target itself is no error.
    return (target * (target.clamp(min=1e-12).log() - chances)).sum()


def attention_logits(
    decoder: nn.Module, states: Tensor, positions: Tensor, layer: int, heads: tuple[int, ...]
) -> Tensor:
    """Attention logits of some heads, (B, heads, T, T), nothing masked.

    decoder: a Llama-like stack; states: (B, T, D), what the layer gets.
    """
    block = decoder.layers[layer]
    attention, normed = block.self_attn, block.input_layernorm(states)
    shape, chosen = (*states.shape[:2], -1, attention.head_dim), list(heads)
    cos, sin = decoder.rotary_emb(states, positions)
    queries = rotate(attention.q_proj(normed).view(shape)[:, :, chosen], cos, sin)
    keys = rotate(attention.k_proj(normed).view(shape)[:, :, chosen], cos, sin)
    return torch.einsum('bthd,bshd->bhts', queries, keys) * attention.scaling


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding (Su et al., 2021) of x (B, T, H, d)."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos.unsqueeze(2) + turned * sin.unsqueeze(2)


def look_loss(logits: Tensor, mask: Tensor, rows: Tensor, target: Tensor, at: Tensor) -> Tensor:
    """Cross entropy of attention with where it should go.

    logits (B, heads, T, T), mask (B, 1, T, T), rows (M,) of the flattened (B * T) sequence,
    target (M, 1 + K): shares of <bos>, the first column, and of the K columns from at (M,) on.
    Zero where there is no row.
    """
    if not len(rows):
        return logits.sum() * 0.0
    looking = logits.transpose(1, 2).flatten(0, 1)[rows].float()
    allowed = mask[:, 0].flatten(0, 1)[rows].unsqueeze(1)
    paid = looking.masked_fill(~allowed, float('-inf')).log_softmax(-1)
    places = look_columns(at, target.shape[1] - 1).unsqueeze(1).expand(-1, paid.shape[1], -1)
    # Columns that a row cannot see have no share in any target.
    return -(target.unsqueeze(1) * paid.gather(-1, places).clamp(min=-30.0)).sum(-1).mean()


def look_columns(at: Tensor, count: int) -> Tensor:
    """Columns (M, 1 + count) of <bos> and of the visual tokens that begin at `at` (M,)."""
    return functional.pad(at.unsqueeze(1) + torch.arange(count), (1, 0))


def target_losses(probed: Tensor, batch: Batch, regions: Regions) -> tuple[Tensor, Tensor]:
    """Cross entropy of which regions a turn points at, and the share of turns wholly right.

    probed: (B * T,) logits of the probe at every place of the sequence.
    """
    count = regions.score.shape[1]
    logits = probed[batch.again.unsqueeze(1) + torch.arange(count)]
    scene = torch.div(batch.again, batch.ids.shape[1], rounding_mode='floor')
    owner = batch.box_turn
    wanted = pointer_targets(batch.turn_boxes, regions.boxes[scene[owner]])
    found = wanted != IGNORED
    truth = torch.zeros_like(logits)
    truth[owner[found], wanted[found]] = 1.0
    # A turn with a box that no region is, is no lesson.
    sound = torch.ones(len(logits), dtype=torch.bool)
    sound[owner[~found]] = False
    logits, truth = logits[sound], truth[sound]
    if not len(logits):
        return probed.sum() * 0.0, torch.tensor(float('nan'))
    right = ((logits > 0) == (truth > 0)).all(-1).float().mean()
    return functional.binary_cross_entropy_with_logits(logits, truth), right


def matching_regions(
    ids: Tensor, word_ids: Tensor, regions: Regions, together: bool = False
) -> tuple[Tensor, Tensor]:
    """Where naming words should look: rows (M,) of the flattened ids, shares (M, 1 + K).

    The first column is <bos>, for words that name nothing in the picture; doubtful ones are left
    out. `together`: a word looks at what it and the naming words right before it name together.
    """
    known = word_ids >= 0
    words, tokens = torch.nonzero(known, as_tuple=True)[0], word_ids[known]
    table = torch.full((int(max(ids.max(), tokens.max())) + 1,), -1, dtype=torch.long)
    table[tokens] = words
    word = table[ids.flatten()]
    rows = torch.nonzero(word >= 0).flatten()
    scene = torch.div(rows, ids.shape[1], rounding_mode='floor')
    said = regions.words[scene, :, word[rows]] * regions.score[scene]
    if together:
        before = torch.nonzero(rows[1:] == rows[:-1] + 1).flatten() + 1
        for place in before.tolist():
            said[place] = torch.minimum(said[place], said[place - 1])
    strong, best = said > 0.2, said.max(-1).values
    target = functional.pad(said * strong, (1, 0))
    target[:, 0] = (best < 0.05).to(target.dtype)
    clear = (best > 0.2) | (best < 0.05)
    return rows[clear], (target / target.sum(-1, keepdim=True).clamp(min=1e-6))[clear]


def naming_rows(config: UnifiedMLLMConfig) -> list[int]:
    """Indices of the region encoder's words without those that name nothing by themselves."""
    words = config.vision_config.words
    return [index for index, word in enumerate(words) if word not in FILLERS]


def words_of(regions: Regions, config: UnifiedMLLMConfig) -> Regions:
    """The regions with the naming words alone."""
    return replace(regions, words=regions.words[..., naming_rows(config)])


def beside(boxes: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
    """For boxes (M, 4) the one of regions (M, K, 4) that each stands beside, on the same level and
    as high, or LARGEST, or IGNORED; and whether it stands to the right of it."""
    top = torch.maximum(regions[..., 1], regions[..., 3] - LARGEST[1])
    level = (boxes[:, None, 1] - top).abs() + (boxes[:, None, 3] - regions[..., 3]).abs()
    gaps = torch.stack((boxes[:, None, 0] - regions[..., 2], regions[..., 0] - boxes[:, None, 2]))
    misses, side = (gaps - GAP).abs().min(0)
    best, index = (misses + level).min(-1)
    found = torch.where(best < 4 * GAP, index, IGNORED)
    return found, side.gather(1, index.unsqueeze(1)).squeeze(1) == 0


def edge_targets(batch: Batch, wanted: Tensor, regions: Tensor) -> Tensor:
    """Where each edge head, and then the left and the right place head, should look: (6, B * T),
    column of the region, 0 for <bos>, or FREE.

    wanted: (M,) region of each of the batch's boxes, IGNORED where it has none; regions:
    (M, K, 4). A box beside a region has its height, one of its edges, and the far edge of the
    place there.
    """
    targets = torch.zeros(6, batch.ids.numel(), dtype=torch.long)
    number = batch.edge >= 0
    known, new = number & (wanted != IGNORED), number & (wanted == IGNORED)
    targets[batch.edge[known], batch.box_rows[known]] = wanted[known] + 1
    targets[:, batch.box_rows[new]] = FREE
    near, right = beside(batch.boxes[new], regions[new])
    edge, rows = batch.edge[new], batch.box_rows[new]
    # x1 of what stands to the right is beside the other's x2, and the other way round.
    touching = torch.where(right, edge == 0, edge == 2)
    head = torch.where(touching, 2 - edge, edge)
    found = near != IGNORED
    thing = regions[new].gather(1, near.clamp(min=0)[:, None, None].expand(-1, 1, 4)).squeeze(1)
    level = (edge == 3) | ((edge == 1) & (thing[:, 3] - thing[:, 1] <= LARGEST[1]))
    taught = found & (touching | level)
    targets[head[taught], rows[taught]] = near[taught] + 1
    far = found & ~touching & (edge % 2 == 0)
    targets[:, rows[far]] = 0
    targets[4 + right[far].long(), rows[far]] = near[far] + 1
    return targets


def losses(
    model: UnifiedMLLMForConditionalGeneration,
    probe: nn.Module,
    batch: Batch,
    regions: Regions,
    softness: float,
) -> dict[str, Tensor]:
    """Losses of a batch by lesson; how often names and targets are right; coordinates' error."""
    decoder, count = model.language_model.model, regions.score.shape[1]
    wanted = pointer_targets(batch.boxes, _rows(regions.boxes, batch))
    with torch.autocast('cpu', torch.bfloat16):
        features = model.image_tower.project(regions, model.word_embeddings())
        output = decoder(
            inputs_embeds=model.embed(batch.ids, features),
            attention_mask=torch.zeros(batch.mask.shape).masked_fill(~batch.mask, MASKED),
            position_ids=batch.positions,
            output_hidden_states=True,
            use_cache=False,
        )
        labels = batch.labels.flatten()
        taught = labels != IGNORED
        logits = model.language_model.lm_head(output.last_hidden_state.flatten(0, 1)[taught])

        def looks(layer: int, heads: tuple[int, ...]) -> Tensor:
            states = output.hidden_states[range(len(decoder.layers))[layer]]
            return attention_logits(decoder, states, batch.positions, layer, heads)

        match = looks(MATCH_LAYER, MATCH_HEADS)
        edges = looks(REFER_LAYER, EDGE_HEADS), looks(PLACE_LAYER, PLACE_HEADS)
        phrase = looks(PHRASE_LAYER, PHRASE_HEADS)
        names, copies = looks(REFER_LAYER, NAME_HEADS), looks(REFER_LAYER, COPY_HEADS)
        referring = output.hidden_states[range(len(decoder.layers))[REFER_LAYER]]
        probed = probe(referring).flatten().float()
    naming_words = model.word_ids[naming_rows(model.config)]
    rows, named = matching_regions(batch.ids, naming_words, words_of(regions, model.config))
    ends, together = matching_regions(
        batch.ids, naming_words, words_of(regions, model.config), together=True
    )
    naming = (batch.edge < 0) & (wanted != IGNORED)
    shares = functional.one_hot(wanted[naming] + 1, 1 + count).float()
    name_rows, at = batch.box_rows[naming], batch.regions_at.flatten()
    columns = edge_targets(batch, wanted, _rows(regions.boxes, batch))
    seen = torch.nonzero(batch.mask[:, 0].sum(-1).flatten() > 1).flatten()
    edge_losses = [
        _edge_loss(looking, batch, seen, column, count)
        for looking, column in zip(torch.cat(edges, 1).split(1, dim=1), columns, strict=True)
    ]
    found = names.float().mean(1).flatten(0, 1)[name_rows]
    found = found.gather(-1, look_columns(at[name_rows], count))[:, 1:].argmax(-1)
    first_look = torch.ones_like(at)
    source = torch.tensor([[0.0, 1.0]]).expand(len(batch.copy_rows), -1)
    parts = {
        'token': token_loss(logits.float(), labels[taught], model.config.first_number_id, softness),
        'match': look_loss(match, batch.mask, rows, named, first_look[rows]),
        'phrase': look_loss(phrase, batch.mask, ends, together, first_look[ends]),
        'name': look_loss(names, batch.mask, name_rows, shares, at[name_rows]),
        'edge': torch.stack(edge_losses).mean(),
        'copy': look_loss(copies, batch.mask, batch.copy_rows, source, batch.copy_columns),
        'name_right': (found == wanted[naming]).float().mean(),
        'coordinate_error': _coordinate_error(logits, labels[taught], model.config.first_number_id),
    }
    if len(batch.again):
        parts['target'], parts['target_right'] = target_losses(probed, batch, regions)
    return parts


def _edge_loss(logits: Tensor, batch: Batch, rows: Tensor, column: Tensor, count: int) -> Tensor:
    """Rows at which the head works weigh as much as those at which it rests.

    There are many of the latter and they say the same: a random part is enough.
    """
    column = column[rows]
    works = column > 0
    parts = []
    resting = (column == 0) & (torch.rand(len(rows)) < RESTING_SHARE)
    for chosen in (works, resting):
        shares = functional.one_hot(column[chosen], 1 + count).float()
        if len(shares):
            places = rows[chosen]
            at = batch.regions_at.flatten()[places]
            parts.append(look_loss(logits, batch.mask, places, shares, at))
    return torch.stack(parts).mean()


def _coordinate_error(logits: Tensor, labels: Tensor, first: int) -> Tensor:
    number = (labels >= first) & (labels < first + NUMBERS)
    said = logits[number][:, first : first + NUMBERS].argmax(-1)
    return (said - (labels[number] - first)).abs().float().mean() / 1000


def _rows(regions: Tensor, batch: Batch) -> Tensor:
    return regions[torch.div(batch.box_rows, batch.ids.shape[1], rounding_mode='floor')]
