"""What the language model learns from a batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('transformers', reason='needs the extra [train]')

from tests.model.twin import twin_model, twin_processor  # noqa: E402
from tests.training.reading_twin import PROCESSOR, fixed_batch  # noqa: E402
from unifiedmllm_ros.training.answers import IGNORED, AnswerCollator, Dialogue  # noqa: E402
from unifiedmllm_ros.training.lessons import (  # noqa: E402
    EDGE_HEADS,
    FREE,
    attention_logits,
    beside,
    edge_targets,
    look_loss,
    matching_regions,
    pointer_targets,
    target_losses,
    token_loss,
)

FIRST = int(PROCESSOR.number_ids[0])


def test_pointer_wants_the_region_under_the_box() -> None:
    regions = torch.tensor([[[0.0, 0.0, 0.2, 0.2], [0.5, 0.5, 0.9, 0.9]]]).repeat(2, 1, 1)
    boxes = torch.tensor([[0.5, 0.5, 0.88, 0.9], [0.3, 0.0, 0.4, 0.1]])
    assert pointer_targets(boxes, regions).tolist() == [1, IGNORED]


def test_taught_heads_are_the_ones_that_attend() -> None:
    model = twin_model(PROCESSOR, 256, 8, 4)
    batch, regions = fixed_batch(2, np.random.default_rng(0))
    model.language_model.set_attn_implementation('eager')
    with torch.no_grad():
        features = model.image_tower.project(regions, model.word_embeddings())
        output = model.language_model.model(
            inputs_embeds=model.embed(batch.ids, features),
            attention_mask=torch.where(batch.mask, 0.0, -1e9),
            position_ids=batch.positions,
            output_hidden_states=True,
            output_attentions=True,
            use_cache=False,
        )
        decoder = model.language_model.model
        states = output.hidden_states[0]
        logits = attention_logits(decoder, states, batch.positions, 0, EDGE_HEADS)
    logits = logits.masked_fill(~batch.mask, -torch.inf)
    torch.testing.assert_close(
        logits.softmax(-1), output.attentions[0][:, list(EDGE_HEADS)], atol=1e-5, rtol=1e-4
    )


def test_looking_right_costs_nothing() -> None:
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril().logical_or(torch.eye(4).bool())
    target = torch.tensor([[0.0, 1.0]])
    row, first = torch.tensor([3]), torch.tensor([1])
    right, wrong = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    right[..., 3, 1] = 40.0
    wrong[..., 3, 0] = 40.0
    assert float(look_loss(right, mask, row, target, first)) < 1e-6
    assert float(look_loss(wrong, mask, row, target, first)) > 20


def test_looking_again_is_right_at_the_later_tokens() -> None:
    mask = torch.ones(1, 1, 6, 6, dtype=torch.bool).tril()
    logits = torch.zeros(1, 1, 6, 6)
    logits[..., 5, 4] = 40.0
    target, row = torch.tensor([[0.0, 0.0, 1.0]]), torch.tensor([5])
    assert float(look_loss(logits, mask, row, target, torch.tensor([3]))) < 1e-6
    assert float(look_loss(logits, mask, row, target, torch.tensor([1]))) > 20


def test_the_probe_is_asked_which_regions_the_answer_means() -> None:
    processor = twin_processor(look_again=True)
    _, regions = fixed_batch(1, np.random.default_rng(0))
    box = [round(float(v), 3) for v in regions.boxes[0, 1]]
    seen = '<p>mug</p><box>[{:.3f}, {:.3f}, {:.3f}, {:.3f}]</box>'.format(*box)
    unseen = '<p>mug</p><box>[0.001, 0.001, 0.003, 0.003]</box>'
    pairs = [Dialogue((('find it', text),)) for text in (seen, 'There is no mug.', unseen)]
    batch = AnswerCollator(processor)([pairs])
    probed = torch.full((batch.ids.numel(),), -9.0)
    nothing, right = target_losses(probed, batch, regions)
    assert float(right) == 0.5  # the third turn is no lesson
    probed[batch.again[0] + 1] = 9.0
    found, right = target_losses(probed, batch, regions)
    assert float(right) == 1.0
    assert float(found) < 0.01 < float(nothing)


def test_each_edge_has_a_head_that_rests_elsewhere() -> None:
    batch, regions = fixed_batch(1, np.random.default_rng(0))
    wanted = pointer_targets(batch.boxes, regions.boxes[:1].expand(len(batch.boxes), -1, -1))
    columns = edge_targets(batch, wanted, regions.boxes[:1].expand(len(batch.boxes), -1, -1))
    working = torch.nonzero(columns)
    assert working[:, 0].tolist() == [0, 1, 2, 3]
    assert columns[columns > 0].tolist() == [1, 1, 1, 1]
    assert sorted(working[:, 1].tolist()) == sorted(batch.box_rows[batch.edge >= 0].tolist())


def test_what_is_put_beside_a_thing_takes_its_height_and_an_edge() -> None:
    thing, other = [0.3, 0.4, 0.4, 0.6], [0.7, 0.1, 0.8, 0.2]
    regions = torch.tensor([[other, thing]])
    right, left, apart = (
        torch.tensor([[x, 0.4, x + 0.1, 0.6]]) + torch.tensor([0.0, high, 0.0, high])
        for x, high in ((0.41, 0.0), (0.19, 0.0), (0.41, 0.3))
    )
    assert [found.item() for found in beside(right, regions)] == [1, True]
    assert [found.item() for found in beside(left, regions)] == [1, False]
    assert beside(apart, regions)[0].item() == IGNORED

    batch, _ = fixed_batch(1, np.random.default_rng(0))
    numbers = int((batch.edge >= 0).sum())
    batch = replace(batch, boxes=right.expand(len(batch.boxes), -1))
    nowhere = torch.full((len(batch.boxes),), IGNORED)
    columns = edge_targets(batch, nowhere, regions.expand(len(batch.boxes), -1, -1))
    rows = batch.box_rows[batch.edge >= 0].tolist()
    assert numbers == 4
    assert columns[:, rows].T.tolist() == [
        [FREE, FREE, 2, FREE, FREE, FREE],  # x1: the other's x2
        [FREE, 2, FREE, FREE, FREE, FREE],
        [0, 0, 0, 0, 0, 2],  # x2: the far edge of the place to the right
        [FREE, FREE, FREE, 2, FREE, FREE],
    ]


def test_what_is_put_beside_a_tall_thing_is_not_as_tall() -> None:
    thing = [0.3, 0.2, 0.4, 0.9]
    box = torch.tensor([[0.19, 0.6, 0.29, 0.9]])
    assert [found.item() for found in beside(box, torch.tensor([[thing]]))] == [0, False]
    batch, _ = fixed_batch(1, np.random.default_rng(0))
    batch = replace(batch, boxes=box.expand(len(batch.boxes), -1))
    nowhere = torch.full((len(batch.boxes),), IGNORED)
    columns = edge_targets(batch, nowhere, torch.tensor([[thing]]).expand(len(batch.boxes), -1, -1))
    assert columns[:, batch.box_rows[batch.edge >= 0]].T.tolist() == [
        [0, 0, 0, 0, 1, 0],  # x1: the far edge of the place to the left
        [FREE, FREE, FREE, FREE, FREE, FREE],
        [1, FREE, FREE, FREE, FREE, FREE],
        [FREE, FREE, FREE, 1, FREE, FREE],
    ]


def test_words_find_the_regions_they_name() -> None:
    model = twin_model(PROCESSOR, 256, 8, 4)
    batch, regions = fixed_batch(1, np.random.default_rng(0))
    rows, target = matching_regions(batch.ids, model.word_ids, regions)
    tokens = batch.ids.flatten()[rows].tolist()
    spelled = set(model.word_ids[2:].flatten().tolist())
    assert tokens
    assert set(tokens) <= spelled
    torch.testing.assert_close(target, torch.eye(6)[1:2].expand(len(tokens), -1))


def test_soft_targets_forgive_neighbours() -> None:
    labels = torch.tensor([FIRST + 500])
    losses = []
    for guess in (500, 503, 560):
        logits = torch.zeros(1, PROCESSOR.vocab_size)
        logits[0, FIRST + guess] = 12.0
        losses.append(float(token_loss(logits, labels, FIRST, 0.004)))
    assert losses[0] < losses[1] < losses[2]
    words = torch.tensor([5])
    plain = torch.zeros(1, PROCESSOR.vocab_size)
    expected = float(np.log(PROCESSOR.vocab_size))
    assert float(token_loss(plain, words, FIRST, 0.004)) == pytest.approx(expected, rel=1e-5)
