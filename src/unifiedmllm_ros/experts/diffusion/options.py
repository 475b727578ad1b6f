"""The options of a diffusion expert: how its pipeline is loaded, and how one request is sampled.

They come from two untrusted places, `defaults` in `config/experts.yaml` and the parameters of a
request; both are checked here, before anything heavy happens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import pydantic
from pydantic import BaseModel, ConfigDict, Field

from unifiedmllm_ros.errors import ConfigError, RequestError

Value = str | int | float | bool


class _Options(BaseModel):
    model_config = ConfigDict(extra='forbid', frozen=True, allow_inf_nan=False)


class Loading(_Options):
    """How the pipeline comes into memory; fixed while it is loaded."""

    pipeline: str = Field(
        default='', description="class of diffusers, '' for the one the expert is made for"
    )
    device: str = Field(default='auto', description='cpu, cuda, or auto: a GPU where there is one')
    dtype: Literal['auto', 'float32', 'float16', 'bfloat16'] = Field(
        default='auto', description='numbers of the networks; auto: float32 on a CPU, else half'
    )
    variant: str = Field(default='', description='variant of the weight files, such as fp16')
    offload: Literal['auto', 'resident', 'model', 'group', 'sequential'] = Field(
        default='auto', description='what stays on the GPU; auto: as its free memory allows'
    )
    safety_checker: bool = Field(
        default=True, description="whether to use the weights' own, if any"
    )
    vae_slicing: bool = Field(default=False, description='decode one image at a time')
    vae_tiling: bool = Field(default=False, description='decode large images in pieces')


class Sampling(_Options):
    """What every kind of request has; the defaults are those of Stable Diffusion 1.5."""

    steps: int = Field(default=50, ge=1, le=1000, description='denoising steps')
    guidance: float = Field(default=7.5, ge=0.0, le=100.0, description='weight of the prompt')
    negative_prompt: str = Field(default='', description='what should not be there')
    scheduler: str = Field(
        default='', description="class of diffusers, '' for the one that the weights came with"
    )
    preview_every: int = Field(
        default=0, ge=0, le=1000, description='steps between previews, 0 for none'
    )
    arguments: dict[str, Value] = Field(
        default_factory=dict, description='more arguments of the pipeline, by their own names'
    )


class ImageSampling(Sampling):
    """An image of a size of one's choice."""

    width: int = Field(default=512, ge=16, le=4096, description='pixels')
    height: int = Field(default=512, ge=16, le=4096, description='pixels')
    images: int = Field(default=1, ge=1, le=16, description='how many to make')


class LayoutSampling(ImageSampling):
    """An image with things at given places."""

    beta: float = Field(
        default=1.0, ge=0.0, le=1.0, description='share of the steps in which the boxes count'
    )


class EditSampling(Sampling):
    """A change of a whole image."""

    steps: int = Field(default=100, ge=1, le=1000, description='denoising steps')
    image_guidance: float = Field(
        default=1.5, ge=0.0, le=100.0, description='weight of the image that is edited'
    )
    size: int = Field(
        default=512, ge=16, le=4096, description='longer side that the network sees, in pixels'
    )


class RegionSampling(Sampling):
    """A change inside boxes of an image."""

    feather: int = Field(
        default=8, ge=0, le=256, description='pixels around a box that fade into the image'
    )
    context: float = Field(
        default=1.5, ge=1.0, le=8.0, description='side of the part that is seen, in boxes'
    )
    empty_prompt: str = Field(
        default='empty background', description='prompt where something is removed'
    )


class GligenRegionSampling(RegionSampling):
    """A change inside boxes, by GLIGEN."""

    beta: float = Field(
        default=1.0, ge=0.0, le=1.0, description='share of the steps in which the boxes count'
    )


class InpaintSampling(RegionSampling):
    """A change inside boxes, by inpainting."""

    size: int = Field(
        default=512, ge=16, le=4096, description='side of the square that the network sees'
    )


class VideoSampling(Sampling):
    """A video from text; the defaults of ModelScopeT2V."""

    guidance: float = Field(default=9.0, ge=0.0, le=100.0, description='weight of the prompt')
    width: int = Field(default=256, ge=16, le=4096, description='pixels')
    height: int = Field(default=256, ge=16, le=4096, description='pixels')
    frames: int = Field(default=16, ge=1, le=1024, description='length of the video')
    rate: float = Field(default=8.0, gt=0.0, le=240.0, description='frames per second')


class ImageVideoSampling(VideoSampling):
    """A video from an image and text; the defaults of I2VGen-XL."""

    width: int = Field(default=1280, ge=16, le=4096, description='pixels')
    height: int = Field(default=704, ge=16, le=4096, description='pixels')
    frames: int = Field(default=16, ge=2, le=1024, description='length of the video')
    rate: float = Field(default=16.0, gt=0.0, le=240.0, description='frames per second')
    decode_chunk: int = Field(
        default=1, ge=1, le=1024, description='frames that are decoded at once'
    )


S = TypeVar('S', bound=Sampling)


def split_defaults(name: str, defaults: Mapping[str, Any], sampling: type[S]) -> tuple[Loading, S]:
    """Return the checked defaults of the expert `name`. Raises ConfigError naming what is wrong."""
    fixed = {key: value for key, value in defaults.items() if key in Loading.model_fields}
    rest = {key: value for key, value in defaults.items() if key not in fixed}
    try:
        return Loading.model_validate(fixed), sampling.model_validate(rest)
    except pydantic.ValidationError as error:
        raise ConfigError(
            f'expert {name!r}: {_reasons(error)}; its options are {_known(Loading, sampling)}'
        ) from error


def overridden(name: str, options: S, parameters: Mapping[str, Any]) -> S:
    """Return options with the parameters of one request. Raises RequestError."""
    fixed = sorted(set(parameters) & set(Loading.model_fields))
    if fixed:
        raise RequestError(
            f'expert {name!r}: {", ".join(fixed)} cannot change with a request: set it under '
            'defaults in experts.yaml'
        )
    try:
        return type(options).model_validate({**options.model_dump(), **parameters})
    except pydantic.ValidationError as error:
        raise RequestError(
            f'expert {name!r}: {_reasons(error)}; its parameters are {_known(type(options))}'
        ) from error


def _known(*kinds: type[BaseModel]) -> str:
    return ', '.join(field for kind in kinds for field in kind.model_fields)


def _reasons(error: pydantic.ValidationError) -> str:
    return '; '.join(
        f'{".".join(map(str, one["loc"]))} = {str(one["input"])[:80]!r}: {one["msg"]}'
        for one in error.errors()
    )
