"""Sessions: later calls go on from what earlier ones made, within an answer and across turns."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.test_perception import ScriptedModel
from unifiedmllm_ros.cancellation import Cancel
from unifiedmllm_ros.errors import MissingImageError, MissingRegionError
from unifiedmllm_ros.experts.base import (
    ImageResult,
    OnProgress,
    Provenance,
    Request,
    Result,
    SegmentationResult,
    VideoResult,
)
from unifiedmllm_ros.experts.configuration import ExpertsConfig
from unifiedmllm_ros.experts.registry import ExpertRegistry
from unifiedmllm_ros.masks import Mask
from unifiedmllm_ros.model.protocol import Turn
from unifiedmllm_ros.perception import Perceiver
from unifiedmllm_ros.representation import Box, Region, TaskCall, parse
from unifiedmllm_ros.router import Router
from unifiedmllm_ros.session import Session

CAN = '<p>can</p><box>[0.100, 0.200, 0.300, 0.400]</box>'
POT = '<p>pot</p><box>[0.500, 0.500, 0.900, 0.900]</box>'
REGION = Region('can', (Box(0.1, 0.2, 0.3, 0.4),))


class Remembering:
    """Adds one to every pixel (or makes a video), and remembers what it was asked."""

    asked: ClassVar[list[Request]] = []

    def __init__(self, name: str, weights: Path | None = None) -> None:
        self.name = name

    def load(self) -> None:
        """There is nothing to load."""

    def unload(self) -> None:
        """There is nothing to unload."""

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> Result:
        self.asked.append(request)
        source = Provenance(self.name, 'test', '', request.seed, {}, 0.0)
        if request.task in ('seg', 'vidseg'):
            assert request.image is not None
            value = int(request.image[0, 0, 0])
            pixels = np.ones((value, 1), bool)
            return SegmentationResult(
                source, tuple(Mask(box.phrase, box.box, 0, 0, pixels) for box in request.boxes)
            )
        if request.task == 'vidgen':
            frames = tuple(np.full((20, 30, 3), 60 + i, np.uint8) for i in range(3))
            return VideoResult(source, frames, 8.0)
        before = request.image if request.image is not None else picture(40)
        if request.argument == 'crop':
            return ImageResult(source, (before[:10],))
        return ImageResult(source, (before + np.uint8(1),))


def picture(value: int) -> NDArray[np.uint8]:
    return np.full((20, 30, 3), value, np.uint8)


@pytest.fixture
def router() -> Router:
    Remembering.asked.clear()
    kinds = {
        'seg': 'segmentation',
        'vidseg': 'video_segmentation',
        'edit': 'image_edit',
        'regedit': 'region_edit',
        'gen': 'text_to_image',
        'vidgen': 'text_to_video',
        'videdit': 'video_edit',
    }
    entries = {
        task: {'implementation': f'{__name__}:Remembering', 'kind': kind}
        for task, kind in kinds.items()
    }
    config = ExpertsConfig.model_validate({'experts': entries, 'tasks': {k: k for k in kinds}})
    return Router(ExpertRegistry(config, Path()))


def seen() -> list[tuple[str, int]]:
    return [
        (request.task, -1 if request.image is None else int(request.image[0, 0, 0]))
        for request in Remembering.asked
    ]


def test_calls_of_one_answer_work_on_what_the_ones_before_made(router: Router) -> None:
    text = f'<seg>{CAN}</seg><regedit>remove it{CAN}</regedit><edit>night</edit><seg>{POT}</seg>'
    results = router.run_all(parse(text)[0].calls, picture(10))
    assert seen() == [('seg', 10), ('regedit', 10), ('edit', 11), ('seg', 12)]
    assert len(results) == 4


def test_a_picture_made_from_text_can_be_edited_and_filmed(router: Router) -> None:
    text = f'<gen>a table</gen><edit>night</edit><vidgen>a cat</vidgen><vidseg>{CAN}</vidseg>'
    router.run_all(parse(text)[0].calls)
    assert seen() == [('gen', -1), ('edit', 41), ('vidgen', 42), ('vidseg', 60)]
    asked = Remembering.asked[-1]
    assert [int(frame[0, 0, 0]) for frame in asked.frames] == [61, 62]
    assert asked.rate == 8.0


def test_without_a_session_every_call_stands_alone(router: Router) -> None:
    for _ in range(2):
        router.run(TaskCall('edit', 'night'), picture(10))
    assert seen() == [('edit', 10), ('edit', 10)]


def test_now_make_it_blue_means_the_last_thing_in_the_last_picture(router: Router) -> None:
    session = Session()
    image = picture(10)
    router.run(TaskCall('regedit', 'make the can red', (REGION,)), image, session=session)
    router.run(TaskCall('regedit', 'now make it blue'), image, session=session)
    router.run(TaskCall('seg'), session=session)
    assert seen() == [('regedit', 10), ('regedit', 11), ('seg', 12)]
    assert [request.regions for request in Remembering.asked] == [(REGION,)] * 3


def test_a_new_picture_from_the_camera_takes_the_place_of_an_edited_one(router: Router) -> None:
    session = Session()
    router.run(TaskCall('regedit', 'red', (REGION,)), picture(10), session=session)
    router.run(TaskCall('edit', 'night'), picture(80), session=session)
    assert seen()[-1] == ('edit', 80)
    with pytest.raises(MissingRegionError):
        router.run(TaskCall('regedit', 'now blue'), picture(90), session=session)


def test_an_edit_can_be_undone(router: Router) -> None:
    session = Session()
    session.see(picture(10))
    for word in ('night', 'day'):
        router.run(TaskCall('edit', word), session=session)
    assert int(session.back()[0, 0, 0]) == 11
    assert int(session.back()[0, 0, 0]) == 10
    assert not session.changed
    with pytest.raises(MissingImageError, match='no earlier image'):
        session.back()


def test_only_the_newest_pictures_are_kept(router: Router) -> None:
    session = Session(keep=3)
    session.see(picture(10))
    for _ in range(6):
        router.run(TaskCall('edit', 'night'), session=session)
        session.end_turn(Turn('q', 'a'))
    assert [(turn, int(image[0, 0, 0])) for turn, image in session.images] == [
        (3, 14),
        (4, 15),
        (5, 16),
    ]
    assert len(session.turns) == 3


def perceiver(answer: str, router: Router) -> tuple[Perceiver, ScriptedModel]:
    model = ScriptedModel(answer)
    return Perceiver(model, router), model


def test_seg_after_regedit_in_an_answer_sees_the_edited_picture(router: Router) -> None:
    text = f'<regedit>away{CAN}</regedit><seg>{POT}</seg>{CAN}'
    asker, _ = perceiver(text, router)
    asker.set_image(picture(10))
    answer = asker.ask('take the can away', mask_all=True)
    assert seen() == [('seg', 10), ('regedit', 10), ('seg', 11)]
    # Masks come in the order of the boxes; each is as high as its picture's value.
    assert [(mask.phrase, mask.area) for mask in answer.masks] == [
        ('can', 10),
        ('pot', 11),
        ('can', 10),
    ]
    assert answer.image is not None
    assert int(answer.image[0, 0, 0]) == 11
    assert [call.task for call in answer.calls] == ['seg', 'regedit', 'seg']
    assert len(answer.results) == 3


def test_an_answer_that_makes_no_picture_has_none(router: Router) -> None:
    asker, _ = perceiver(f'<seg>{CAN}</seg>', router)
    asker.set_image(picture(10))
    assert asker.ask('can').image is None


def test_masks_of_a_picture_of_another_size_are_results_but_no_masks_of_the_image(
    router: Router,
) -> None:
    asker, _ = perceiver(f'<edit>crop</edit><seg>{CAN}</seg>', router)
    asker.set_image(picture(10))
    answer = asker.ask('crop it')
    assert answer.masks == ()
    assert isinstance(answer.results[1], SegmentationResult)
    assert answer.failures == ()


def test_the_next_question_is_about_the_picture_that_was_made(router: Router) -> None:
    asker, model = perceiver(f'<regedit>red{CAN}</regedit>', router)
    session, image = Session(), picture(10)
    asker.set_image(image)
    first = asker.ask('paint the can red', session=session)
    model.answer = '<regedit>blue</regedit>'
    second = asker.ask('now make it blue', session=session)
    assert second.failures == ()
    assert model.asked[1].history == (first.turn,)
    assert model.encoded == 2
    asker.ask('and again', session=session)
    assert model.encoded == 3
    assert seen() == [('regedit', 10), ('regedit', 11), ('regedit', 12)]
    assert Remembering.asked[1].regions == Remembering.asked[0].regions
    # Without the session it is about the image that was set, as before.
    model.answer = '<edit>night</edit>'
    asker.ask('night')
    assert seen()[-1] == ('edit', 10)
    assert model.encoded == 3
    asker.set_image(picture(90))
    asker.ask('night', session=session)
    assert seen()[-1] == ('edit', 90)


def test_a_failed_edit_leaves_the_picture_and_what_comes_after_runs(router: Router) -> None:
    asker, _ = perceiver(f'<layout>x{CAN}</layout><edit>night</edit>', router)
    asker.set_image(picture(10))
    answer = asker.ask('do it')
    assert [failure.call.task for failure in answer.failures] == ['layout']
    assert seen() == [('edit', 10)]
