"""Edits inside the boxes of an image: GLIGEN inpainting, and Stable Diffusion inpainting.

Both see a square part of the image around the boxes and give it back whole, all of it changed a
little by the autoencoder. Only what lies in the boxes and their feathered rims is laid into the
image; every other pixel stays as it was.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel
from unifiedmllm_ros.errors import MissingRegionError
from unifiedmllm_ros.experts.base import (
    ImageResult,
    OnProgress,
    PixelBox,
    Request,
    needed_image,
)
from unifiedmllm_ros.experts.diffusion.expert import DiffusionExpert, Work
from unifiedmllm_ros.experts.diffusion.folder import Needs
from unifiedmllm_ros.experts.diffusion.gligen import PIPELINE, SAID, first_boxes, phrases
from unifiedmllm_ros.experts.diffusion.instructions import Instruction, understood
from unifiedmllm_ros.experts.diffusion.options import (
    GligenRegionSampling,
    InpaintSampling,
    RegionSampling,
)
from unifiedmllm_ros.experts.diffusion.window import Window, feathered, window_around

R = TypeVar('R', bound=RegionSampling)


class GligenInpaint(DiffusionExpert[GligenRegionSampling]):
    """Puts what the instruction wants into the boxes of an image.

    GLIGEN places things; where one is to be removed, its boxes are filled by the prompt alone
    (`empty_prompt`), the same network without its grounding.
    """

    sampling = GligenRegionSampling
    needs = Needs(
        PIPELINE, 'masterful/gligen-1-4-inpainting-text-box', others=SAID, channels=9, gated=True
    )

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> ImageResult:
        """Edit the request's image in its boxes as its argument says."""
        from PIL import Image

        image = needed_image(request, self.name)
        boxes = needed_boxes(request, self.name)
        with self._work(request, progress, cancel) as work:
            kept = [box for _, box in first_boxes(work, [(box.phrase, box) for box in boxes])]
            size = int(work.pipeline.vae.config.sample_size)
            window = framed(work, kept, image, size)
            wanted = [understood(request.argument, box.phrase) for box in kept]
            prompt, negative = described(work, wanted, kept)
            # Without grounding in the first step there is none at all.
            beta = work.options.beta if any(one.wanted for one in wanted) else 0.0
            if not any(one.wanted for one in wanted):
                work.notices.append(
                    'GLIGEN places things and was asked to remove one: it filled the boxes by the '
                    'prompt alone. An expert for inpainting is made for that.'
                )
            work.parameters |= {'prompt': prompt, 'beta': beta, 'boxes': len(kept)}
            work.tell_truncation(prompt)
            output = work.call(
                prompt,
                negative_prompt=negative or None,
                width=size,
                height=size,
                gligen_inpaint_image=Image.fromarray(window.cut(image, size)),
                gligen_scheduled_sampling_beta=beta,
                gligen_phrases=phrases(work, [one.wanted or prompt for one in wanted]),
                gligen_boxes=[list(window.cells(box, size)) for box in kept],
            )
            images = pasted(work, output, window, kept, image)
        return ImageResult(work.provenance(), images)


class Inpaint(DiffusionExpert[InpaintSampling]):
    """Fills the boxes of an image: the background where a thing is removed, else what is wanted."""

    sampling = InpaintSampling
    needs = Needs(
        'StableDiffusionInpaintPipeline',
        'stable-diffusion-v1-5/stable-diffusion-inpainting',
        channels=9,
    )

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> ImageResult:
        """Edit the request's image in its boxes as its argument says."""
        from PIL import Image

        image = needed_image(request, self.name)
        boxes = needed_boxes(request, self.name)
        with self._work(request, progress, cancel) as work:
            size, _ = work.size(work.options.size, work.options.size)
            window = framed(work, boxes, image, size)
            wanted = [understood(request.argument, box.phrase) for box in boxes]
            prompt, negative = described(work, wanted, boxes)
            work.parameters |= {'prompt': prompt, 'boxes': len(boxes)}
            work.tell_truncation(prompt)
            output = work.call(
                prompt,
                negative_prompt=negative or None,
                width=size,
                height=size,
                image=Image.fromarray(window.cut(image, size)),
                mask_image=Image.fromarray(window.mask(boxes, size)),
            )
            images = pasted(work, output, window, boxes, image)
        return ImageResult(work.provenance(), images)


def needed_boxes(request: Request, name: str) -> tuple[PixelBox, ...]:
    """Return the boxes of a request to the expert `name`. Raises MissingRegionError."""
    if not request.boxes:
        raise MissingRegionError(
            f'expert {name!r} needs to know where to edit and got no box: give a region'
        )
    return request.boxes


def framed(
    work: Work[R], boxes: list[PixelBox] | tuple[PixelBox, ...], image: NDArray[np.uint8], size: int
) -> Window:
    """Return the part of the image that the network sees, and note it."""
    height, width = image.shape[:2]
    window = window_around(boxes, height, width, work.options.context, size)
    work.parameters |= {'size': size, 'window': [window.left, window.top, window.side]}
    return window


def described(
    work: Work[R],
    wanted: list[Instruction],
    boxes: list[PixelBox] | tuple[PixelBox, ...],
) -> tuple[str, str]:
    """Return the prompt and the negative prompt of an edit.

    Where a thing is removed, the prompt is that of an empty place and the thing is unwanted.
    """
    options = work.options
    work.parameters['operation'] = wanted[0].operation
    seen = ' and '.join(dict.fromkeys(one.wanted for one in wanted if one.wanted))
    if seen:
        return seen, options.negative_prompt
    removed = ', '.join(dict.fromkeys(box.phrase for box in boxes if box.phrase))
    unwanted = ', '.join(part for part in (options.negative_prompt, removed) if part)
    work.parameters['negative_prompt'] = unwanted
    return options.empty_prompt, unwanted


def pasted(
    work: Work[R],
    output: Any,
    window: Window,
    boxes: list[PixelBox] | tuple[PixelBox, ...],
    image: NDArray[np.uint8],
) -> tuple[NDArray[np.uint8], ...]:
    """Return the image with what was made laid into its boxes."""
    height, width = image.shape[:2]
    weight = feathered(boxes, height, width, work.options.feather)
    return tuple(window.paste(image, made, weight) for made in work.images(output))
