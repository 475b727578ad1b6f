"""Topics and actions of the nodes, as the documentation lists them.

A test holds them against the running nodes; `documentation` writes them as tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """One topic: `name` relative to the namespace, `kind` its message, `direction` in or out."""

    name: str
    kind: str
    direction: str
    meaning: str


@dataclass(frozen=True)
class Action:
    """One action or service: `name` relative to the namespace, `kind` its type."""

    name: str
    kind: str
    meaning: str


PERCEPTION_TOPICS = (
    Topic('image', 'sensor_msgs/msg/Image', 'in', 'camera images, with `input` = `raw`'),
    Topic(
        'image/compressed',
        'sensor_msgs/msg/CompressedImage',
        'in',
        'camera images (JPEG, PNG, WebP), with `input` = `compressed`',
    ),
    Topic(
        'instruction',
        'std_msgs/msg/String',
        'in',
        'standing instruction: asked of the newest image at once and of each new one',
    ),
    Topic(
        'depth',
        'sensor_msgs/msg/Image',
        'in',
        'depth registered to the image (16UC1 mm or 32FC1 m), with `use_depth`',
    ),
    Topic(
        'camera_info',
        'sensor_msgs/msg/CameraInfo',
        'in',
        'intrinsics of the image, with `use_depth`',
    ),
    Topic(
        'response',
        'unifiedmllm_ros/msg/Response',
        'out',
        'the answer: prose, regions, task calls, times; or why there is none (`error_code`)',
    ),
    Topic(
        'detections',
        'vision_msgs/msg/Detection2DArray',
        'out',
        'boxes in pixels: phrase in `class_id`, confidence in `score`; empty when nothing is found',
    ),
    Topic(
        'masks',
        'sensor_msgs/msg/Image',
        'out',
        'label map (mono8, or 16UC1 from 256 labels): 0 background, k the mask of detection k - 1',
    ),
    Topic(
        'label_info', 'vision_msgs/msg/LabelInfo', 'out', 'phrase of each label of `masks`; latched'
    ),
    Topic(
        'detections_3d',
        'vision_msgs/msg/Detection3DArray',
        'out',
        'boxes in the camera frame in metres, when `depth` and `camera_info` come',
    ),
    Topic(
        'overlay/compressed',
        'sensor_msgs/msg/CompressedImage',
        'out',
        'the image with the answer drawn into it, while someone listens',
    ),
    Topic(
        '/diagnostics',
        'diagnostic_msgs/msg/DiagnosticArray',
        'out',
        'state, model, rates, age of frames, drops, times of the stages, last error',
    ),
)
PERCEPTION_ACTIONS = (
    Action(
        'ask',
        'unifiedmllm_ros/action/Ask',
        'one question about the newest image, or about one sent along; the answer so far as '
        'feedback; can be cancelled at any moment',
    ),
)
EXPERT_TOPICS = (
    Topic(
        '/diagnostics',
        'diagnostic_msgs/msg/DiagnosticArray',
        'out',
        'one status for the node, one for each expert, one for each job or the last one',
    ),
)
EXPERT_ACTIONS = (
    Action(
        'execute_task',
        'unifiedmllm_ros/action/ExecuteTask',
        'one task call, of any task; phase, progress, place in the queue and previews as feedback; '
        'can be cancelled at any moment',
    ),
)
EXPERT_SERVICES = (
    Action(
        'edit_image',
        'unifiedmllm_ros/srv/EditImage',
        'change an image, or regions of it (`edit`, `regedit`); answered when it is done',
    ),
    Action(
        'generate_image',
        'unifiedmllm_ros/srv/GenerateImage',
        'make an image from text, or from text and boxes (`gen`, `layout`); answered when it is '
        'done',
    ),
    Action(
        'list_experts',
        'unifiedmllm_ros/srv/ListExperts',
        'the experts with their tasks, state, memory and licence',
    ),
    Action(
        'unload_expert',
        'unifiedmllm_ros/srv/UnloadExpert',
        'free the memory of an expert; refused while it is at work',
    ),
)
TABLETOP_CAMERA_TOPICS = (
    Topic('image', 'sensor_msgs/msg/Image', 'out', 'the picture, rgb8'),
    Topic(
        'image/compressed',
        'sensor_msgs/msg/CompressedImage',
        'out',
        'the picture as JPEG, with `compressed`',
    ),
    Topic('depth', 'sensor_msgs/msg/Image', 'out', '32FC1, metres, with `publish_depth`'),
    Topic('camera_info', 'sensor_msgs/msg/CameraInfo', 'out', 'intrinsics of all three'),
)


def topic_table(topics: Sequence[Topic]) -> str:
    """Write topics as a Markdown table, those that come in first."""
    lines = ['| topic | | type | what |', '|---|---|---|---|']
    lines += [f'| `{t.name}` | {t.direction} | `{_short(t.kind)}` | {t.meaning} |' for t in topics]
    return '\n'.join(lines) + '\n'


def action_table(actions: Sequence[Action], head: str = 'action') -> str:
    """Write actions, or services with another `head`, as a Markdown table."""
    lines = [f'| {head} | type | what |', '|---|---|---|']
    lines += [f'| `{a.name}` | `{_short(a.kind)}` | {a.meaning} |' for a in actions]
    return '\n'.join(lines) + '\n'


def _short(kind: str) -> str:
    package, _, name = kind.split('/')
    return f'{package}/{name}'
