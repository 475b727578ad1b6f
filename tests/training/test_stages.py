"""The three stages on twins of every preset: they learn, are saved, reloaded and generate."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('accelerate', reason='needs the extra [train]')

from safetensors import safe_open  # noqa: E402

from tests.training.stage_world import (  # noqa: E402
    losses_in,
    media_of,
    stage,
    write_conversations_of_all_media,
    write_twin,
)
from unifiedmllm_ros.errors import ConfigError, ModelFileError  # noqa: E402
from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration  # noqa: E402
from unifiedmllm_ros.training.parts import ADAPTERS  # noqa: E402
from unifiedmllm_ros.training.results import load_result  # noqa: E402
from unifiedmllm_ros.training.samples import Collator, Samples  # noqa: E402
from unifiedmllm_ros.training.sources import Source  # noqa: E402
from unifiedmllm_ros.training.stages import described, run  # noqa: E402

PRESETS = ('tabletop-nano', 'smol-135m', '7b')


def world(tmp_path: Path, name: str) -> tuple[Path, Path]:
    twin = write_twin(name, tmp_path / 'twin')
    return twin, write_conversations_of_all_media(tmp_path / 'data', 12, media_of(name))


def first_batch(folder: Path, data: Path) -> tuple[Any, dict[str, Any]]:
    begun = load_result(folder)
    source = Source(data.name, data.parent, begun.processor)
    order = [(0, row) for row in range(5)]
    samples = Samples(begun.processor, [source], ['auto'], order, 256)
    batch = Collator(begun.processor)([samples[row] for row in range(5)])
    wanted = ('input_ids', 'attention_mask', 'pixel_values', 'pixel_values_videos', 'audio_values')
    return begun.model.eval(), {name: batch[name] for name in wanted if name in batch}


def weights(model: Any) -> dict[str, Any]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize('name', PRESETS)
def test_three_stages_follow_one_another(name: str, tmp_path: Path) -> None:
    """Mixed media in every batch; each stage begins with what the one before left."""
    twin, data = world(tmp_path, name)
    start = twin
    for number in (1, 2, 3):
        before = weights(load_result(start).model)
        # All conversations in every step, so that losses can be compared.
        batch = {'size': 12, 'per_device': 12, 'length': 256, 'group': False}
        summary = run(stage(number, start, data, tmp_path / f'stage{number}', batch=batch))
        assert summary['last_loss'] < summary['first_loss'], number
        assert json.loads((tmp_path / f'stage{number}' / 'summary.json').read_text()) == summary
        start = tmp_path / f'stage{number}' / 'model'
        model, batch = first_batch(start, data)
        again, _ = first_batch(start, data)
        after = weights(model)
        with torch.no_grad():
            assert torch.equal(model(**batch).logits, again(**batch).logits)
        assert all(torch.equal(after[key], value) for key, value in again.state_dict().items())
        changed = {k for k, v in before.items() if not torch.equal(after_of(after, k), v)}
        assert changed
        if number == 1:
            assert all(key.startswith(ADAPTERS) for key in changed)
        if number == 3:  # the base is frozen, its adapters are the adapter's
            assert all(key.startswith(ADAPTERS) for key in changed)
            assert any('loramoe_router' in key for key in after)
        said = model.generate(**batch, max_new_tokens=3, min_new_tokens=3, do_sample=False)
        assert said.shape[1] == batch['input_ids'].shape[1] + 3
    assert 'stage 3 done: 4 of 4' in described(summary)


def after_of(state: dict[str, Any], key: str) -> Any:
    """A weight by its name without an adapter."""
    if key in state:
        return state[key]
    pattern = f'base_model.model.{key}'
    if pattern in state:
        return state[pattern]
    for part in ADAPTERS:
        if key.startswith(part):
            return state[pattern.replace(part, f'{part}.modules_to_save.default')]
    head, _, last = pattern.rpartition('.')
    return state[f'{head}.base_layer.{last}']


def test_lora_is_merged_before_the_next_stage(tmp_path: Path) -> None:
    twin, data = world(tmp_path, 'smol-135m')
    trainable = {'parts': ['adapters'], 'language_model': 'lora', 'lora': {'r': 4, 'alpha': 8}}
    run(stage(2, twin, data, tmp_path / 'lora', trainable=trainable))
    folder = tmp_path / 'lora' / 'model'
    assert (folder / 'adapter_model.safetensors').is_file()
    assert not (folder / 'model.safetensors').exists()
    merged, batch = first_batch(folder, data)
    assert not hasattr(merged, 'peft_config')
    base, _ = first_batch(twin, data)
    with torch.no_grad():
        assert not torch.allclose(merged(**batch).logits, base(**batch).logits)
    summary = run(stage(3, folder, data, tmp_path / 'moe', steps=1, data_root=data.parent))
    assert summary['steps'] == 1
    # What the adapter belongs to must be there, and be the same.
    (twin / 'model.safetensors').write_bytes(
        (twin / 'model.safetensors').read_bytes()[:-4] + b'abcd'
    )
    with pytest.raises(ModelFileError, match='has changed since training'):
        load_result(folder)


def test_an_adapter_beside_its_base_is_one_model(tmp_path: Path) -> None:
    """As the shipped model lies in its folder: for `transformers`, and for further training."""
    twin, data = world(tmp_path, 'tabletop-nano')
    trainable = {'language_model': 'loramoe'}
    run(stage(3, twin, data, tmp_path / 'moe', trainable=trainable, saving={'half': True}))
    learnt = tmp_path / 'moe' / 'model'
    apart, batch = first_batch(learnt, data)
    # Stage 3 that goes on from an adapter keeps its base.
    run(stage(3, learnt, data, tmp_path / 'further', trainable=trainable, steps=1))
    further = tmp_path / 'further' / 'model'
    assert (further / 'base.json').read_bytes() == (learnt / 'base.json').read_bytes()
    assert load_result(further).adapter
    for file in ('adapter_config.json', 'adapter_model.safetensors', 'base.json'):
        (learnt / file).rename(twin / file)
    with safe_open(twin / 'adapter_model.safetensors', 'pt') as tensors:
        assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {'F16'}  # noqa: SIM118
    native = UnifiedMLLMForConditionalGeneration.from_pretrained(twin, dtype=torch.float32).eval()
    together, _ = first_batch(twin, data)
    alone = load_result(twin, adapter=False).model.eval()
    with torch.no_grad():
        logits = [model(**batch).logits for model in (apart, native, together, alone)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])
    assert not torch.allclose(logits[0], logits[3])
    # Stage 3 may go on from it; stage 2 begins below it, where it is told to.
    run(stage(3, twin, data, tmp_path / 'on', trainable=trainable, steps=1))
    assert load_result(tmp_path / 'on' / 'model').adapter
    for folder in (further, tmp_path / 'on' / 'model'):  # base.json says what the base is
        described = json.loads((folder / 'adapter_config.json').read_text())
        assert described['base_model_name_or_path'] is None
    with pytest.raises(ConfigError, match='which cannot be merged'):
        run(stage(2, twin, data, tmp_path / 'none', steps=1))
    below = stage(2, twin, data, tmp_path / 'below', steps=1)
    start = below.model.model_copy(update={'adapter': False})
    run(below.model_copy(update={'model': start}))
    assert not hasattr(load_result(tmp_path / 'below' / 'model').model, 'peft_config')
    # On other weights the adapter would spoil every answer.
    whole = (twin / 'model.safetensors').read_bytes()
    (twin / 'model.safetensors').write_bytes(whole[:-4] + b'abcd')
    for load in (load_result, UnifiedMLLMForConditionalGeneration.from_pretrained):
        with pytest.raises(ModelFileError, match='changed since training of the adapter'):
            load(twin)
    (twin / 'model.safetensors').write_bytes(whole)
    (twin / 'base.json').unlink()
    with pytest.raises(ModelFileError, match='says not what the adapter belongs to'):
        UnifiedMLLMForConditionalGeneration.from_pretrained(twin)


def test_checkpointing_and_accumulation_change_no_loss(tmp_path: Path) -> None:
    """Stage 3 with its balancing loss: the same losses from step to step, whatever saves memory."""
    twin, data = world(tmp_path, 'smol-135m')
    changes: dict[str, dict[str, Any]] = {
        'plain': {},
        'checkpointed': {'gradient_checkpointing': True},
    }
    losses = {}
    for name, change in changes.items():
        out = tmp_path / name
        trainable = {'language_model': 'loramoe', 'loramoe': {'dropout': 0.0, 'balance_weight': 1}}
        run(stage(3, twin, data, out, trainable=trainable, **change))
        losses[name] = losses_in(out)
    assert losses['plain'] == pytest.approx(losses['checkpointed'], abs=1e-5)

    # Without the balancing loss, which compares the samples of one pass, parts of a batch add up.
    halves = {'size': 4, 'per_device': 2, 'length': 256}
    run(stage(2, twin, data, tmp_path / 'whole'))
    run(stage(2, twin, data, tmp_path / 'halves', batch=halves))
    assert losses_in(tmp_path / 'halves') == pytest.approx(losses_in(tmp_path / 'whole'), abs=1e-5)


def test_evaluation_and_groups_of_learning_rates(tmp_path: Path) -> None:
    twin, data = world(tmp_path, 'smol-135m')
    summary = run(
        stage(
            2,
            twin,
            data,
            tmp_path / 'out',
            evaluation={'path': 'train.jsonl', 'every': 2, 'samples': 5},
            optimiser={'learning_rate': 1e-3, 'rates': {'adapters': 1e-4}, 'weight_decay': 0.01},
            trainable={'parts': ['adapters', 'image_encoder'], 'language_model': 'full'},
        )
    )
    assert 0 < summary['evaluation_loss'] < 10
    assert summary['conversations'] == {'train.jsonl': 12}


def test_a_part_that_is_not_there_is_named(tmp_path: Path) -> None:
    twin, data = world(tmp_path, 'tabletop-nano')
    trainable = {'parts': ['audio_encoder']}
    with pytest.raises(ConfigError, match='audio_encoder'):
        run(stage(1, twin, data, tmp_path / 'out', trainable=trainable))


def test_regions_found_before_are_those_found_in_the_step(tmp_path: Path) -> None:
    twin, data = world(tmp_path, 'tabletop-nano')
    settings = {name: stage(2, twin, data, tmp_path / name) for name in ('pixels', 'cached')}
    run(settings['pixels'])
    run(settings['cached'].model_copy(update={'cache_regions': True}))
    # Found in bfloat16 and kept in float16.
    expected = pytest.approx(losses_in(settings['pixels'].out), abs=0.05)
    assert losses_in(settings['cached'].out) == expected
    (kept,) = tmp_path.glob('regions-*.safetensors')
    stamp = kept.stat().st_mtime_ns
    again = settings['cached'].model_copy(update={'out': tmp_path / 'again', 'cache_regions': True})
    run(again)
    assert kept.stat().st_mtime_ns == stamp
    assert losses_in(again.out) == losses_in(settings['cached'].out)
