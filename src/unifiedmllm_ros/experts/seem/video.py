"""SEEM on a video, as published: what the boxes of the first frame show is found in every frame.

Each frame is looked at by itself. There is no memory: of several things that look alike SEEM may
take another one in the next frame, and it knows nothing of what hides what.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import ImageError
from unifiedmllm_ros.experts.base import (
    OnProgress,
    Progress,
    Request,
    VideoSegmentationResult,
    needed_image,
)
from unifiedmllm_ros.experts.seem.expert import SeemWeights, known_prompt, resized
from unifiedmllm_ros.experts.torch_masks import mask_of

NOTICE = (
    'SEEM looks at each frame by itself: things that look alike may be exchanged from frame to '
    'frame.'
)


class SeemVideo(SeemWeights):
    """SEEM on a video, with the options of `SeemWeights`."""

    def run(
        self, request: Request, progress: OnProgress, cancel: Cancel
    ) -> VideoSegmentationResult:
        """Find the boxes of `request.image` in it and in each of `request.frames`."""
        import torch

        start = time.perf_counter()
        prompt = known_prompt(request.parameters.get('prompt', self._prompt), self.name)
        first = needed_image(request, self.name)
        self.load()
        count, wanted, masks = 1 + len(request.frames), None, []
        for index, image in enumerate(itertools.chain((first,), request.frames)):
            if image.shape != first.shape:
                raise ImageError(
                    f'frame {index} is {image.shape} and the first {first.shape}: the frames of a '
                    'video have one size'
                )
            check(cancel, f'expert {self.name}')
            progress(Progress('segment', index / count))
            with torch.inference_mode():
                features = self._model.features(self._tensor(image))
                wanted = wanted or self._wanted(features, request, prompt, first.shape[:2])
                found = [self._found(features, one, prompt) for one in wanted]
            masks.append(
                tuple(
                    mask_of(resized(logits[None], image.shape[:2])[0], box, self.name)
                    for logits, box in zip(found, request.boxes, strict=True)
                )
            )
        progress(Progress('segment', 1.0))
        provenance = self._provenance(request, prompt, start, (NOTICE,))
        return VideoSegmentationResult(provenance, tuple(masks))

    def _wanted(
        self, features: Any, request: Request, prompt: str, size: tuple[int, ...]
    ) -> list[Any]:
        """What is looked for: of each box its phrase in tokens, or what it shows in frame one."""
        if prompt == 'text':
            return [
                tuple(part.to(self._device()) for part in self._words(box.phrase))
                for box in request.boxes
            ]
        return [self._region(features, box, request.seed, size) for box in request.boxes]

    def _found(self, features: Any, wanted: Any, prompt: str) -> Any:
        if prompt == 'text':
            return self._model.find_text(features, *wanted).mask
        return self._model.find_region(features, wanted).mask
