"""Text to image: Stable Diffusion 1.5 (Rombach et al., CVPR 2022), or any pipeline of diffusers.

Which one is a matter of configuration: `pipeline` names its class (StableDiffusionXLPipeline,
StableDiffusion3Pipeline, FluxPipeline ...), or DiffusionPipeline takes what the folder says it is.
"""

from __future__ import annotations

from unifiedmllm_ros.cancellation import Cancel
from unifiedmllm_ros.experts.base import ImageResult, OnProgress, Request
from unifiedmllm_ros.experts.diffusion.expert import DiffusionExpert
from unifiedmllm_ros.experts.diffusion.folder import Needs
from unifiedmllm_ros.experts.diffusion.options import ImageSampling


class TextToImage(DiffusionExpert[ImageSampling]):
    """Makes images from a prompt."""

    sampling = ImageSampling
    needs = Needs('StableDiffusionPipeline', 'stable-diffusion-v1-5/stable-diffusion-v1-5')

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> ImageResult:
        """Make the images of the request's argument."""
        with self._work(request, progress, cancel) as work:
            options = work.options
            width, height = work.size(options.width, options.height)
            work.parameters |= {'width': width, 'height': height}
            work.tell_truncation(request.argument)
            output = work.call(
                request.argument,
                width=width,
                height=height,
                num_images_per_prompt=options.images,
            )
            images = work.images(output)
        return ImageResult(work.provenance(), images)
