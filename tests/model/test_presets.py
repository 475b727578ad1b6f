"""Presets: what they resolve to, and their twins through training, saving and generation."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('transformers', reason='needs the extra [train]')

from transformers import CLIPVisionConfig  # noqa: E402

from tests.model.preset_twin import TOKENS, mixed_batch, shrunken_model  # noqa: E402
from tests.model.twin import twin_processor  # noqa: E402
from unifiedmllm_ros.errors import ConfigError  # noqa: E402
from unifiedmllm_ros.model.modeling import (  # noqa: E402
    MEDIA,
    UnifiedMLLMForConditionalGeneration,
)
from unifiedmllm_ros.model.presets import TokenIds, load_preset  # noqa: E402
from unifiedmllm_ros.training.beginning import token_ids  # noqa: E402
from unifiedmllm_ros.training.tabletop_nano import nano_config, spellings  # noqa: E402

PRESETS = ('tabletop-nano', 'smol-135m', '7b')


@pytest.fixture(scope='module', params=PRESETS)
def twin(request: pytest.FixtureRequest) -> UnifiedMLLMForConditionalGeneration:
    return shrunken_model(request.param)


def test_nano_file_says_what_its_training_builds() -> None:
    processor, words = twin_processor(), ('mug', 'red')
    tokens = token_ids(processor)
    said = [spellings(processor, word) for word in words]
    config = load_preset('tabletop-nano').config(tokens, words, said)
    assert config.to_dict() == nano_config(processor, words).to_dict()


def test_7b_is_the_papers_scale() -> None:
    config = load_preset('7b').config(TOKENS)
    vision, text = config.vision_config, config.text_config
    assert isinstance(vision, CLIPVisionConfig)
    assert (vision.image_size // vision.patch_size) ** 2 == config.visual_tokens == 576
    assert config.video_config.tokens == 64
    with torch.device('meta'):
        model = UnifiedMLLMForConditionalGeneration(config)
    billions = sum(p.numel() for p in model.language_model.parameters()) / 1e9
    # 6.74 with the 32,000 tokens of Vicuna, of which the test keeps 1,100.
    assert billions == pytest.approx(6.74 - 2 * (32000 - 1100) * text.hidden_size / 1e9, abs=0.01)
    assert model.image_tower.patches == 576


def test_penultimate_layer_without_class_token() -> None:
    model = shrunken_model('7b')
    tower, pixels = model.image_tower, torch.rand(1, 3, 28, 28)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (tower.mean, tower.std))
    with torch.no_grad():
        states = tower.encoder((pixels - mean) / std, output_hidden_states=True).hidden_states
        expected = tower.projector(states[-2][:, 1:])
        assert torch.equal(model.encode_image(pixels), expected)


def test_training_saving_reloading_generating(twin, tmp_path: Path) -> None:
    batch = mixed_batch(twin)
    optimiser = torch.optim.AdamW(twin.parameters(), lr=3e-3)
    losses = []
    for _ in range(4):
        loss = twin.train()(**batch, labels=batch['input_ids']).loss
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    twin.eval().save_pretrained(tmp_path)
    again = UnifiedMLLMForConditionalGeneration.from_pretrained(tmp_path).eval()
    for (name, tensor), (same, loaded) in zip(
        twin.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert name == same
        assert torch.equal(tensor, loaded), name
    with torch.no_grad():
        assert torch.equal(twin(**batch).logits, again(**batch).logits)
    said = again.generate(**batch, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert said.shape == (len(batch['input_ids']), batch['input_ids'].shape[1] + 3)


def test_every_medium_reaches_its_own_conversation_alone(twin) -> None:
    batch = mixed_batch(twin)
    present = [name for name in MEDIA if name in batch]
    with torch.no_grad():
        before = twin(**batch).logits[:, -1]
        for row, name in enumerate(present):
            changed = {**batch, name: batch[name].flip(-1) * 0.5}
            after = twin(**changed).logits[:, -1]
            moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
            assert moved == [i == row for i in range(len(present))], name


def test_missing_branch_and_missing_placeholder_are_named() -> None:
    nano = shrunken_model('tabletop-nano')
    with pytest.raises(ConfigError, match='video_config'):
        nano.encode_video(torch.rand(1, 2, 3, 64, 96))
    with pytest.raises(ConfigError, match='audio_config'):
        nano.encode_audio(torch.rand(1, 8000))
    silent = TokenIds(1100, 1, 2, 0, 3, 20)
    with pytest.raises(ConfigError, match='video_token_id'):
        load_preset('smol-135m').config(silent)


def test_wrong_preset_files_are_named(tmp_path: Path) -> None:
    file = tmp_path / 'own.yaml'
    file.write_text('vision: {}\ntext: {}\nvisual_tokens: 0\nspeed: 3\n')
    with pytest.raises(ConfigError, match=r'(?s)own\.yaml.*visual_tokens.*speed'):
        load_preset(str(file))
    with pytest.raises(ConfigError, match='9b'):
        load_preset('9b')
