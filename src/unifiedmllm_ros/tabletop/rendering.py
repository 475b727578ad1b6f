"""Renders scenes: colour, exact masks, depth, and how much of each object is seen."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.tabletop.assets import (
    HIDDEN_GROUP,
    LAMPS,
    SHOWN_GROUP,
    World,
    build_world,
    mujoco_module,
)
from unifiedmllm_ros.tabletop.catalogue import CATALOGUE
from unifiedmllm_ros.tabletop.scene import Array, Scene, Sensor, Surface
from unifiedmllm_ros.tabletop.shapes import Shape, measure
from unifiedmllm_ros.tabletop.textures import TEST, TRAIN

SUPERSAMPLING = 2
SUPERSAMPLED_PIXELS = 1_000_000
_WALL_THICKNESS = 0.05
_TABLE_THICKNESS = 0.02


@dataclass(frozen=True)
class Frame:
    """One rendered picture.

    `rgb` (H, W, 3) uint8; `labels` (H, W) uint8, object index + 1, 0 elsewhere; `depth` (H, W)
    float32 metres along the optical axis, or None when not asked for; `visible[i]` is the share of
    object i's own pixels that nothing hides, 0 to 1.
    """

    rgb: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    visible: tuple[float, ...]
    depth: NDArray[np.float32] | None = None


class TableRenderer:
    """Renders scenes at one size; compiles its world once. Close it, or use it in a `with`.

    `names` limits the objects it can show (all by default): fewer start faster.
    """

    def __init__(
        self,
        width: int = 320,
        height: int = 240,
        names: Iterable[str] | None = None,
        textures: Iterable[str] | None = None,
    ) -> None:
        self.width, self.height = width, height
        self._mujoco = mujoco_module()
        surfaces = TRAIN.names + TEST.names if textures is None else textures
        self.world: World = build_world(CATALOGUE if names is None else names, surfaces)
        self.shapes: dict[str, Shape] = measure(self.world)
        self._data = self._mujoco.MjData(self.world.model)
        # Colour is rendered larger and averaged down, as a lens would; masks are exact samples.
        scale = SUPERSAMPLING if width * height <= SUPERSAMPLED_PIXELS else 1
        self.world.model.vis.global_.offwidth = scale * width
        self.world.model.vis.global_.offheight = scale * height
        self._photo = self._mujoco.Renderer(self.world.model, scale * height, scale * width)
        self._renderer = self._mujoco.Renderer(self.world.model, height, width)
        self._shown: tuple[int, ...] = ()

    def __enter__(self) -> TableRenderer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the graphics context."""
        self._photo.close()
        self._renderer.close()

    def render(self, scene: Scene, depth: bool = False, visible: bool = True) -> Frame:
        """Render `scene`; every object of it must be among the renderer's `names`.

        Without `visible` the visible shares are not measured (and empty), which saves time.
        """
        self._arrange(scene)
        bodies = [self.world.bodies[item.name][item.slot] for item in scene.objects]
        self._show(bodies)
        rgb = photograph(self._colour(scene), scene.sensor)
        labels = self._labels(bodies)
        shares = self._visible(scene, bodies, labels) if visible else ()
        return Frame(rgb, labels, shares, self._depth() if depth else None)

    def _arrange(self, scene: Scene) -> None:
        self._set_room(scene)
        self._set_camera(scene)
        self._set_light(scene)
        model = self.world.model
        for item in scene.objects:
            body = self.world.bodies[item.name][item.slot]
            model.body_pos[body] = self.shapes[item.name].origin(item)
            self._mujoco.mju_mat2Quat(model.body_quat[body], item.rotation.ravel())
        self._mujoco.mj_kinematics(model, self._data)
        self._mujoco.mj_camlight(model, self._data)

    def _set_room(self, scene: Scene) -> None:
        room = scene.room
        half_x, half_y = room.half_size
        top = (half_x, half_y, _TABLE_THICKNESS)
        self._box('table', room.table, (0, 0, -_TABLE_THICKNESS), top)
        y = half_y + room.wall_distance + _WALL_THICKNESS
        # A 2D texture lies in a box's own x-y plane: the wall is a floor turned up.
        self._box('wall', room.wall, (0, y, 0.6), (4.0, 2.0, _WALL_THICKNESS))
        model = self.world.model
        model.body_quat[model.body('wall').id] = (math.sqrt(0.5), math.sqrt(0.5), 0, 0)
        down = -room.floor_drop - _WALL_THICKNESS
        self._box('floor', room.floor, (0, 0, down), (4.0, 4.0, _WALL_THICKNESS))

    def _box(
        self,
        name: str,
        surface: Surface,
        place: tuple[float, float, float],
        half: tuple[float, float, float],
    ) -> None:
        model = self.world.model
        geom = model.geom(name).id
        material = self.world.materials[surface.texture]
        model.geom_size[geom] = half
        model.geom_rbound[geom] = float(np.linalg.norm(half))
        model.body_pos[model.geom_bodyid[geom]] = place
        model.geom_matid[geom] = material
        model.geom_rgba[geom] = (*surface.tint, 1.0)
        model.mat_texrepeat[material] = 1.0 / surface.tile

    def _set_camera(self, scene: Scene) -> None:
        model = self.world.model
        model.cam_pos[0] = scene.camera.position
        model.cam_fovy[0] = scene.camera.fovy
        axes = scene.camera.rotation * (1.0, -1.0, -1.0)  # MuJoCo: x right, y up, looks along -z
        self._mujoco.mju_mat2Quat(model.cam_quat[0], np.ascontiguousarray(axes).ravel())

    def _set_light(self, scene: Scene) -> None:
        model = self.world.model
        model.vis.headlight.ambient[:] = scene.ambient
        model.vis.headlight.diffuse[:] = 0.0
        model.vis.headlight.specular[:] = 0.0
        directional = int(self._mujoco.mjtLightType.mjLIGHT_DIRECTIONAL)
        spot = int(self._mujoco.mjtLightType.mjLIGHT_SPOT)
        for number in range(LAMPS):
            lamp = scene.lamps[number]
            model.light_pos[number] = lamp.position
            model.light_dir[number] = lamp.direction
            model.light_diffuse[number] = lamp.diffuse
            model.light_specular[number] = np.multiply(lamp.diffuse, 0.5)
            model.light_type[number] = directional if lamp.directional else spot
            model.light_cutoff[number] = 80.0
            model.light_exponent[number] = 1.0
            model.light_castshadow[number] = lamp.shadow

    def _show(self, bodies: Iterable[int]) -> None:
        groups = self.world.model.geom_group
        for body in self._shown:
            groups[list(self.world.geoms[body])] = HIDDEN_GROUP
        self._shown = tuple(bodies)
        for body in self._shown:
            groups[list(self.world.geoms[body])] = SHOWN_GROUP

    def _update(self) -> None:
        self._renderer.update_scene(self._data, camera=0)

    def _colour(self, scene: Scene) -> NDArray[np.uint8]:
        self._photo.update_scene(self._data, camera=0)
        shadows = self._mujoco.mjtRndFlag.mjRND_SHADOW
        self._photo.scene.flags[shadows] = any(lamp.shadow for lamp in scene.lamps)
        size = (self.width, self.height)
        return np.asarray(cv2.resize(self._photo.render(), size, interpolation=cv2.INTER_AREA))

    def _segments(self) -> NDArray[np.int32]:
        """Body id of each pixel's object, 0 where there is none."""
        self._renderer.enable_segmentation_rendering()
        try:
            self._update()
            geoms = self._renderer.render()[..., 0]
        finally:
            self._renderer.disable_segmentation_rendering()
        table = np.zeros(self.world.model.ngeom + 1, dtype=np.int32)
        for body in self._shown:
            table[list(self.world.geoms[body])] = body
        return np.asarray(table[geoms])

    def _labels(self, bodies: list[int]) -> NDArray[np.uint8]:
        table = np.zeros(self.world.model.nbody, dtype=np.uint8)
        table[bodies] = np.arange(1, len(bodies) + 1)
        return np.asarray(table[self._segments()])

    def _depth(self) -> NDArray[np.float32]:
        self._renderer.enable_depth_rendering()
        try:
            self._update()
            return np.asarray(self._renderer.render(), dtype=np.float32).copy()
        finally:
            self._renderer.disable_depth_rendering()

    def _visible(
        self, scene: Scene, bodies: list[int], labels: NDArray[np.uint8]
    ) -> tuple[float, ...]:
        boxes = [self._projected_box(scene, index) for index in range(len(bodies))]
        shares = []
        for index, body in enumerate(bodies):
            seen = int((labels == index + 1).sum())
            if not self._may_be_hidden(index, boxes):
                shares.append(1.0 if seen else 0.0)
                continue
            self._show([body])
            alone = int((self._segments() == body).sum())
            shares.append(min(1.0, seen / alone) if alone else 0.0)
        self._show(bodies)
        return tuple(shares)

    def _projected_box(self, scene: Scene, index: int) -> Array:
        item = scene.objects[index]
        points = self.shapes[item.name].placed(item)
        pixels = scene.camera.project(points, self.width, self.height)
        near = scene.camera.to_camera(points)[:, 2].min()
        return np.concatenate([pixels.min(axis=0) - 1, pixels.max(axis=0) + 1, [near]])

    @staticmethod
    def _may_be_hidden(index: int, boxes: list[Array]) -> bool:
        own = boxes[index]
        return any(
            (np.maximum(own[:2], other[:2]) < np.minimum(own[2:4], other[2:4])).all()
            for number, other in enumerate(boxes)
            if number != index
        )


def photograph(picture: NDArray[np.uint8], sensor: Sensor) -> NDArray[np.uint8]:
    """Apply the look of a camera sensor to a rendered picture (H, W, 3) uint8."""
    levels = np.linspace(0, 1, 256)[:, None] * np.asarray(sensor.gain)
    table = np.clip(levels, 0, 1) ** sensor.gamma * 255
    taken = cv2.LUT(picture, np.rint(table).astype(np.uint8).reshape(256, 1, 3))
    if sensor.blur > 0:
        taken = cv2.GaussianBlur(taken, (0, 0), sensor.blur * picture.shape[0] / 240)
    if sensor.noise > 0:
        rng = np.random.default_rng(sensor.noise_seed)
        grain = rng.standard_normal(taken.shape, dtype=np.float32) * sensor.noise
        taken = np.clip(taken + grain, 0, 255).astype(np.uint8)
    return np.asarray(taken)
