"""What one simulated picture is made of: room, lamps, camera, objects and the look of the sensor.

A `Scene` is plain data: the same scene always renders to the same picture. World axes: x right,
y away, z up, in metres; the table top is the plane z = 0 around the origin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Vector = tuple[float, float, float]
Array = NDArray[np.float64]

# A quarter turn about x or y brings assets that are modelled lying to a natural pose.
REST_ROTATIONS: dict[str, Array] = {
    'up': np.eye(3),
    'turned': np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    'side': np.array([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]]),
}


@dataclass(frozen=True)
class Placement:
    """One object: its catalogue key, slot (which of its copies), resting pose, place and turn."""

    name: str
    slot: int
    rest: str
    x: float
    y: float
    turn: float

    @property
    def rotation(self) -> Array:
        """World rotation, 3x3."""
        c, s = math.cos(self.turn), math.sin(self.turn)
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]]) @ REST_ROTATIONS[self.rest]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at `position` looking at `target`; `fovy` is the vertical angle, degrees."""

    position: Vector
    target: Vector
    fovy: float
    roll: float = 0.0

    @property
    def rotation(self) -> Array:
        """Columns: the camera's right, down and forward axes in the world."""
        forward = np.subtract(self.target, self.position)
        forward = forward / np.linalg.norm(forward)
        right = np.cross(forward, (0.0, 0.0, 1.0))
        right = right / np.linalg.norm(right)
        down = np.cross(forward, right)
        c, s = math.cos(self.roll), math.sin(self.roll)
        return np.stack([c * right + s * down, c * down - s * right, forward], axis=1)

    def to_camera(self, points: Array) -> Array:
        """World points (N, 3) in camera axes (x right, y down, z forward), metres."""
        return np.asarray((points - np.asarray(self.position)) @ self.rotation)

    def focal(self, height: int) -> float:
        """Focal length in pixels of a picture `height` pixels high (pixels are square)."""
        return height / 2 / math.tan(math.radians(self.fovy) / 2)

    def project(self, points: Array, width: int, height: int) -> Array:
        """World points (N, 3) in pixels (N, 2); points behind the camera come out as NaN.

        (0, 0) is the upper left corner of the picture, as for normalised boxes.
        """
        seen = self.to_camera(points)
        depth = np.where(seen[:, 2] > 1e-3, seen[:, 2], np.nan)[:, None]
        return np.asarray(seen[:, :2] / depth * self.focal(height) + (width / 2, height / 2))

    def intrinsics(self, width: int, height: int) -> Array:
        """3x3 matrix K as ROS and OpenCV have it: (0, 0) is the middle of the first pixel."""
        f = self.focal(height)
        return np.array([[f, 0, (width - 1) / 2], [0, f, (height - 1) / 2], [0, 0, 1.0]])


@dataclass(frozen=True)
class Lamp:
    """A light; `directional` ones shine along `direction` from everywhere."""

    position: Vector
    direction: Vector
    diffuse: Vector
    directional: bool
    shadow: bool = False


@dataclass(frozen=True)
class Surface:
    """Texture name, size of one texture tile (metres) and tint of a table, wall or floor."""

    texture: str
    tile: float
    tint: Vector = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Room:
    """Table (half width, half depth), wall distance behind the table's middle, floor below."""

    table: Surface
    wall: Surface
    floor: Surface
    half_size: tuple[float, float]
    wall_distance: float
    floor_drop: float = 0.75


@dataclass(frozen=True)
class Sensor:
    """How the rendered picture becomes a camera's: gains per channel, gamma, blur and noise."""

    gain: Vector = (1.0, 1.0, 1.0)
    gamma: float = 1.0
    blur: float = 0.0
    noise: float = 0.0
    noise_seed: int = 0


@dataclass(frozen=True)
class Scene:
    """Everything of one picture. `seed` is the scene's own number within its split."""

    split: str
    seed: int
    room: Room
    camera: Camera
    lamps: tuple[Lamp, ...]
    ambient: Vector
    objects: tuple[Placement, ...]
    sensor: Sensor = field(default_factory=Sensor)
