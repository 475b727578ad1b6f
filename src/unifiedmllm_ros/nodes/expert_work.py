"""One job of the experts, from messages to messages; runs in the worker's thread.

Knows messages but no node: nothing is published here.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.bridge.image import ImageLimits, image_to_rgb
from unifiedmllm_ros.bridge.results import needs_file, result_messages
from unifiedmllm_ros.bridge.task_call import parameter_values, task_call
from unifiedmllm_ros.cancellation import check
from unifiedmllm_ros.errors import ConfigError, ImageError, RequestError, VideoError
from unifiedmllm_ros.experts.base import Result
from unifiedmllm_ros.experts.files import read_video, save_result
from unifiedmllm_ros.nodes.configuration import ExpertParameters
from unifiedmllm_ros.nodes.job import Job, Order, Outcome, Phase
from unifiedmllm_ros.router import Router

MAX_SEED = 2**31 - 1
"""Largest seed that is drawn; any up to 2**63 - 1 may be given."""


@dataclass(frozen=True, eq=False)
class Inputs:
    """What the router gets: the first image, those after it, and their rate in Hz (0: unknown)."""

    image: NDArray[np.uint8] | None = None
    frames: tuple[NDArray[np.uint8], ...] = ()
    rate: float = 0.0

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the images, (0, 0) without any."""
        return (0, 0) if self.image is None else (self.image.shape[1], self.image.shape[0])


class ExpertWork:
    """Owns the router. Only the worker's thread may use it."""

    def __init__(self, router: Router) -> None:
        self.router = router

    def carry_out(self, job: Job, settings: ExpertParameters, header: Any) -> Outcome:
        """Do one job; everything it makes carries `header`.

        Raises:
            UnifiedMLLMError: the request, the input, the expert, its files, or the cancel.
        """
        job.enter(Phase.LOADING, 'read')
        call = task_call(job.order.call)
        seed = _seed(job.order.seed)
        values = {**parameter_values(job.order.parameters), **job.order.values}
        job.expert = self.router.registry.name_for(call.task)
        inputs = read_inputs(job.order, settings)
        job.facts = _facts(inputs, seed, values, call.argument)
        check(job.cancel, f'task {call.task}')
        job.enter(Phase.LOADING, 'load')
        result = self.router.run(
            call,
            inputs.image,
            frames=inputs.frames,
            rate=inputs.rate,
            seed=seed,
            parameters=values,
            progress=job.progress,
            cancel=job.cancel,
        )
        check(job.cancel, f'task {call.task}')
        return self._packed(job, call, result, inputs, settings, header)

    def _packed(
        self,
        job: Job,
        call: Any,
        result: Result,
        inputs: Inputs,
        settings: ExpertParameters,
        header: Any,
    ) -> Outcome:
        paths: list[Path] = []
        if needs_file(result, settings.max_message_pixels):
            job.enter(Phase.SAVING, 'save')
            stem = f'{time.strftime("%Y%m%d-%H%M%S")}-{call.task}-{secrets.token_hex(4)}'
            shape = None if inputs.image is None else (inputs.image.shape[0], inputs.image.shape[1])
            facts = {'task': call.task, 'argument': call.argument}
            paths = save_result(result, output_folder(settings), stem, shape=shape, facts=facts)
        messages = result_messages(result, inputs.size, header, settings.max_message_pixels)
        return Outcome(call, result, messages, tuple(map(str, paths)))


def read_inputs(order: Order, settings: ExpertParameters) -> Inputs:
    """Read the images or the video of an order.

    Raises:
        ImageError: an image that cannot be used, or images of several sizes.
        VideoError: a video that is missing, outside the allowed folders, or cannot be read.
        RequestError: images and a video at once.
    """
    if order.images and order.video_path:
        raise RequestError(
            f'images and the video {order.video_path!r} were given: send one or the other'
        )
    if order.video_path:
        return _video(order.video_path, settings)
    if len(order.images) > settings.max_video_frames:
        raise VideoError(
            f'{len(order.images)} images were given, at most {settings.max_video_frames} are taken '
            '(max_video_frames)'
        )
    limits = ImageLimits(max_pixels=settings.max_image_pixels)
    images = [image_to_rgb(message, limits) for message in order.images]
    for index, image in enumerate(images):
        if image.shape != images[0].shape:
            raise ImageError(
                f'image {index} is {image.shape[1]}x{image.shape[0]} and the first one '
                f'{images[0].shape[1]}x{images[0].shape[0]}: the frames of a video have one size'
            )
    return Inputs(images[0], tuple(images[1:])) if images else Inputs()


def output_folder(settings: ExpertParameters) -> Path:
    """Return the folder of the results. Raises ConfigError where it has no absolute path."""
    return _folder(settings.output_folder, 'output_folder')


def allowed_video(path: str, settings: ExpertParameters) -> Path:
    """Return the real path of a video that may be read.

    Raises:
        VideoError: it is not there, no file, or outside the allowed folders, links followed.
    """
    folders = [output_folder(settings)]
    folders += [
        _folder(one, 'input_folders') for one in settings.input_folders.split(os.pathsep) if one
    ]
    given = Path(path)
    if '\0' in path or not given.is_absolute():
        raise VideoError(f'video_path {path!r} is not an absolute path: give one')
    real = given.resolve()
    # Whether a file is there is told of allowed folders alone.
    if not any(real.is_relative_to(folder.resolve()) for folder in folders):
        raise VideoError(
            f'video {path!r} is in none of the folders {", ".join(map(str, folders))}: put it '
            'there or add its folder to input_folders'
        )
    if not real.is_file():
        raise VideoError(f'video {path!r} is not there, or is no file')
    return real


def _video(path: str, settings: ExpertParameters) -> Inputs:
    video = read_video(
        allowed_video(path, settings),
        max_frames=settings.max_video_frames,
        max_pixels=settings.max_image_pixels,
    )
    first, *others = video.frames
    return Inputs(first, tuple(others), video.rate)


def _folder(text: str, parameter: str) -> Path:
    try:
        folder = Path(text).expanduser()
    except RuntimeError as error:  # ~ without a home
        raise ConfigError(
            f'parameter {parameter} = {text!r}: {error}; give an absolute path'
        ) from error
    if not folder.is_absolute():
        raise ConfigError(f'parameter {parameter} = {text!r} is relative: give an absolute path')
    return folder


def _seed(given: int) -> int:
    if given < -1:
        raise RequestError(f'seed {given} is negative: give 0 or more, or -1 for one that is drawn')
    return secrets.randbelow(MAX_SEED + 1) if given == -1 else int(given)


def _facts(inputs: Inputs, seed: int, values: Mapping[str, Any], argument: str) -> dict[str, Any]:
    width, height = inputs.size
    return {
        'seed': seed,
        'input size': f'{width}x{height}' if width else '',
        'frames': (inputs.image is not None) + len(inputs.frames),
        'parameters': ', '.join(f'{name}={value}' for name, value in values.items()),
        'argument': argument if len(argument) <= 80 else argument[:79] + '…',
    }
