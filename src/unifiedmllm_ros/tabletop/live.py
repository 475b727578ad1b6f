"""The live simulated table: an endless stream of frames from a camera that hovers over a scene."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.tabletop.camera_path import hover
from unifiedmllm_ros.tabletop.catalogue import CATALOGUE, KNOWN
from unifiedmllm_ros.tabletop.rendering import TableRenderer
from unifiedmllm_ros.tabletop.sampling import Wanted, draw_scene
from unifiedmllm_ros.tabletop.scene import Scene
from unifiedmllm_ros.tabletop.textures import TEST

_LOADED = 14


@dataclass(frozen=True)
class LiveFrame:
    """One frame: `rgb` (H, W, 3) uint8, `depth` (H, W) float32 metres along the optical axis,
    `intrinsics` 3x3 matrix K."""

    rgb: NDArray[np.uint8]
    depth: NDArray[np.float32]
    intrinsics: NDArray[np.float64]


class LiveTable:
    """A test scene drawn by `seed`, seen by a moving camera; the same seed shows the same table.

    Use it from one thread only, and close it (or use it in a `with`): it holds a graphics context.
    Raises MissingExtraError when the extra [tabletop] is not installed.
    """

    def __init__(self, seed: int = 0, width: int = 640, height: int = 480) -> None:
        names = _some_objects(seed)
        self._renderer = TableRenderer(width, height, names, TEST.names)
        self.scene = self._crowded(seed)

    def __enter__(self) -> LiveTable:
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
        self._renderer.close()

    def frame(self, seconds: float) -> LiveFrame:
        """The frame at `seconds` since the start of the camera's path."""
        scene = replace(self.scene, camera=hover(seconds, self.scene.camera.fovy))
        taken = self._renderer.render(scene, depth=True, visible=False)
        assert taken.depth is not None
        size = (self._renderer.width, self._renderer.height)
        return LiveFrame(taken.rgb, taken.depth, scene.camera.intrinsics(*size))

    def frames(self, rate: float = 15.0) -> Iterator[LiveFrame]:
        """Frames without end, `rate` of them for a second of the camera's path."""
        for number in itertools.count():
            yield self.frame(number / rate)

    def _crowded(self, seed: int) -> Scene:
        """The first scene of the seed with at least five objects, in plain light."""
        for number in itertools.count():
            scene = draw_scene(Wanted('test', seed=seed), number, self._renderer.shapes)
            if len(scene.objects) >= 5:
                lamps = tuple(replace(lamp, shadow=False) for lamp in scene.lamps)
                return replace(scene, lamps=lamps)
        raise AssertionError('itertools.count() ends never')


def _some_objects(seed: int) -> tuple[str, ...]:
    """A dozen objects of many kinds: loading all takes half a minute."""
    rng = np.random.default_rng([3, seed])
    kinds = rng.permutation(sorted({CATALOGUE[name].kind for name in KNOWN}))
    chosen = [
        str(rng.choice([name for name in KNOWN if CATALOGUE[name].kind == kind])) for kind in kinds
    ]
    others = [str(name) for name in rng.permutation(KNOWN) if name not in chosen]
    return tuple((chosen + others)[:_LOADED])
