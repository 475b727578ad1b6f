"""What is set by examples: ranges of convolutions, and the bits of the decoder's matrices."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unifiedmllm_ros.errors import ConfigError, ImageError
from unifiedmllm_ros.runtime.calibration import QUESTIONS, Example, Exchange, read_examples
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine
from unifiedmllm_ros.runtime.sensitivity import (
    MOST_BITS,
    Drift,
    Probe,
    applied,
    choose,
    shifts,
    upgrades,
)

from .conftest import IMAGE_SIZE, VISUAL_TOKENS, TinyModel

SIZES = {'head': 3000, 'value': 200, 'query': 200, 'down': 600}


def written(folder: Path, pictures: int) -> Path:
    lines = []
    for number in range(pictures):
        name = f'{number}.png'
        image = np.full((48, 64, 3), 40 * number, np.uint8)
        cv2.imwrite(str(folder / name), image)
        turns = [
            {'role': role, 'text': text}
            for _ in range(QUESTIONS + 1)
            for role, text in (('user', 'find the mug'), ('assistant', 'There is no mug.'))
        ]
        for part in ('a', 'b'):  # two conversations about each picture
            identity = f'{number}-{part}'
            lines.append({'id': identity, 'kind': 'test', 'image': name, 'turns': turns})
    text = {'id': 'text', 'kind': 'test', 'turns': turns[:2]}
    (folder / 'conversations.jsonl').write_text('\n'.join(map(json.dumps, [text, *lines])))
    return folder


def test_examples_are_different_pictures_with_a_few_questions(
    tiny: TinyModel, tmp_path: Path
) -> None:
    found = read_examples(written(tmp_path, 4), tiny.processor, 3)
    assert [float(example.pixels.mean()) for example in found] == pytest.approx(
        [0.0, 40 / 255, 80 / 255]
    )
    assert {len(example.exchanges) for example in found} == {QUESTIONS}
    exchange = found[0].exchanges[0]
    assert exchange.question.count(tiny.processor.image_id) == VISUAL_TOKENS
    assert tiny.processor.decode(exchange.answer) == 'There is no mug.'
    assert exchange.answer[-1] == tiny.processor.eos_id


def test_folders_that_cannot_be_calibrated_with_are_named(tiny: TinyModel, tmp_path: Path) -> None:
    (tmp_path / 'conversations.jsonl').write_text('')
    with pytest.raises(ConfigError, match=r'conversations\.jsonl: no conversation about a picture'):
        read_examples(tmp_path, tiny.processor)
    (written(tmp_path, 1) / '0.png').write_bytes(b'no picture')
    with pytest.raises(ImageError, match=r'0\.png'):
        read_examples(tmp_path, tiny.processor)


def costs(**high: float) -> dict:
    return {name: {4: 100 * high[name], 8: high[name]} for name in high}


def test_bits_go_where_they_save_most() -> None:
    found = upgrades(costs(head=1.0, value=5.0, query=0.01, down=1.0), SIZES, all_in(8))
    assert found[:2] == [('value', 16), ('down', 16)]
    # The head would take more than the mean allows, what is smaller still fits.
    assert [name for name, _ in found] == ['value', 'down', 'query']
    four = costs(head=1.0, value=5.0, query=0.01, down=1.0)
    assert ('value', 8) in upgrades(four, SIZES, all_in(4))
    # What the output layer begins with counts.
    assert upgrades(four, SIZES, {**all_in(4), 'head': 8}) == []


@given(
    st.dictionaries(st.sampled_from(sorted(SIZES)), st.floats(0, 1), min_size=1),
    st.sampled_from([4, 8]),
)
def test_upgrades_keep_to_the_mean(high: dict, bits: int) -> None:
    sizes = {name: SIZES[name] for name in high}
    start = dict.fromkeys(sizes, bits)
    levels = applied(start, upgrades(costs(**high), sizes, start))  # type: ignore[arg-type]
    assert levels.keys() == sizes.keys()
    mean = sum(levels[name] * size for name, size in sizes.items()) / sum(sizes.values())
    assert bits <= mean <= MOST_BITS[bits]  # type: ignore[index]


def all_in(bits: int) -> dict:
    return dict.fromkeys(SIZES, bits)


class Stub:
    """An engine that says what it drifts by."""

    def __init__(self, levels: dict) -> None:
        self.levels = levels


class Scale:
    """A probe for which answers stay equal once the value and the head are whole."""

    def __init__(self) -> None:
        self.asked: list[dict] = []

    def drift(self, engine: Stub, most: int | None = None) -> object:
        levels = engine.levels
        if most:
            (name,) = levels
            return Drift(np.array([{'value': 1.0, 'down': 0.9}.get(name, 1e-2)]), 0.5)
        self.asked.append(levels)
        return Drift(np.zeros(1), 1.0 if levels['value'] == levels['down'] == 16 else 0.9)


def test_no_more_bits_than_equal_answers_need() -> None:
    levels = choose(SIZES, all_in(8), Stub, Scale())  # type: ignore[arg-type]
    assert levels == {'head': 8, 'value': 16, 'query': 8, 'down': 16}


def test_no_matrix_is_tried_where_all_bear_their_bits() -> None:
    probe, start = Scale(), {**all_in(8), 'value': 16, 'down': 16}
    assert choose(SIZES, start, Stub, probe) == start  # type: ignore[arg-type]
    assert probe.asked == [start]


def test_a_probe_measures_what_the_weights_do(tiny: TinyModel, engine: OnnxEngine) -> None:
    rng = np.random.default_rng(0)
    question = (1, *[tiny.processor.image_id] * VISUAL_TOKENS, 5, 6)
    exchange = Exchange(question, (7, 8, tiny.processor.eos_id))
    pixels = rng.random((1, 3, *IMAGE_SIZE), np.float32)
    probe = Probe(engine, [Example(pixels, (exchange, exchange))], tiny.processor.image_id)
    same = probe.drift(engine)
    assert (len(probe), same.equal) == (2, 1.0)
    assert same.unsettled() == pytest.approx(0, abs=1e-6)
    # The expected logits are those of one pass of torch.
    expected = tiny.reference(engine.encode_image(pixels), [1], [5, 6, 7, 8])[-3:]
    assert np.allclose(probe._expected[0], expected, atol=1e-4)


def test_a_shift_is_the_part_of_the_gap_that_is_lost() -> None:
    expected = np.array([[0.0, 3.0, 1.0, -9.0]] * 3, np.float32)
    said = expected.copy()
    said[1] += 5  # all alike
    said[2, 2] = 2.0  # half of the way to the best
    assert shifts(expected, said) == pytest.approx([0, 0, 0.5])
    drift = Drift(np.array([0.0, 0.5, 4.0]), 1.0)
    assert drift.unsettled() == pytest.approx((0.25 + 1) / 3)
    assert drift.unsettled(10) == pytest.approx((0.0025 + 0.16) / 3)
