"""Scenes: the same numbers give the same scene, splits do not mix, nothing interpenetrates."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from tests.tabletop.conftest import KNOWN_NAMES
from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.tabletop.catalogue import CATALOGUE
from unifiedmllm_ros.tabletop.rendering import TableRenderer
from unifiedmllm_ros.tabletop.sampling import Wanted, draw_scene
from unifiedmllm_ros.tabletop.scene import Scene
from unifiedmllm_ros.tabletop.textures import textures_of

NUMBERS = range(25)


def scenes(renderer: TableRenderer, wanted: Wanted) -> list[Scene]:
    return [draw_scene(wanted, number, renderer.shapes) for number in NUMBERS]


def test_a_scene_depends_on_its_numbers_alone(renderer: TableRenderer) -> None:
    wanted = Wanted('train')
    drawn = scenes(renderer, wanted)
    assert draw_scene(wanted, 7, renderer.shapes) == drawn[7]
    assert len({scene.camera for scene in drawn}) == len(drawn)
    assert draw_scene(Wanted('train', seed=1), 7, renderer.shapes) != drawn[7]


@pytest.mark.parametrize('split', ['train', 'test'])
def test_rooms_use_the_textures_of_their_split(renderer: TableRenderer, split: str) -> None:
    names = set(textures_of(split).names)
    for scene in scenes(renderer, Wanted(split)):
        room = scene.room
        assert {room.table.texture, room.wall.texture, room.floor.texture} <= names


def test_splits_share_no_camera_and_no_pose(renderer: TableRenderer) -> None:
    train, test = scenes(renderer, Wanted('train')), scenes(renderer, Wanted('test'))
    assert not {scene.camera for scene in train} & {scene.camera for scene in test}
    poses = [{(p.x, p.y) for scene in side for p in scene.objects} for side in (train, test)]
    assert not poses[0] & poses[1]


@pytest.mark.parametrize('split', ['train', 'test'])
def test_held_out_objects_stay_out_unless_asked(renderer: TableRenderer, split: str) -> None:
    for scene in scenes(renderer, Wanted(split)):
        assert not any(CATALOGUE[item.name].held_out for item in scene.objects)


def test_held_out_scenes_hold_one(renderer: TableRenderer) -> None:
    for scene in scenes(renderer, Wanted('test', held_out=True)):
        assert any(CATALOGUE[item.name].held_out for item in scene.objects)


def test_objects_rest_on_the_table_and_do_not_touch(renderer: TableRenderer) -> None:
    for scene in scenes(renderer, Wanted('train')):
        points = [renderer.shapes[item.name].placed(item) for item in scene.objects]
        for one in points:
            assert one[:, 2].min() == pytest.approx(0, abs=1e-9)
            assert (np.abs(one[:, :2]) < scene.room.half_size).all()
        outlines = [cv2.convexHull(one[:, :2].astype(np.float32)) for one in points]
        for number, outline in enumerate(outlines):
            for other in outlines[:number]:
                assert cv2.intersectConvexConvex(outline, other)[0] == 0


def test_too_few_objects_are_refused(renderer: TableRenderer) -> None:
    one = {'red_ramekin': renderer.shapes['red_ramekin']}
    with pytest.raises(ConfigError, match='too few'):
        draw_scene(Wanted('train'), 0, one)
    known = {name: renderer.shapes[name] for name in KNOWN_NAMES}
    with pytest.raises(ConfigError, match='held-out'):
        draw_scene(Wanted('test', held_out=True), 0, known)
