"""FRESCO as an expert: a video and an instruction become an edited video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import ConfigError, ModelFileError, VideoError
from unifiedmllm_ros.experts.base import (
    OnProgress,
    Progress,
    Request,
    VideoResult,
    needed_image,
)
from unifiedmllm_ros.experts.diffusion.expert import DiffusionExpert, Work
from unifiedmllm_ros.experts.diffusion.folder import Needs
from unifiedmllm_ros.experts.diffusion.pipeline import first_line, load_network
from unifiedmllm_ros.experts.fresco.batches import batched, seen_size
from unifiedmllm_ros.experts.fresco.keyframes import changes, key_frames
from unifiedmllm_ros.experts.fresco.options import FrescoSampling

Frame = NDArray[np.uint8]

LICENCE_NOTICE = (
    'FRESCO was published under the S-Lab License 1.0: its method is not for commercial use.'
)
# Where decoding begins, and the share that it and the frames between the keys take.
_DECODING, _REST = 0.9, 0.099


class Fresco(DiffusionExpert[FrescoSampling]):
    """Edits a video by its key frames; the frames between follow the optical flow.

    weights: a folder of Stable Diffusion 1.5. controlnet: folder of a ControlNet for Canny edges,
    relative to it. flow: `dis` (OpenCV, classical) or the path of an ONNX network, relative to the
    weights too (`networks.FlowNetwork`). background: '' for no smoothing of the background, or the
    path of a network (`networks.BackgroundNetwork`).
    """

    sampling = FrescoSampling
    needs = Needs(
        'StableDiffusionPipeline', 'stable-diffusion-v1-5/stable-diffusion-v1-5', channels=4
    )

    def __init__(
        self,
        name: str,
        weights: Path | None,
        controlnet: str = 'controlnet',
        flow: str = 'dis',
        background: str = '',
        **defaults: Any,
    ) -> None:
        super().__init__(name, weights, **defaults)
        if not controlnet or not flow:
            raise ConfigError(
                f'expert {name!r}: controlnet must be a folder, and flow dis or an ONNX file'
            )
        self._controlnet_folder = self._folder / controlnet
        self._flow_name, self._background_name = flow, background
        self._controlnet: Any = None
        self._flow: Any = None
        self._background: Any = None

    def load(self) -> None:
        """Read the weights. Raises ModelFileError where they are not what they should be."""
        if self._loaded is not None:
            return
        from unifiedmllm_ros.experts.fresco.networks import (
            BackgroundNetwork,
            FlowNetwork,
            dis_flow,
        )

        flow, background = self._flow_name, self._background_name
        self._flow = dis_flow if flow == 'dis' else FlowNetwork(self._folder / flow, self.name)
        if background:
            self._background = BackgroundNetwork(self._folder / background, self.name)
        super().load()
        try:
            self._controlnet = self._load_controlnet()
        except BaseException:
            self.unload()
            raise

    def unload(self) -> None:
        """Drop all networks."""
        self._controlnet = self._flow = self._background = None
        super().unload()

    def run(self, request: Request, progress: OnProgress, cancel: Cancel) -> VideoResult:
        """Edit `request.image` and `request.frames` as the argument says."""
        first = needed_image(request, self.name)
        frames = [first, *request.frames]
        for index, frame in enumerate(frames):
            if frame.shape != first.shape:
                raise VideoError(
                    f'frame {index} is {frame.shape} and the first {first.shape}: the frames of a '
                    'video have one size'
                )
        with self._work(request, progress, cancel) as work:
            work.job.decodes = len(frames)
            edited = self._edited(work, frames, progress, cancel)
        return VideoResult(work.provenance(), edited, request.rate)

    def _edited(
        self,
        work: Work[FrescoSampling],
        frames: Sequence[Frame],
        progress: OnProgress,
        cancel: Cancel,
    ) -> tuple[Frame, ...]:
        from unifiedmllm_ros.experts.fresco.interpolation import KeyFrame, interpolated

        def between() -> None:
            check(cancel, f'expert {self.name}')

        height, width = frames[0].shape[:2]
        size = seen_size(width, height, work.options.short_side, self._multiple(work))
        small = [_resized(frame, size) for frame in frames]
        keys = key_frames(
            changes(small), work.options.key_interval_min, work.options.key_interval_max
        )
        self._describe(work, size, keys, len(frames))
        images = self._edited_keys(work, small, keys, between)
        known = {
            index: KeyFrame(index, small[index], image)
            for index, image in zip(keys, images, strict=True)
        }
        result, done = [], len(keys)
        for index, frame in enumerate(small):
            between()
            if index in known:
                image = known[index].edited
            else:
                image = interpolated(index, frame, _around(index, known), self._flow)
                done += 1
            result.append(_resized(image, (width, height)))
            share = _DECODING + _REST * done / len(small)
            progress(Progress('interpolate', share, result[0] if index == 0 else None))
        return tuple(result)

    def _edited_keys(
        self,
        work: Work[FrescoSampling],
        frames: Sequence[Frame],
        keys: Sequence[int],
        between: Callable[[], None],
    ) -> list[Frame]:
        """The edited key frames, in the size that the network sees."""
        from unifiedmllm_ros.experts.fresco.pairs import FramePairs

        batches = batched(keys, work.options.batch)
        finished, hidden, losses = [], [], []
        editor, bar = self._editor(work, frames[0].shape, len(batches), between)
        latents = []
        with bar:
            for batch in batches:
                chosen = [frames[index] for index in batch.keys]
                pairs = FramePairs.from_frames(chosen, self._flow, editor.device)
                background = self._backgrounds(chosen, editor.device)
                found, guides = editor.edit(chosen, pairs, background)
                hidden.append(float(pairs.hidden_forward.float().mean()))
                losses += guides.losses
                # Flow is kept for the background alone: it is large.
                latents.append((found, pairs if self._background else None, background))
        for batch, (found, motion, background) in zip(batches, latents, strict=True):
            images = editor.finished(found, motion, background)[-batch.new :]
            values = (images / 2 + 0.5).permute(0, 2, 3, 1).cpu().numpy()
            finished += list(work.pixels(values))
        work.parameters |= {
            'hidden_share': round(float(np.mean(hidden)), 4),
            'optimisations': len(losses),
        }
        return finished

    def _editor(
        self,
        work: Work[FrescoSampling],
        shape: Sequence[int],
        batches: int,
        between: Callable[[], None],
    ) -> tuple[Any, Any]:
        """The editor of this job, and the bar that its steps move."""
        import torch

        from unifiedmllm_ros.experts.fresco.editing import Editor

        pipeline, options = work.pipeline, work.options
        device = pipeline._execution_device
        with torch.no_grad():
            wanted, without = pipeline.encode_prompt(
                work.request.argument, device, 1, True, options.negative_prompt
            )
            plain, _ = pipeline.encode_prompt('', device, 1, False)
        scale = pipeline.vae_scale_factor
        noise = torch.randn(
            (1, pipeline.unet.config.in_channels, shape[0] // scale, shape[1] // scale),
            generator=work.generator(),
        ).to(device, pipeline.unet.dtype)
        bar: Any = None

        def stepped() -> None:
            bar.update()

        text = torch.cat((without, wanted))
        editor = Editor(pipeline, self._controlnet, text, plain, noise, options, between, stepped)
        bar = pipeline.progress_bar(total=batches * (1 + len(editor.timesteps())))
        return editor, bar

    def _describe(
        self, work: Work[FrescoSampling], size: tuple[int, int], keys: Sequence[int], count: int
    ) -> None:
        work.tell_truncation(work.request.argument)
        work.notices.append(LICENCE_NOTICE)
        if len(keys) < count:
            work.notices.append(
                f'{count - len(keys)} of {count} frames were carried over from the {len(keys)} key '
                'frames by optical flow, not drawn.'
            )
        work.parameters |= {
            'width': size[0],
            'height': size[1],
            'key_frames': list(keys),
            'flow': self._flow_name,
            'background': self._background_name,
        }

    def _multiple(self, work: Work[FrescoSampling]) -> int:
        """Of what sides must be multiples, so that all levels of the U-Net fit together."""
        levels = max(len(work.pipeline.unet.up_blocks) - 1, 1)
        return int(work.pipeline.vae_scale_factor * 2**levels)

    def _backgrounds(self, frames: Sequence[Frame], device: Any) -> Any:
        if self._background is None:
            return None
        import torch

        found = np.stack([self._background(frame) for frame in frames]).transpose(0, 3, 1, 2)
        return torch.from_numpy(np.ascontiguousarray(found)).to(device)

    def _load_controlnet(self) -> Any:
        import diffusers

        folder, loaded = self._controlnet_folder, self._loaded
        assert loaded is not None
        unet = loaded.pipeline.unet
        remedy = 'put the files of lllyasviel/sd-controlnet-canny there or set another controlnet'
        if not (folder / 'config.json').is_file():
            raise ModelFileError(f'expert {self.name!r} finds no config.json in {folder}: {remedy}')
        try:
            network = load_network(
                self.name,
                folder.parent,
                folder.name,
                diffusers.ControlNetModel,
                self._loading,
                self.needs,
                unet.dtype,
            )
        except ModelFileError:
            raise
        except Exception as error:  # what is raised depends on what is wrong with the files
            raise ModelFileError(
                f'ControlNet of expert {self.name!r} in {folder} cannot be read '
                f'({first_line(error)}): {remedy}'
            ) from error
        for key in ('cross_attention_dim', 'block_out_channels', 'in_channels'):
            if network.config[key] != unet.config[key]:
                raise ModelFileError(
                    f'the ControlNet in {folder} has {key} {network.config[key]} and the U-Net in '
                    f'{self._folder} {unet.config[key]}: they are not for each other, {remedy}'
                )
        return network.eval().requires_grad_(False).to(loaded.device)


def _around(index: int, known: dict[int, Any]) -> list[Any]:
    """The key frames before and after a frame, as far as there are any."""
    before = [key for key in known if key < index]
    after = [key for key in known if key > index]
    return [known[max(before)]] + ([known[min(after)]] if after else [])


def _resized(image: Frame, size: tuple[int, int]) -> Frame:
    if image.shape[1::-1] == size:
        return np.ascontiguousarray(image)
    smaller = size[0] * size[1] < image.shape[0] * image.shape[1]
    how = cv2.INTER_AREA if smaller else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)
