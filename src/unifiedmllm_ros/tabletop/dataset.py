"""Writes simulated scenes to a folder: images/*.jpg, masks/*.png and scenes.jsonl.

scenes.jsonl grows line by line, in order, after the pictures of a scene are on disk: a reader may
use whatever is there, and a broken run goes on where it stopped with the same result.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.tabletop.catalogue import CATALOGUE, KNOWN
from unifiedmllm_ros.tabletop.record import ObjectRecord, SceneRecord
from unifiedmllm_ros.tabletop.rendering import Frame, TableRenderer
from unifiedmllm_ros.tabletop.sampling import Wanted, draw_scene
from unifiedmllm_ros.tabletop.scene import Scene
from unifiedmllm_ros.tabletop.shapes import Shape
from unifiedmllm_ros.tabletop.textures import textures_of

JPEG_QUALITY = 92


@dataclass(frozen=True)
class DatasetRequest:
    """What to write: `count` scenes of `wanted`, `width` x `height` pixels, below `folder`.

    `names` limits the objects (all that the split may show, by default).
    """

    folder: Path
    count: int
    wanted: Wanted
    width: int = 320
    height: int = 240
    names: tuple[str, ...] | None = None

    @property
    def objects(self) -> tuple[str, ...]:
        """Catalogue keys that may appear."""
        if self.names is not None:
            return self.names
        return tuple(CATALOGUE) if self.wanted.held_out else KNOWN


def write_dataset(
    request: DatasetRequest, workers: int = 1, on_scene: Callable[[int], None] | None = None
) -> int:
    """Write the scenes that are still missing and return how many were.

    `on_scene` is told the number of scenes on disk after each one. Raises ConfigError when the
    folder holds scenes of another request.
    """
    for name in ('images', 'masks'):
        (request.folder / name).mkdir(parents=True, exist_ok=True)
    _check_same(request)
    index = request.folder / 'scenes.jsonl'
    done = _complete_lines(index)
    missing = range(done, request.count)
    if on_scene is not None:
        on_scene(done)
    with open(index, 'a', encoding='utf-8') as lines:
        for line in _lines(request, missing, workers):
            lines.write(line + '\n')
            lines.flush()
            done += 1
            if on_scene is not None:
                on_scene(done)
    return len(missing)


def _check_same(request: DatasetRequest) -> None:
    """Going on in a folder needs the request that began it."""
    asked = {
        'split': request.wanted.split,
        'held_out': request.wanted.held_out,
        'seed': request.wanted.seed,
        'width': request.width,
        'height': request.height,
        'objects': list(request.objects),
    }
    path = request.folder / 'dataset.json'
    if not path.exists():
        path.write_text(json.dumps(asked, indent=1) + '\n', encoding='utf-8')
        return
    begun = json.loads(path.read_text(encoding='utf-8'))
    for name, value in asked.items():
        if begun.get(name) != value:
            raise ConfigError(
                f'{request.folder} was begun with {name} {begun.get(name)!r}, not {value!r}: '
                'give the same again, or another folder'
            )


def _complete_lines(index: Path) -> int:
    """Number of whole scenes in `index`; a line cut short by a crash is removed."""
    if not index.exists():
        return 0
    content = index.read_bytes()
    whole = content[: content.rfind(b'\n') + 1]
    if len(whole) != len(content):
        index.write_bytes(whole)
    return whole.count(b'\n')


def _lines(request: DatasetRequest, numbers: range, workers: int) -> Iterator[str]:
    if not numbers:
        return
    if workers <= 1:
        with _renderer(request) as renderer:
            for number in numbers:
                yield write_scene(request, renderer, number)
        return
    context = multiprocessing.get_context('spawn')
    with context.Pool(workers, _start_worker, (request,)) as pool:
        yield from pool.imap(_work, numbers, chunksize=8)


def _renderer(request: DatasetRequest) -> TableRenderer:
    textures = textures_of(request.wanted.split).names
    return TableRenderer(request.width, request.height, request.objects, textures)


_worker: dict[str, Any] = {}


def _start_worker(request: DatasetRequest) -> None:
    _worker.update(request=request, renderer=_renderer(request))


def _work(number: int) -> str:
    return write_scene(_worker['request'], _worker['renderer'], number)


def write_scene(request: DatasetRequest, renderer: TableRenderer, number: int) -> str:
    """Render scene `number`, write its two pictures and return its line of scenes.jsonl."""
    scene = draw_scene(request.wanted, number, renderer.shapes)
    record, frame = describe(scene, renderer.render(scene), renderer.shapes)
    quality = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    cv2.imwrite(str(request.folder / record.image), frame.rgb[..., ::-1], quality)
    cv2.imwrite(str(request.folder / record.mask), frame.labels)
    held_out = any(CATALOGUE[item.name].held_out for item in record.objects)
    return json.dumps({**record.to_json(), 'held_out': held_out})


def describe(scene: Scene, frame: Frame, shapes: dict[str, Shape]) -> tuple[SceneRecord, Frame]:
    """The record of a rendered scene, and its frame with the labels of that record.

    Objects of which no pixel is seen are left out; the labels count those that remain.
    """
    height, width = frame.labels.shape
    seen = [i for i in range(len(scene.objects)) if (frame.labels == i + 1).any()]
    table = np.zeros(256, dtype=np.uint8)
    table[[i + 1 for i in seen]] = np.arange(1, len(seen) + 1)
    visible = tuple(frame.visible[i] for i in seen)
    frame = Frame(frame.rgb, table[frame.labels], visible, frame.depth)
    objects = tuple(_object_record(scene, frame, shapes, old, new) for new, old in enumerate(seen))
    stem = f'{scene.seed:06d}'
    record = SceneRecord(
        id=stem,
        split=scene.split,
        seed=scene.seed,
        image=f'images/{stem}.jpg',
        mask=f'masks/{stem}.png',
        width=width,
        height=height,
        camera=_camera_json(scene, width, height),
        objects=objects,
    )
    return record, frame


def _object_record(
    scene: Scene, frame: Frame, shapes: dict[str, Shape], old: int, new: int
) -> ObjectRecord:
    item = scene.objects[old]
    points = shapes[item.name].placed(item)
    low, high = points.min(axis=0), points.max(axis=0)
    middle = (low + high) / 2
    mask = frame.labels == new + 1
    return ObjectRecord(
        index=new,
        name=item.name,
        box=pixel_box(mask),
        area=int(mask.sum()),
        visible=round(frame.visible[new], 3),
        position=_rounded(middle),
        position_camera=_rounded(scene.camera.to_camera(middle[None])[0]),
        size=_rounded(high - low),
    )


def pixel_box(mask: NDArray[np.bool_]) -> tuple[float, float, float, float]:
    """Smallest box (x1, y1, x2, y2) in [0, 1] around the set pixels of `mask` (H, W)."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    corners = (
        columns[0] / width,
        rows[0] / height,
        (columns[-1] + 1) / width,
        (rows[-1] + 1) / height,
    )
    x1, y1, x2, y2 = (round(float(value), 5) for value in corners)
    return (x1, y1, x2, y2)


def _rounded(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (round(float(value), 4) for value in values)
    return (x, y, z)


def _camera_json(scene: Scene, width: int, height: int) -> dict[str, Any]:
    camera = scene.camera
    return {
        'position': [round(float(v), 4) for v in camera.position],
        'rotation': [[round(float(v), 5) for v in row] for row in camera.rotation],
        'fovy': round(camera.fovy, 3),
        'focal': round(camera.focal(height), 3),
        'centre': [width / 2, height / 2],
    }
