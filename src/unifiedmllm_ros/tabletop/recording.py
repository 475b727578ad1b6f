"""Records a camera moving over a test scene: a rosbag2 (mcap) with its ground truth beside it.

recording/            the bag: /camera/image/compressed, /camera/camera_info,
                      /camera/depth/image_raw, /camera/depth/camera_info
ground_truth.jsonl    a scene record per colour frame, with its `stamp` in nanoseconds
masks.npz             `labels` (frames, height, width) uint8: object index + 1, 0 elsewhere
scene.json            the objects, the questions to ask and which objects answer them
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.tabletop.camera_path import hover
from unifiedmllm_ros.tabletop.catalogue import CATALOGUE
from unifiedmllm_ros.tabletop.dataset import describe
from unifiedmllm_ros.tabletop.record import SceneRecord
from unifiedmllm_ros.tabletop.rendering import Frame, TableRenderer
from unifiedmllm_ros.tabletop.scene import Scene

FRAME_ID = 'camera_optical_frame'
START = 1_700_000_000_000_000_000
IMAGE_TOPIC = '/camera/image/compressed'
INFO_TOPIC = '/camera/camera_info'
DEPTH_TOPIC = '/camera/depth/image_raw'
DEPTH_INFO_TOPIC = '/camera/depth/camera_info'


@dataclass(frozen=True)
class Recording:
    """What to record: `questions` are (instruction, answering object names); every `depth_every`th
    frame has depth, `depth_scale` times smaller than the picture."""

    scene: Scene
    questions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    seconds: float = 12.0
    rate: float = 15.0
    width: int = 640
    height: int = 480
    quality: int = 88
    depth_every: int = 3
    depth_scale: int = 2


def record(recording: Recording, folder: Path) -> int:
    """Write the recording below `folder` and return its number of frames.

    Raises ConfigError when the folder already holds one.
    """
    bag = folder / 'recording'
    if bag.exists():
        raise ConfigError(f'{bag} exists already: remove it or record to another folder')
    folder.mkdir(parents=True, exist_ok=True)
    labels: list[NDArray[np.uint8]] = []
    names = [item.name for item in recording.scene.objects]
    surfaces = recording.scene.room
    textures = [surfaces.table.texture, surfaces.wall.texture, surfaces.floor.texture]
    size = (recording.width, recording.height)
    with (
        TableRenderer(*size, names, textures) as renderer,
        _BagWriter(bag, recording) as writer,
        open(folder / 'ground_truth.jsonl', 'w', encoding='utf-8') as truth,
    ):
        for number, (stamp, scene_record, frame) in enumerate(_frames(recording, renderer)):
            writer.write(stamp, frame, scene_record, number % recording.depth_every == 0)
            truth.write(json.dumps({'stamp': stamp, **_truth(scene_record, number)}) + '\n')
            labels.append(frame.labels)
    np.savez_compressed(folder / 'masks.npz', labels=np.stack(labels))
    _write_description(recording, folder / 'scene.json')
    return len(labels)


def _truth(scene_record: SceneRecord, number: int) -> dict[str, Any]:
    """A scene record whose picture is a frame of the bag and whose mask is one of masks.npz."""
    named = replace(scene_record, id=f'{number:06d}', image=IMAGE_TOPIC, mask=f'masks.npz#{number}')
    return named.to_json()


def _frames(
    recording: Recording, renderer: TableRenderer
) -> Iterator[tuple[int, SceneRecord, Frame]]:
    for number in range(round(recording.seconds * recording.rate)):
        seconds = number / recording.rate
        sensor = replace(recording.scene.sensor, noise_seed=number)
        scene = replace(
            recording.scene, camera=hover(seconds, recording.scene.camera.fovy), sensor=sensor
        )
        rendered = renderer.render(scene, depth=True)
        scene_record, frame = describe(scene, rendered, renderer.shapes)
        yield START + round(seconds * 1e9), scene_record, frame


def _write_description(recording: Recording, path: Path) -> None:
    scene = recording.scene
    description = {
        'objects': [
            {
                'name': item.name,
                'phrase': CATALOGUE[item.name].name,
                'kind': CATALOGUE[item.name].kind,
                'colour': CATALOGUE[item.name].colour,
                'held_out': CATALOGUE[item.name].held_out,
                'position': [item.x, item.y, 0.0],
            }
            for item in scene.objects
        ],
        'room': {
            'table': scene.room.table.texture,
            'wall': scene.room.wall.texture,
            'floor': scene.room.floor.texture,
        },
        'questions': [
            {'instruction': instruction, 'objects': list(objects)}
            for instruction, objects in recording.questions
        ],
        'frames': round(recording.seconds * recording.rate),
        'rate': recording.rate,
        'width': recording.width,
        'height': recording.height,
    }
    path.write_text(json.dumps(description, indent=1) + '\n', encoding='utf-8')


class _BagWriter:
    """The bag with its four topics."""

    def __init__(self, path: Path, recording: Recording) -> None:
        self._recording = recording
        self._types = get_typestore(Stores.ROS2_JAZZY)
        self._bag = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._bag.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> _BagWriter:
        self._bag.open()
        for topic, kind in (
            (IMAGE_TOPIC, 'CompressedImage'),
            (INFO_TOPIC, 'CameraInfo'),
            (DEPTH_TOPIC, 'Image'),
            (DEPTH_INFO_TOPIC, 'CameraInfo'),
        ):
            self._connections[topic] = self._bag.add_connection(
                topic, f'sensor_msgs/msg/{kind}', typestore=self._types
            )
        return self

    def __exit__(self, *reason: object) -> None:
        self._bag.close()

    def write(self, stamp: int, frame: Frame, scene: SceneRecord, with_depth: bool) -> None:
        """Write one frame; `stamp` in nanoseconds."""
        self._put(INFO_TOPIC, stamp, self._info(stamp, scene, 1))
        self._put(IMAGE_TOPIC, stamp, self._image(stamp, frame))
        if with_depth:
            scale = self._recording.depth_scale
            self._put(DEPTH_INFO_TOPIC, stamp, self._info(stamp, scene, scale))
            self._put(DEPTH_TOPIC, stamp, self._depth(stamp, frame))

    def _put(self, topic: str, stamp: int, message: Any) -> None:
        connection = self._connections[topic]
        self._bag.write(connection, stamp, self._types.serialize_cdr(message, connection.msgtype))

    def _type(self, name: str) -> Any:
        return self._types.types[name]

    def _header(self, stamp: int) -> Any:
        time = self._type('builtin_interfaces/msg/Time')(stamp // 10**9, stamp % 10**9)
        return self._type('std_msgs/msg/Header')(stamp=time, frame_id=FRAME_ID)

    def _image(self, stamp: int, frame: Frame) -> Any:
        quality = [cv2.IMWRITE_JPEG_QUALITY, self._recording.quality]
        _, data = cv2.imencode('.jpg', np.ascontiguousarray(frame.rgb[..., ::-1]), quality)
        kind = self._type('sensor_msgs/msg/CompressedImage')
        return kind(header=self._header(stamp), format='jpeg', data=data.ravel())

    def _depth(self, stamp: int, frame: Frame) -> Any:
        """Every `depth_scale`th pixel as 16UC1 millimetres: averaging would invent depths."""
        assert frame.depth is not None
        scale = self._recording.depth_scale
        near = frame.depth[scale // 2 :: scale, scale // 2 :: scale]
        millimetres = np.ascontiguousarray(np.rint(near * 1000).clip(0, 65535), dtype='<u2')
        height, width = millimetres.shape
        return self._type('sensor_msgs/msg/Image')(
            header=self._header(stamp),
            height=height,
            width=width,
            encoding='16UC1',
            is_bigendian=0,
            step=2 * width,
            data=millimetres.view(np.uint8).ravel(),
        )

    def _info(self, stamp: int, scene: SceneRecord, scale: int) -> Any:
        focal = scene.camera['focal'] / scale
        # ROS counts from the middle of the first pixel; the depth image takes pixels in steps.
        x, y = ((centre - 0.5 - scale // 2) / scale for centre in scene.camera['centre'])
        roi = self._type('sensor_msgs/msg/RegionOfInterest')(0, 0, 0, 0, False)
        return self._type('sensor_msgs/msg/CameraInfo')(
            header=self._header(stamp),
            height=scene.height // scale,
            width=scene.width // scale,
            distortion_model='plumb_bob',
            d=np.zeros(5),
            k=np.array([focal, 0, x, 0, focal, y, 0, 0, 1.0]),
            r=np.eye(3).ravel(),
            p=np.array([focal, 0, x, 0, 0, focal, y, 0, 0, 0, 1.0, 0]),
            binning_x=0,
            binning_y=0,
            roi=roi,
        )
