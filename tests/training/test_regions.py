"""Targets, losses and imagined regions of the region encoder."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('transformers', reason='needs the extra [train]')

from unifiedmllm_ros.model.configuration import RegionVisionConfig  # noqa: E402
from unifiedmllm_ros.model.regions import RegionHead, RegionVisionModel  # noqa: E402
from unifiedmllm_ros.tabletop.lexicon import default_lexicon  # noqa: E402
from unifiedmllm_ros.tabletop.symbolic import sample_scene  # noqa: E402
from unifiedmllm_ros.training.imagined import EncoderNoise, imagine_regions  # noqa: E402
from unifiedmllm_ros.training.region_head import (  # noqa: E402
    box_iou,
    dense_loss,
    generalised_iou,
    recall,
)
from unifiedmllm_ros.training.region_targets import dense_targets  # noqa: E402
from unifiedmllm_ros.training.tabletop_nano import vocabulary, word_rows  # noqa: E402

LEXICON = default_lexicon()
WORDS = vocabulary(LEXICON)
SCENE = sample_scene(Random(5), LEXICON, 5)
ROWS = word_rows(SCENE, WORDS, LEXICON)


def test_every_referable_object_has_a_centre_and_owns_its_cell() -> None:
    targets = dense_targets([SCENE], [ROWS], (30, 40))
    things = [t for t in SCENE.objects if SCENE.referable(t)]
    assert len(targets.boxes) == len(things)
    for number, thing in enumerate(things):
        x1, y1, x2, y2 = thing.box
        row, column = int((y1 + y2) / 2 * 30), int((x1 + x2) / 2 * 40)
        assert float(targets.heat[0, row, column]) == 1.0
        torch.testing.assert_close(targets.boxes[number], torch.tensor(thing.box))
    assert set(targets.owner.unique().tolist()) <= {-1, *range(len(things))}


def test_word_rows_spell_the_names() -> None:
    for row, thing in zip(ROWS, SCENE.objects, strict=True):
        said = {WORDS[i] for i in np.flatnonzero(row)}
        assert set(LEXICON.entries[thing.name].short.split()) <= said


def test_generalised_iou_falls_below_zero_only_apart() -> None:
    a = torch.tensor([[0.0, 0.0, 2.0, 2.0]] * 3)
    b = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 1.0, 3.0, 3.0], [4.0, 4.0, 6.0, 6.0]])
    same, partly, apart = generalised_iou(a, b).tolist()
    assert same == pytest.approx(1.0)
    assert partly == pytest.approx(1 / 7 - 2 / 9)
    assert apart < -0.5


def test_head_learns_one_scene() -> None:
    torch.manual_seed(0)
    config = RegionVisionConfig((240, 320), 32, 1, 16, tuple(WORDS))
    model = RegionVisionModel(config)
    head: RegionHead = model.head
    features = [torch.randn(1, c, *s) for c, s in ((40, (30, 40)), (112, (15, 20)), (192, (8, 10)))]
    targets = dense_targets([SCENE], [ROWS], (30, 40))
    optimizer = torch.optim.Adam(head.parameters(), 5e-3)
    first = last = 0.0
    for step in range(60):
        loss = torch.stack(list(dense_loss(head(features), targets).values())).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = (float(loss.detach()) if step == 0 else first), float(loss.detach())
    assert last < 0.3 * first


def test_imagined_regions_cover_the_scene() -> None:
    rng = np.random.default_rng(0)
    quiet = EncoderNoise(jitter=0.01, lost=0.0, double=0.0, confused=0.0, geometry=0.0)
    regions = imagine_regions(SCENE, ROWS, 16, 8, rng, quiet)
    assert regions.appearance.shape == (1, 16, 8)
    centres = regions.boxes[0, :, 0] + regions.boxes[0, :, 2]
    assert bool((centres.diff() >= 0).all())
    for thing in SCENE.objects:
        if SCENE.referable(thing):
            assert float(box_iou(regions.boxes[0], torch.tensor(thing.box)).max()) > 0.8
    assert recall(regions, [SCENE], [ROWS])['recall50'] > 0.99


def test_lost_objects_lower_the_recall() -> None:
    rng = np.random.default_rng(0)
    regions = imagine_regions(SCENE, ROWS, 16, 8, rng, EncoderNoise(lost=1.0))
    assert recall(regions, [SCENE], [ROWS])['recall50'] < 0.5
