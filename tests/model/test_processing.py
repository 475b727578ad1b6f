"""Images of any size become planes; dialogues become the prompt layout; files round-trip."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from unifiedmllm_ros.errors import ImageError, ModelFileError
from unifiedmllm_ros.model.processing import ProcessorConfig, UnifiedMLLMProcessor
from unifiedmllm_ros.model.tokenizer import build_tokenizer


@pytest.fixture(scope='module')
def processor() -> UnifiedMLLMProcessor:
    tokenizer = build_tokenizer(['find the red mug', 'the mug is here'], vocab_size=300)
    return UnifiedMLLMProcessor(tokenizer, ProcessorConfig((24, 32), visual_tokens=6))


@pytest.mark.parametrize('size', [(1, 1), (24, 32), (480, 640), (3, 900), (900, 3), (6000, 8000)])
def test_any_size_becomes_unit_planes(
    processor: UnifiedMLLMProcessor, size: tuple[int, int]
) -> None:
    image = np.full((*size, 3), (255, 51, 0), np.uint8)
    pixels = processor.pixels(image)
    assert pixels.shape == (1, 3, 24, 32)
    assert pixels.dtype == np.float32
    assert np.allclose(pixels.mean((0, 2, 3)), [1.0, 0.2, 0.0])


def test_stretching_keeps_relative_places(processor: UnifiedMLLMProcessor) -> None:
    image = np.zeros((480, 480, 3), np.uint8)
    image[240:, :120] = 255
    plane = processor.pixels(image)[0, 0]
    assert plane[12:, :8].min() == 1.0
    assert plane.sum() == 12 * 8


def test_a_strided_view_is_accepted(processor: UnifiedMLLMProcessor) -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    assert np.array_equal(processor.pixels(image[:, ::-1]), processor.pixels(image[:, ::-1].copy()))


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 0, 3), np.uint8),
        'image.png',
    ],
)
def test_other_images_are_refused(processor: UnifiedMLLMProcessor, image: object) -> None:
    with pytest.raises(ImageError, match='expected'):
        processor.pixels(image)  # type: ignore[arg-type]


def test_prompt_layout(processor: UnifiedMLLMProcessor) -> None:
    ids = processor.encode_conversation([('find the mug', 'here'), ('and the bowl', None)])
    assert ids == [
        *(processor.bos_id, *[processor.image_id] * 6),
        *(processor.user_id, *processor.encode_user('find the mug'), processor.assistant_id),
        *(*processor.encode_answer('here'), processor.eos_id),
        *(processor.user_id, *processor.encode_user('and the bowl'), processor.assistant_id),
    ]
    assert processor.decode(processor.encode_answer('here')) == 'here'


def test_an_answer_begins_with_a_space_unless_a_marker_is_first(
    processor: UnifiedMLLMProcessor,
) -> None:
    assert processor.decode_bytes(processor.encode_answer('the mug')) == b' the mug'
    assert processor.encode_answer('<seg>') == [processor.token_id('<seg>')]
    assert processor.decode(processor.encode_answer('<seg>')) == '<seg>'


def test_a_system_text_precedes_the_image(processor: UnifiedMLLMProcessor) -> None:
    ids = processor.encode_prefix(system='be brief')
    assert ids[0] == processor.bos_id
    assert processor.decode_bytes(ids[1:-6]) == b' be brief'
    assert ids[-6:] == [processor.image_id] * 6


def test_call_gives_model_inputs(processor: UnifiedMLLMProcessor) -> None:
    inputs = processor(images=np.zeros((5, 5, 3), np.uint8), conversation=[('hi', None)])
    assert inputs['pixels'].shape == (1, 3, 24, 32)
    assert inputs['input_ids'].tolist() == [processor.encode_conversation([('hi', None)])]


def test_decode_drops_the_end_and_mends_cut_characters(processor: UnifiedMLLMProcessor) -> None:
    ids = processor.encode_answer('café')
    assert processor.batch_decode([[*ids, processor.eos_id, processor.pad_id]]) == ['café']
    assert processor.decode(ids[:-1]).endswith('\ufffd')


@pytest.mark.parametrize('tasks', [None, (), ('seg', 'gen')])
def test_saved_and_loaded_is_the_same(
    processor: UnifiedMLLMProcessor, tmp_path: Path, tasks: tuple[str, ...] | None
) -> None:
    processor = UnifiedMLLMProcessor(processor.tokenizer, replace(processor.config, tasks=tasks))
    processor.save_pretrained(tmp_path)
    loaded = UnifiedMLLMProcessor.from_pretrained(tmp_path)
    assert loaded.config == processor.config
    assert loaded.tokenizer.to_str() == processor.tokenizer.to_str()


@pytest.mark.parametrize('name', ['tokenizer.json', 'processor_config.json'])
@pytest.mark.parametrize('content', [None, '{"version": ', '{}', b'\xff\xfe'])
def test_damaged_files_are_named(
    processor: UnifiedMLLMProcessor, tmp_path: Path, name: str, content: str | bytes | None
) -> None:
    processor.save_pretrained(tmp_path)
    file = tmp_path / name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ModelFileError, match=name):
        UnifiedMLLMProcessor.from_pretrained(tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models

    with pytest.raises(ModelFileError, match='<pad>'):
        UnifiedMLLMProcessor(Tokenizer(models.BPE()))


def test_importing_needs_no_torch() -> None:
    code = (
        'import sys, unifiedmllm_ros.model.processing;'
        'sys.exit(any(name in sys.modules for name in ("torch", "transformers", "rclpy")))'
    )
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_transformers_reads_the_saved_tokenizer(
    processor: UnifiedMLLMProcessor, tmp_path: Path
) -> None:
    transformers = pytest.importorskip('transformers', reason='extra [torch] is not installed')
    processor.save_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    text = ' the mug <seg><p>mug</p><box>[0.100, 0.200, 0.300, 0.400]</box></seg>'
    assert tokenizer(text, add_special_tokens=False)['input_ids'] == processor.encode_answer(
        text[1:]
    )
    assert tokenizer.eos_token_id == processor.eos_id
