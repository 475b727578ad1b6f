"""All phases of the training, a few steps each, from scenes on disk to a model that answers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random

import cv2
import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('onnxscript', reason='needs the extra [export]')

from unifiedmllm_ros.cli import main  # noqa: E402
from unifiedmllm_ros.data.conversation import read_conversations  # noqa: E402
from unifiedmllm_ros.perception import Perceiver  # noqa: E402
from unifiedmllm_ros.tabletop.lexicon import default_lexicon  # noqa: E402
from unifiedmllm_ros.tabletop.record import read_scenes  # noqa: E402
from unifiedmllm_ros.tabletop.symbolic import sample_scene  # noqa: E402
from unifiedmllm_ros.training import pipeline  # noqa: E402


def write_scenes(folder: Path, count: int) -> None:
    """Made-up scenes with pictures in which every object is a coloured box."""
    rng, random = np.random.default_rng(0), Random(0)
    lines = []
    for number in range(count):
        made = sample_scene(random, default_lexicon(), 4)
        image = rng.integers(0, 60, (240, 320, 3), dtype=np.uint8)
        owners = np.zeros((240, 320), np.uint8)
        for thing in made.objects:
            x1, y1, x2, y2 = (np.array(thing.box) * (320, 240, 320, 240)).astype(int)
            image[y1:y2, x1:x2] = rng.integers(60, 255, 3)
            owners[y1:y2, x1:x2] = thing.index + 1
        names = {'image': f'{number}.png', 'mask': f'{number}-mask.png'}
        cv2.imwrite(str(folder / names['image']), image)
        cv2.imwrite(str(folder / names['mask']), owners)
        lines.append(json.dumps(replace(made, id=str(number), **names).to_json()) + '\n')
    (folder / 'scenes.jsonl').write_text(''.join(lines))


def test_phases_make_a_model_that_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, 'CORPUS_LINES', 2000)
    data, work, out = (tmp_path / name for name in ('data', 'work', 'models'))
    data.mkdir()
    write_scenes(data, 16)
    steps = ['--regions-steps', '2', '--read-steps', '2', '--mask-steps', '2']
    arguments = ['train', 'tabletop-nano', '--data', str(data), '--work', str(work)]
    older = out / 'tabletop-nano' / 'adapter_config.json'
    older.parent.mkdir(parents=True)
    older.write_text('{}')
    assert main([*arguments, '--out', str(out), '--threads', '1', *steps]) == 0
    assert not older.exists()  # it belonged to other weights
    perceiver = Perceiver.load(str(out / 'tabletop-nano'), threads=1)
    perceiver.set_image(np.full((48, 64, 3), 90, np.uint8))
    assert perceiver.ask('find the mug', execute=False).problems == ()
    assert (out / 'mask-nano' / 'mask.onnx').stat().st_size > 100_000

    # What stage 3 learns from lies beside the pictures, the same every time.
    assert main([*arguments, '--phases', 'write']) == 0
    written = list(read_conversations(data / pipeline.LESSONS, check_media=True))
    assert len({talk.id for talk in written}) == len(written) > 16
    assert {len(list(talk.exchanges())) for talk in written} >= {1, 3}
    layouts = list(read_conversations(data / pipeline.LAYOUTS))
    assert layouts
    assert all(talk in written for talk in layouts)
    scenes = list(read_scenes(data / 'scenes.jsonl'))
    assert written == list(pipeline.conversations(scenes, default_lexicon()))

    again = tmp_path / 'again'
    shop = pipeline.Workshop.open(again)
    shop.begin_from(out / 'tabletop-nano')
    first, second = pipeline.Workshop.open(work).model('read', 'regions'), shop.model('read')
    before = first.state_dict()
    for name, tensor in second.state_dict().items():
        if '.backbone.' not in name:  # its norms are folded
            torch.testing.assert_close(tensor, before[name], atol=1e-3, rtol=1e-3)
    image = torch.rand(1, 3, 240, 320)
    backbones = [model.image_tower.encoder.eval().backbone for model in (first, second)]
    with torch.no_grad():
        maps, others = (backbone(image) for backbone in backbones)
    for one, other in zip(maps, others, strict=True):
        assert float((one - other).abs().mean()) < 0.01 * float(one.abs().mean())


def test_dialogues_of_a_scene_hold_all_its_questions() -> None:
    lexicon = default_lexicon()
    made = [
        pipeline.dialogues(sample_scene(Random(seed), lexicon), Random(seed), 18, lexicon)
        for seed in range(6)
    ]
    counts = {sum(len(d.turns) for d in talks) for talks in made}
    assert counts == {18, 18 + 3}  # without and with a true dialogue
