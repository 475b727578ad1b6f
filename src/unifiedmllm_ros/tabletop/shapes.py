"""The outline of each object: enough points to rest it on the table and keep objects apart."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from unifiedmllm_ros.tabletop.assets import World, mujoco_module
from unifiedmllm_ros.tabletop.scene import Array, Placement


@dataclass(frozen=True)
class Shape:
    """Extreme points (N, 3) of an object in its own frame, metres."""

    points: Array

    @cached_property
    def radius(self) -> float:
        """Largest distance of a point from the frame's origin, seen from any side."""
        return float(np.linalg.norm(self.points, axis=1).max())

    def placed(self, placement: Placement) -> Array:
        """The points in the world, resting on the table."""
        turned = self.points @ placement.rotation.T
        turned[:, 2] -= turned[:, 2].min()
        turned[:, :2] -= self._middle(turned)
        return np.asarray(turned + (placement.x, placement.y, 0.0))

    def origin(self, placement: Placement) -> Array:
        """World position of the frame's origin when the object rests at `placement`."""
        turned = self.points @ placement.rotation.T
        middle = self._middle(turned)
        return np.array([placement.x - middle[0], placement.y - middle[1], -turned[:, 2].min()])

    @staticmethod
    def _middle(points: Array) -> Array:
        return np.asarray((points[:, :2].min(axis=0) + points[:, :2].max(axis=0)) / 2)


def measure(world: World) -> dict[str, Shape]:
    """The shape of every object of `world`, by catalogue name."""
    mujoco = mujoco_module()
    data = mujoco.MjData(world.model)
    mujoco.mj_kinematics(world.model, data)
    return {name: _shape(world, data, slots[0]) for name, slots in world.bodies.items()}


def _shape(world: World, data: Any, body: int) -> Shape:
    points = np.concatenate([_geom_points(world.model, data, geom) for geom in world.geoms[body]])
    return Shape(_extreme(points - data.xpos[body]))


def _geom_points(model: Any, data: Any, geom: int) -> Array:
    mesh = model.geom_dataid[geom]
    if mesh >= 0:
        start, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        local = np.asarray(model.mesh_vert[start : start + count], dtype=np.float64)
    else:
        box = model.geom_aabb[geom]
        corners = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, 8).T
        local = box[:3] + corners * box[3:]
    return np.asarray(local @ data.geom_xmat[geom].reshape(3, 3).T + data.geom_xpos[geom])


def _extreme(points: Array, directions: int = 400) -> Array:
    """The points that lie farthest in `directions` evenly spread directions."""
    step = np.arange(directions) + 0.5
    polar, turn = np.arccos(1 - 2 * step / directions), np.pi * (1 + 5**0.5) * step
    axes = np.stack([np.cos(turn) * np.sin(polar), np.sin(turn) * np.sin(polar), np.cos(polar)])
    axes = np.concatenate([axes, np.eye(3), -np.eye(3)], axis=1)
    # In parts: the whole product takes hundreds of megabytes for a fine mesh.
    parts = np.array_split(axes, 25, axis=1)
    farthest = np.concatenate([(points @ part).argmax(axis=0) for part in parts])
    return np.asarray(points[np.unique(farthest)])
