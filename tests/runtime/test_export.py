"""Exported graphs against the torch model they come from."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('onnxscript', reason='needs the extra [export]')

from tests.model.twin import IMAGE_SIZE, REGIONS, seeing_twin, twin_processor  # noqa: E402
from unifiedmllm_ros.runtime.export import export_mask_network, export_model  # noqa: E402
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine  # noqa: E402

PROCESSOR = twin_processor()
QUESTION = PROCESSOR.encode_question('find the red mug')


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('graphs')
    export_model(seeing_twin(PROCESSOR), 'twin', out, half_weights=False)
    return out


def test_graphs_give_torchs_numbers(folder: Path) -> None:
    model, engine = seeing_twin(PROCESSOR), OnnxEngine.load(folder, threads=1)
    pixels = np.random.default_rng(0).random((1, 3, *IMAGE_SIZE), np.float32)
    features = engine.encode_image(pixels)
    with torch.no_grad():
        expected = model.encode_image(torch.from_numpy(pixels))[0].numpy()
        ids = torch.tensor([[*PROCESSOR.encode_prefix(), *QUESTION]])
        logits = model(input_ids=ids, pixel_values=torch.from_numpy(pixels)).logits[0].numpy()
    np.testing.assert_allclose(features, expected, atol=1e-4)
    cache = engine.new_cache()
    engine.step([PROCESSOR.bos_id], cache)
    said = engine.step(QUESTION[:2], cache, features)
    rest = engine.step(QUESTION[2:], cache)
    start = 1 + REGIONS
    np.testing.assert_allclose(np.concatenate((said, rest)), logits[start:], atol=1e-4)


def test_manifest_names_what_was_written(folder: Path) -> None:
    manifest = json.loads((folder / 'manifest.json').read_text())
    assert manifest['visual_tokens'] == REGIONS
    assert manifest['vocab'] == PROCESSOR.vocab_size
    for graph in manifest['graphs'].values():
        assert (folder / graph['file']).stat().st_size == graph['bytes']


def test_half_weights_halve_the_file_and_hardly_change_the_numbers(
    folder: Path, tmp_path: Path
) -> None:
    export_model(seeing_twin(PROCESSOR), 'twin', tmp_path)
    whole, half = (f / 'decoder.onnx' for f in (folder, tmp_path))
    embedding = PROCESSOR.vocab_size * 32  # the largest weight, two bytes less for each element
    assert whole.stat().st_size - half.stat().st_size > 1.9 * embedding
    rows = []
    for graphs in (folder, tmp_path):
        engine = OnnxEngine.load(graphs, threads=1)
        rows.append(engine.step(QUESTION, engine.new_cache()))
    np.testing.assert_allclose(rows[1], rows[0], atol=5e-3)
    assert not np.array_equal(rows[1], rows[0])


def test_mask_network_runs_any_number_of_crops(tmp_path: Path) -> None:
    import onnxruntime

    from unifiedmllm_ros.model.mask_network import CROP, MaskNetwork

    torch.manual_seed(0)
    network = MaskNetwork((8, 8, 8, 8)).eval()
    export_mask_network(network, tmp_path / 'mask.onnx')
    session = onnxruntime.InferenceSession(tmp_path / 'mask.onnx')
    for count in (1, 4):
        crops = np.random.default_rng(count).random((count, 4, CROP, CROP), np.float32)
        (logits,) = session.run(['logits'], {'crops': crops})
        with torch.no_grad():
            expected = network(torch.from_numpy(crops)).numpy()
        np.testing.assert_allclose(logits, expected, atol=1e-3)


def test_graphs_name_no_path_of_the_machine_that_exported(folder: Path) -> None:
    for file in folder.glob('*.onnx'):
        content = file.read_bytes()
        assert b'site-packages' not in content
        assert str(Path(__file__).parents[2]).encode() not in content
