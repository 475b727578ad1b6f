"""The language model's training: schedule, prepared heads, checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('transformers', reason='needs the extra [train]')

from tests.model.twin import twin_model  # noqa: E402
from tests.training.reading_twin import PROCESSOR, fixed_batch  # noqa: E402
from unifiedmllm_ros.model.projectors import places_beside  # noqa: E402
from unifiedmllm_ros.model.regions import Regions  # noqa: E402
from unifiedmllm_ros.tabletop.changing import GAP, LARGEST  # noqa: E402
from unifiedmllm_ros.training.language import (  # noqa: E402
    LanguageRecipe,
    plateau,
    prepare_copying,
    train_language,
)
from unifiedmllm_ros.training.lessons import (  # noqa: E402
    EDGE_HEADS,
    PLACE_HEADS,
    PLACE_LAYER,
    REFER_LAYER,
)


def test_the_learning_rate_stays_before_it_falls() -> None:
    recipe = LanguageRecipe(steps=100, warmup=10, decay=0.5)
    assert plateau(0, recipe) == 0.1
    assert plateau(9, recipe) == plateau(50, recipe) == 1.0
    assert 0.0 < plateau(99, recipe) < 0.03


def test_prepared_heads_read_edges_and_places() -> None:
    model = twin_model(PROCESSOR, 256, 8, places=(GAP, *LARGEST))
    generator = torch.Generator().manual_seed(0)
    low = torch.rand(200, 5, 2, generator=generator) * 0.7
    corners = torch.cat((low, low + 0.05 + 0.2 * torch.rand(200, 5, 2, generator=generator)), -1)
    words = torch.zeros(200, 5, 4)
    regions = Regions(
        torch.full((200, 5), 0.5), corners, words, torch.zeros(200, 5, 3), torch.zeros(200, 5, 16)
    )
    prepare_copying(model, regions)
    far = places_beside(regions, GAP, *LARGEST).far
    assert_reads(model, regions, REFER_LAYER, EDGE_HEADS, corners)
    assert_reads(model, regions, PLACE_LAYER, PLACE_HEADS, far)


def assert_reads(model, regions: Regions, layer: int, heads: tuple[int, ...], wanted) -> None:
    """The first feature of a head's values, a quarter of a wave long, goes with its coordinate."""
    decoder = model.language_model.model
    block = decoder.layers[layer]
    with torch.no_grad():
        features = model.image_tower.project(regions, model.word_embeddings())
        start = torch.full((len(features), 1), model.config.text_config.bos_token_id)
        inputs = torch.cat((model.embed(start), features), dim=1)
        output = decoder(inputs_embeds=inputs, output_hidden_states=True, use_cache=False)
        states = output.hidden_states[range(len(decoder.layers))[layer]][:, 1:]
        values = block.self_attn.v_proj(block.input_layernorm(states)).flatten(0, 1)
    size = block.self_attn.head_dim
    for place, head in enumerate(heads):
        read = values[:, head * size : (head + 1) * size]
        shares = torch.corrcoef(torch.stack((read[:, 0], wanted[..., place].flatten())))
        assert abs(float(shares[0, 1])) > 0.5


def test_a_few_steps_lower_the_loss_and_leave_a_checkpoint(tmp_path: Path) -> None:
    model = twin_model(PROCESSOR, 256, 8, 4)
    recipe = LanguageRecipe(steps=100, batch=2, learning_rate=5e-3, warmup=5, save_every=100)
    train_language(model, fixed_batch, recipe, tmp_path, 'run')
    lines = [json.loads(line) for line in (tmp_path / 'run.jsonl').read_text().splitlines()]
    assert lines[1]['token'] < 0.7 * lines[0]['token']
    state = torch.load(tmp_path / 'run.pt', weights_only=True)
    assert state['step'] == 100


def test_a_loss_that_is_no_number_stops_with_the_batch_saved(tmp_path: Path) -> None:
    model = twin_model(PROCESSOR, 256, 8, 4)

    def broken(size: int, rng: np.random.Generator):
        batch, regions = fixed_batch(size, rng)
        return batch, regions.map(lambda x: x * float('nan'))

    with pytest.raises(FloatingPointError, match='batch saved'):
        train_language(model, broken, LanguageRecipe(steps=2), tmp_path, 'run')
    assert (tmp_path / 'run-nan-batch.pt').exists()
