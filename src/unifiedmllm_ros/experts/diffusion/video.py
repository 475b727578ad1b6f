"""Text to video and image to video: ModelScopeT2V, I2VGen-XL, or any such pipeline of diffusers.

ModelScopeT2V: Wang et al., 2023, arXiv 2308.06571. I2VGen-XL: Zhang et al., 2023, arXiv 2311.04145.
"""

from __future__ import annotations

from typing import Any

from unifiedmllm_ros.cancellation import Cancel
from unifiedmllm_ros.experts.base import OnProgress, Request, VideoResult, needed_image
from unifiedmllm_ros.experts.diffusion.expert import DiffusionExpert, Work
from unifiedmllm_ros.experts.diffusion.folder import Needs
from unifiedmllm_ros.experts.diffusion.options import ImageVideoSampling, VideoSampling

_I2VGEN = 'I2VGenXLPipeline'


class TextToVideo(DiffusionExpert[VideoSampling]):
    """Makes a video from a prompt."""

    sampling = VideoSampling
    needs = Needs('TextToVideoSDPipeline', 'ali-vilab/text-to-video-ms-1.7b')

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> VideoResult:
        """Make the video of the request's argument."""
        with self._work(request, progress, cancel) as work:
            options = work.options
            width, height = work.size(options.width, options.height)
            work.parameters |= {'width': width, 'height': height}
            work.tell_truncation(request.argument)
            work.job.decodes = options.frames if self._loading.vae_slicing else 1
            output = work.call(
                request.argument, width=width, height=height, num_frames=options.frames
            )
            frames = tuple(work.pixels(output.frames[0]))
            tell_length(work, len(frames))
        return VideoResult(work.provenance(), frames, options.rate)


class ImageToVideo(DiffusionExpert[ImageVideoSampling]):
    """Brings an image to life as a prompt says; its middle is taken where the shape differs."""

    sampling = ImageVideoSampling
    needs = Needs(_I2VGEN, 'ali-vilab/i2vgen-xl', half='bfloat16')

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> VideoResult:
        """Make a video of the request's image as its argument says."""
        from PIL import Image

        image = needed_image(request, self.name)
        with self._work(request, progress, cancel) as work:
            options = work.options
            work.job.decodes = -(-options.frames // options.decode_chunk)
            width, height = work.size(options.width, options.height)
            work.parameters |= {'width': width, 'height': height}
            work.tell_truncation(request.argument)
            own = type(work.pipeline).__name__ == _I2VGEN
            output = work.call(
                request.argument,
                **(_embedded(work, request.argument) if own else {}),
                image=Image.fromarray(image),
                width=width,
                height=height,
                num_frames=options.frames,
                target_fps=round(options.rate),
                decode_chunk_size=options.decode_chunk,
            )
            frames = tuple(work.pixels(output.frames[0]))
            tell_length(work, len(frames))
        return VideoResult(work.provenance(), frames, options.rate)


def tell_length(work: Work[Any], made: int) -> None:
    """Note the length of a video, with a notice where it is not the one asked for."""
    if made != work.options.frames:
        work.notices.append(
            f'The video has {made} frames and not {work.options.frames}: its pipeline makes '
            'certain lengths only.'
        )
    work.parameters['frames'] = made


def _embedded(work: Work[ImageVideoSampling], prompt: str) -> dict[str, Any]:
    """The prompt as I2VGen-XL was trained to read it: from the layer before the last.

    Its pipeline does this itself with `clip_skip` = 1, and fails there with text encoders of
    transformers 5.6 and newer, which have one level less.
    """
    options = work.options
    return {
        'prompt': None,
        'clip_skip': None,
        'prompt_embeds': _penultimate(work.pipeline, prompt),
        'negative_prompt': None,
        'negative_prompt_embeds': _penultimate(work.pipeline, options.negative_prompt),
    }


def _penultimate(pipeline: Any, text: str) -> Any:
    import torch

    encoder = pipeline.text_encoder
    ids = pipeline.tokenizer(
        text,
        padding='max_length',
        max_length=pipeline.tokenizer.model_max_length,
        truncation=True,
        return_tensors='pt',
    ).input_ids
    with torch.no_grad():
        states = encoder(
            ids.to(pipeline._execution_device), output_hidden_states=True
        ).hidden_states
        norm = getattr(encoder, 'text_model', encoder).final_layer_norm
        return norm(states[-2])
