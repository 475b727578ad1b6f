"""Task calls and their parameters as messages, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from diagnostic_msgs.msg import KeyValue

from unifiedmllm_ros import msg
from unifiedmllm_ros.bridge.detections import confidence
from unifiedmllm_ros.bridge.text import encodable
from unifiedmllm_ros.errors import RequestError
from unifiedmllm_ros.representation import Box, Region, TaskCall

Scalar = bool | int | float | str
MAX_ARGUMENT = 20_000
MAX_VALUE = 4_000


def task_call(message: Any) -> TaskCall:
    """Read a TaskCall message; whether its task exists is the router's affair.

    Raises:
        RepresentationError: a box out of range or without extent, a region without box.
        RequestError: an argument of more than `MAX_ARGUMENT` characters.
    """
    if len(message.argument) > MAX_ARGUMENT:
        raise RequestError(
            f'the argument of task {message.task!r} has {len(message.argument)} characters: at '
            f'most {MAX_ARGUMENT} are taken'
        )
    return TaskCall(message.task, message.argument, regions(message.regions))


def regions(messages: Iterable[Any]) -> tuple[Region, ...]:
    """Read Region messages. Raises RepresentationError."""
    return tuple(Region(one.phrase, tuple(_box_of(box) for box in one.boxes)) for one in messages)


def task_call_message(call: TaskCall) -> msg.TaskCall:
    """Make the message of a task call."""
    return msg.TaskCall(
        task=encodable(call.task),
        argument=encodable(call.argument, MAX_ARGUMENT),
        regions=[region_message(region) for region in call.regions],
    )


def region_message(region: Region) -> msg.Region:
    """Make the message of a region."""
    return msg.Region(phrase=region.phrase, boxes=[_box(box) for box in region.boxes])


def parameter_values(pairs: Iterable[Any]) -> dict[str, Scalar]:
    """Read KeyValue messages whose values are written as in YAML: 20, 7.5, true, a word.

    Raises:
        RequestError: a name that is empty or given twice, a value that is no scalar.
    """
    values: dict[str, Scalar] = {}
    for pair in pairs:
        if not pair.key or pair.key in values:
            problem = 'is given twice' if pair.key else 'has no name'
            raise RequestError(f'parameter {pair.key!r} {problem}: name each once')
        values[pair.key] = _scalar(pair.key, pair.value)
    return values


def parameter_messages(values: Mapping[str, Any]) -> list[KeyValue]:
    """Make KeyValue messages that `parameter_values` reads back where values are scalars."""
    return [
        KeyValue(key=encodable(str(name)), value=encodable(_written(value)))
        for name, value in values.items()
    ]


def _scalar(name: str, text: str) -> Scalar:
    if len(text) > MAX_VALUE:
        raise RequestError(f'parameter {name!r} has {len(text)} characters: at most {MAX_VALUE}')
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text  # a sentence with a colon is still a sentence
    if isinstance(value, float) and not math.isfinite(value):
        raise RequestError(f'parameter {name!r} = {text!r} is not a finite number')
    if isinstance(value, bool | int | float | str):
        return value
    raise RequestError(
        f'parameter {name!r} = {text!r} is a {type(value).__name__}: give a number, true, false or '
        'a word'
    )


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str) and _scalar_like(value):
        quoted = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=math.inf)
        return str(quoted).removesuffix('\n')
    return str(value)


def _scalar_like(text: str) -> bool:
    """Whether YAML would read a word as something else."""
    try:
        return yaml.safe_load(text) != text
    except (yaml.YAMLError, ValueError, RecursionError):
        return False


def _box_of(message: Any) -> Box:
    return Box(message.x1, message.y1, message.x2, message.y2, message.confidence)


def _box(box: Box) -> msg.Box:
    return msg.Box(x1=box.x1, y1=box.y1, x2=box.x2, y2=box.y2, confidence=confidence(box))
