"""The model classes on the tiny twin: shapes, save and reload, generation, number geometry."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('transformers', reason='needs the extra [train]')

from tests.model.twin import IMAGE_SIZE, REGIONS, twin_model, twin_processor  # noqa: E402
from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration  # noqa: E402

PROCESSOR = twin_processor()


@pytest.fixture(scope='module')
def model() -> UnifiedMLLMForConditionalGeneration:
    return twin_model(PROCESSOR)


def prompt() -> torch.Tensor:
    return torch.tensor([PROCESSOR.encode_conversation([('find the red mug', None)])])


def test_image_becomes_the_configured_number_of_tokens(model) -> None:
    features = model.encode_image(torch.rand(2, 3, *IMAGE_SIZE))
    assert features.shape == (2, REGIONS, 32)


def test_reload_is_bit_equal(model, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    assert list(tmp_path.glob('*.safetensors'))
    again = UnifiedMLLMForConditionalGeneration.from_pretrained(tmp_path).eval()
    for (name, tensor), (same, loaded) in zip(
        model.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert name == same
        assert torch.equal(tensor, loaded), name
    pixels = torch.rand(1, 3, *IMAGE_SIZE)
    with torch.no_grad():
        expected = model(input_ids=prompt(), pixel_values=pixels).logits
        assert torch.equal(expected, again(input_ids=prompt(), pixel_values=pixels).logits)


def test_generate_equals_greedy_steps(model) -> None:
    pixels = torch.rand(1, 3, *IMAGE_SIZE)
    made = model.generate(
        input_ids=prompt(),
        pixel_values=pixels,
        max_new_tokens=6,
        min_new_tokens=6,
        do_sample=False,
    )
    ids = prompt()
    with torch.no_grad():
        features = model.encode_image(pixels)
        for _ in range(6):
            logits = model(input_ids=ids, image_features=features).logits[0, -1]
            logits[PROCESSOR.eos_id] = -torch.inf
            ids = torch.cat((ids, logits.argmax().reshape(1, 1)), dim=1)
    assert made.tolist() == ids.tolist()


def test_picture_changes_the_answer(model) -> None:
    with torch.no_grad():
        one, two = (
            model(input_ids=prompt(), pixel_values=torch.rand(1, 3, *IMAGE_SIZE)).logits
            for _ in range(2)
        )
    assert not torch.allclose(one[0, -1], two[0, -1])


def test_wrong_number_of_placeholders_is_named(model) -> None:
    with pytest.raises(ValueError, match='placeholders'):
        model(input_ids=prompt()[:, 2:], pixel_values=torch.rand(1, 3, *IMAGE_SIZE))


def test_near_numbers_have_near_embeddings(model) -> None:
    first = model.config.first_number_id
    rows = model.get_input_embeddings().weight[first : first + 1001]
    near, far = rows[500] @ rows[502], rows[500] @ rows[700]
    assert near > 2 * far
    assert float(rows.std()) == pytest.approx(0.04, rel=0.3)


def test_word_embeddings_are_the_language_models_own(model) -> None:
    ids = PROCESSOR.tokenizer.encode('mug', add_special_tokens=False).ids
    expected = model.get_input_embeddings().weight[ids].mean(0)
    torch.testing.assert_close(model.word_embeddings()[2], expected)
