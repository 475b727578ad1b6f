"""GLIGEN (Li et al., CVPR 2023): phrases and boxes become an image, or things in an image.

Boxes go to the network as fractions, one phrase for each, at most 30. Its pipeline takes phrases
of any length and then fails, so they are cut here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from unifiedmllm_ros.cancellation import Cancel
from unifiedmllm_ros.errors import MissingRegionError
from unifiedmllm_ros.experts.base import ImageResult, OnProgress, Request
from unifiedmllm_ros.experts.diffusion.expert import DiffusionExpert, Work
from unifiedmllm_ros.experts.diffusion.folder import Needs
from unifiedmllm_ros.experts.diffusion.options import LayoutSampling
from unifiedmllm_ros.experts.diffusion.prompts import fitting

MAX_BOXES = 30
"""How many boxes the network has places for."""

PIPELINE = 'StableDiffusionGLIGENPipeline'
# What the published folders say they are.
SAID = ('StableDiffusionPipeline', 'StableDiffusionGLIGENPipeline')

Placed = tuple[str, Any]


class GligenLayout(DiffusionExpert[LayoutSampling]):
    """Makes an image with things in given boxes."""

    sampling = LayoutSampling
    needs = Needs(
        PIPELINE, 'masterful/gligen-1-4-generation-text-box', others=SAID, channels=4, gated=True
    )

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> ImageResult:
        """Make the images of the request's argument, its regions in their boxes."""
        placed = [(region.phrase, box) for region in request.regions for box in region.boxes]
        if not placed:
            raise MissingRegionError(
                f'expert {self.name!r} got no box: give regions, or use task gen without them'
            )
        with self._work(request, progress, cancel) as work:
            options = work.options
            width, height = work.size(options.width, options.height)
            kept = first_boxes(work, placed)
            work.parameters |= {'width': width, 'height': height, 'boxes': len(kept)}
            work.tell_truncation(request.argument)
            output = work.call(
                request.argument,
                width=width,
                height=height,
                num_images_per_prompt=options.images,
                gligen_scheduled_sampling_beta=options.beta,
                gligen_phrases=phrases(work, [phrase for phrase, _ in kept]),
                gligen_boxes=[list(box.corners) for _, box in kept],
            )
            images = work.images(output)
        return ImageResult(work.provenance(), images)


def first_boxes(work: Work[Any], placed: Sequence[Placed]) -> Sequence[Placed]:
    """Return the (phrase, box) pairs that there is room for, with a notice of the others."""
    surplus = placed[MAX_BOXES:]
    if surplus:
        names = ', '.join(dict.fromkeys(phrase for phrase, _ in surplus))
        work.notices.append(
            f'{len(surplus)} of {len(placed)} boxes were left out ({names[:200]}): GLIGEN takes '
            f'{MAX_BOXES}.'
        )
    return placed[:MAX_BOXES]


def phrases(work: Work[Any], wanted: Sequence[str]) -> list[str]:
    """Return the phrases as far as the text encoder reads them, with a notice where it is less."""
    tokenizer = work.pipeline.tokenizer
    cut = [fitting(tokenizer, phrase) for phrase in wanted]
    shorter = sum(one != whole for one, whole in zip(cut, wanted, strict=True))
    if shorter:
        work.notices.append(
            f'{shorter} of {len(wanted)} phrases were cut off after '
            f'{tokenizer.model_max_length} tokens.'
        )
    return cut
