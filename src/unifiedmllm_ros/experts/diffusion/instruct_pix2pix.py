"""InstructPix2Pix (Brooks et al., CVPR 2023): an image is edited as an instruction says."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel
from unifiedmllm_ros.experts.base import ImageResult, OnProgress, Request, needed_image
from unifiedmllm_ros.experts.diffusion.expert import DiffusionExpert
from unifiedmllm_ros.experts.diffusion.folder import Needs
from unifiedmllm_ros.experts.diffusion.options import EditSampling

# The smallest side that all levels of the network can halve.
_LEAST = 64


class InstructPix2Pix(DiffusionExpert[EditSampling]):
    """Edits a whole image as an instruction says; the result has the size of the image."""

    sampling = EditSampling
    needs = Needs(
        'StableDiffusionInstructPix2PixPipeline', 'timbrooks/instruct-pix2pix', channels=8
    )

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> ImageResult:
        """Edit the request's image as its argument says."""
        from PIL import Image

        image = needed_image(request, self.name)
        with self._work(request, progress, cancel) as work:
            height, width = image.shape[:2]
            seen = seen_size(width, height, work.options.size, work.multiple)
            work.parameters |= {'width': seen[0], 'height': seen[1]}
            work.tell_truncation(request.argument, 'instruction')
            output = work.call(
                request.argument,
                image=Image.fromarray(_resized(image, seen)),
                image_guidance_scale=work.options.image_guidance,
            )
            images = tuple(_resized(one, (width, height)) for one in work.images(output))
        return ImageResult(work.provenance(), images)


def seen_size(width: int, height: int, longer: int, step: int) -> tuple[int, int]:
    """Return (width, height) in which the network sees an image: longer side `longer`, about.

    Sides are multiples of `step`, and at least as long as the network can take.
    """
    scale = longer / max(width, height)
    least = -(-_LEAST // step)
    return (
        max(round(width * scale / step), least) * step,
        max(round(height * scale / step), least) * step,
    )


def _resized(image: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    if image.shape[1::-1] == size:
        return np.ascontiguousarray(image)
    smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
