"""Pictures and their ground truth agree: masks, boxes, visible shares, depth and intrinsics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from unifiedmllm_ros.tabletop.camera_path import hover
from unifiedmllm_ros.tabletop.dataset import describe, pixel_box
from unifiedmllm_ros.tabletop.rendering import TableRenderer, photograph
from unifiedmllm_ros.tabletop.sampling import Wanted, draw_scene
from unifiedmllm_ros.tabletop.scene import Camera, Placement, Scene, Sensor


@pytest.fixture(scope='module')
def scene(renderer: TableRenderer) -> Scene:
    drawn = draw_scene(Wanted('train'), 3, renderer.shapes)
    lamps = tuple(replace(lamp, shadow=False) for lamp in drawn.lamps)
    return replace(drawn, camera=hover(0.0), lamps=lamps, sensor=Sensor())


def with_objects(scene: Scene, *objects: Placement) -> Scene:
    return replace(scene, objects=objects)


def test_the_same_scene_gives_the_same_picture(renderer: TableRenderer, scene: Scene) -> None:
    first = renderer.render(scene)
    other = draw_scene(Wanted('test'), 5, renderer.shapes)
    assert not np.array_equal(renderer.render(other).rgb, first.rgb)
    again = renderer.render(scene)
    np.testing.assert_array_equal(again.rgb, first.rgb)
    np.testing.assert_array_equal(again.labels, first.labels)
    assert again.visible == first.visible


def test_a_hidden_object_is_seen_in_part_or_not_at_all(
    renderer: TableRenderer, scene: Scene
) -> None:
    scene = replace(scene, camera=Camera((0, -0.8, 0.25), (0, 0, 0.05), 45))
    front = Placement('moka_pot', 0, 'up', 0.0, -0.05, 0.0)
    behind = Placement('blue_cylinder', 0, 'up', 0.0, 0.1, 0.0)
    beside = replace(behind, x=0.055)
    apart = replace(behind, x=0.3)
    seen = [
        renderer.render(with_objects(scene, front, item)).visible[1]
        for item in (behind, beside, apart)
    ]
    assert seen[0] < 0.3
    assert seen[0] < seen[1] < 0.95
    assert seen[2] == 1.0


def test_a_hidden_object_is_left_out_of_the_record(renderer: TableRenderer, scene: Scene) -> None:
    scene = replace(scene, camera=Camera((0, -0.8, 0.05), (0, 0, 0.05), 45))
    hidden = Placement('red_ramekin', 0, 'up', 0.0, 0.15, 0.0)
    wall = Placement('black_book', 0, 'up', 0.0, 0.0, np.pi / 2)
    free = Placement('blue_cylinder', 0, 'up', 0.25, 0.0, 0.0)
    scene = with_objects(scene, hidden, wall, free)
    record, frame = describe(scene, renderer.render(scene), renderer.shapes)
    assert [item.name for item in record.objects] == ['black_book', 'blue_cylinder']
    assert set(np.unique(frame.labels)) == {0, 1, 2}


def test_records_agree_with_masks(renderer: TableRenderer) -> None:
    for number in range(6):
        scene = draw_scene(Wanted('train'), number, renderer.shapes)
        record, frame = describe(scene, renderer.render(scene), renderer.shapes)
        assert len(record.objects) >= 1
        for item in record.objects:
            mask = frame.labels == item.index + 1
            assert item.area == mask.sum() > 0
            assert item.box == pixel_box(mask)
            assert 0 < item.visible <= 1


def test_masks_lie_where_the_object_projects(renderer: TableRenderer, scene: Scene) -> None:
    item = Placement('red_ramekin', 0, 'up', 0.1, 0.05, 0.3)
    frame = renderer.render(with_objects(scene, item))
    points = renderer.shapes[item.name].placed(item)
    pixels = scene.camera.project(points, 160, 120)
    x1, y1, x2, y2 = np.multiply(pixel_box(frame.labels == 1), (160, 120, 160, 120))
    np.testing.assert_allclose((x1, y1), pixels.min(axis=0), atol=1.5)
    np.testing.assert_allclose((x2, y2), pixels.max(axis=0), atol=1.5)


def test_depth_and_intrinsics_give_the_place(renderer: TableRenderer, scene: Scene) -> None:
    """A pixel of the cylinder's top, brought back to the world, is 6 cm above the table."""
    item = Placement('blue_cylinder', 0, 'up', -0.1, 0.0, 0.0)
    frame = renderer.render(with_objects(scene, item), depth=True)
    assert frame.depth is not None
    top = renderer.shapes[item.name].placed(item)[:, 2].max()
    u, v = np.floor(scene.camera.project(np.array([[-0.1, 0.0, top]]), 160, 120)[0]).astype(int)
    ray = np.linalg.inv(scene.camera.intrinsics(160, 120)) @ (u, v, 1.0)
    place = scene.camera.rotation @ (ray * frame.depth[v, u]) + scene.camera.position
    np.testing.assert_allclose(place, (-0.1, 0.0, top), atol=0.006)


def test_colours_are_those_of_the_names(renderer: TableRenderer, scene: Scene) -> None:
    red = Placement('red_ramekin', 0, 'up', -0.1, 0, 0)
    blue = Placement('blue_cylinder', 0, 'up', 0.1, 0, 0)
    frame = renderer.render(with_objects(scene, red, blue))
    first, second = (frame.rgb[frame.labels == k].mean(axis=0) for k in (1, 2))
    assert first[0] > 1.5 * first[2]
    assert second[2] > 1.5 * second[0]


def test_two_of_the_same_object_are_two(renderer: TableRenderer, scene: Scene) -> None:
    one = Placement('red_ramekin', 0, 'up', -0.15, 0, 0)
    two = Placement('red_ramekin', 1, 'up', 0.15, 0, 0)
    labels = renderer.render(with_objects(scene, one, two)).labels
    columns = [np.flatnonzero((labels == k).any(axis=0)) for k in (1, 2)]
    assert columns[0].max() < columns[1].min()


def test_the_sensor_brightens_darkens_and_adds_noise() -> None:
    grey = np.full((24, 32, 3), 100, dtype=np.uint8)
    assert photograph(grey, Sensor(gain=(1.5, 1.0, 1.0)))[0, 0].tolist() == [150, 100, 100]
    assert photograph(grey, Sensor(gamma=1.3)).mean() < 100
    noisy = photograph(grey, Sensor(noise=5.0, noise_seed=1))
    assert 3 < noisy.std() < 7
    np.testing.assert_array_equal(noisy, photograph(grey, Sensor(noise=5.0, noise_seed=1)))
    assert not np.array_equal(noisy, photograph(grey, Sensor(noise=5.0, noise_seed=2)))
