"""What experts give back, and where it comes from, as messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from builtin_interfaces.msg import Duration
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo

from unifiedmllm_ros import msg
from unifiedmllm_ros.bridge.error_codes import error_code, error_message
from unifiedmllm_ros.bridge.image import array_to_image
from unifiedmllm_ros.bridge.masks import label_info_message, masks_message
from unifiedmllm_ros.bridge.task_call import parameter_messages, task_call_message
from unifiedmllm_ros.bridge.text import encodable
from unifiedmllm_ros.errors import WriteError
from unifiedmllm_ros.experts.base import (
    AudioResult,
    ImageResult,
    Provenance,
    Result,
    SegmentationResult,
    VideoResult,
    VideoSegmentationResult,
)
from unifiedmllm_ros.masks import Mask, label_map
from unifiedmllm_ros.representation import TaskCall

_INT64 = 2**63


@dataclass(frozen=True, eq=False)
class ResultMessages:
    """The parts of a result that a message can carry."""

    images: list[Any] = field(default_factory=list)
    masks: Any = field(default_factory=Image)
    label_info: Any = field(default_factory=LabelInfo)


def result_messages(
    result: Result, size: tuple[int, int], header: Any, max_pixels: int
) -> ResultMessages:
    """Make the messages of a result.

    Images with more than `max_pixels` together, videos and sounds go into files (`needs_file`).

    Args:
        result: of an expert; of a video's masks those of the first frame are sent.
        size: (width, height) of the image that was segmented.
        header: std_msgs/Header of everything made here.
        max_pixels: most pixels of all images together.
    """
    if isinstance(result, SegmentationResult):
        return _masks(result.masks, size, header)
    if isinstance(result, VideoSegmentationResult) and result.frames:
        return _masks(result.frames[0], size, header)
    if isinstance(result, ImageResult) and not _large(result, max_pixels):
        return ResultMessages([array_to_image(one, 'rgb8', header) for one in result.images])
    return ResultMessages()


def needs_file(result: Result, max_pixels: int) -> bool:
    """Return whether a result does not fit a message and is told by the path of its file."""
    if isinstance(result, ImageResult):
        return _large(result, max_pixels)
    return not isinstance(result, SegmentationResult)


def provenance_message(task: str, provenance: Provenance) -> msg.Provenance:
    """Make the message that tells where a result of `task` comes from."""
    nanoseconds = max(0, round(provenance.duration_ms * 1e6))
    return msg.Provenance(
        task=encodable(task),
        expert=encodable(provenance.expert),
        backend=encodable(provenance.backend),
        weights=encodable(provenance.weights),
        device=encodable(provenance.device),
        dtype=encodable(provenance.dtype),
        seed=provenance.seed if -_INT64 <= provenance.seed < _INT64 else -1,
        parameters=parameter_messages(provenance.parameters),
        duration=Duration(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9),
        notices=[encodable(notice) for notice in provenance.notices],
    )


def task_result_message(call: TaskCall, result: Any) -> msg.TaskResult:
    """Make the message of a call that an expert node carried out; `result` of ExecuteTask."""
    return msg.TaskResult(
        call=task_call_message(call),
        images=result.images,
        paths=result.paths,
        provenance=result.provenance,
        error_code=result.error_code,
        error_msg=result.error_msg,
    )


def failed_task_result(call: TaskCall, error: BaseException) -> msg.TaskResult:
    """Make the message of a call that failed."""
    return msg.TaskResult(
        call=task_call_message(call),
        error_code=error_code(error),
        error_msg=encodable(error_message(error)),
    )


def local_task_result(call: TaskCall, result: Result, header: Any) -> msg.TaskResult:
    """Make the message of a call that was carried out in this process.

    Its images travel with it; for videos and sounds, which need files, it says that they were not
    kept.
    """
    message = msg.TaskResult(call=task_call_message(call))
    if isinstance(result, VideoResult | AudioResult):
        lost = WriteError(
            f'what task {call.task!r} made needs a file: set the parameter expert_node, so that '
            'an expert node writes it'
        )
        message = failed_task_result(call, lost)
    elif isinstance(result, ImageResult):
        message.images = [array_to_image(one, 'rgb8', header) for one in result.images]
    message.provenance = provenance_message(call.task, result.provenance)
    return message


def _large(result: ImageResult, max_pixels: int) -> bool:
    return sum(one.shape[0] * one.shape[1] for one in result.images) > max_pixels


def _masks(masks: Sequence[Mask], size: tuple[int, int], header: Any) -> ResultMessages:
    width, height = size
    labels, names = label_map(masks, height, width)
    return ResultMessages([], masks_message(labels, header), label_info_message(names, header))
