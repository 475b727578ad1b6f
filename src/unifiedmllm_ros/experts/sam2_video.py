"""SAM 2.1 on video: every frame is read with what is remembered of the frames before.

Objects may join at any frame. Only what the model can still look at is kept, so that memory does
not grow with the video.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unifiedmllm_ros.cancellation import Cancel, check
from unifiedmllm_ros.errors import ImageError
from unifiedmllm_ros.experts.base import (
    OnProgress,
    PixelBox,
    Progress,
    Provenance,
    Request,
    VideoSegmentationResult,
    needed_image,
)
from unifiedmllm_ros.experts.sam2 import (
    full_size,
    load_model,
    needed_folder,
    pixel_values,
    scaled_boxes,
)
from unifiedmllm_ros.experts.torch_masks import fingerprint, mask_of
from unifiedmllm_ros.masks import Mask

# A box is told as two points: its upper left and its lower right corner.
_CORNERS = (2, 3)


class Sam2Stream:
    """The objects of one video, followed frame by frame.

    model: a Sam2VideoModel; name: of the expert, for messages.
    prune: forget what can no longer matter; False keeps everything (for comparison).
    """

    def __init__(self, model: Any, name: str, prune: bool = True) -> None:
        from transformers import Sam2VideoInferenceSession

        self._model, self._name, self._prune = model, name, prune
        self._boxes: list[PixelBox] = []
        self._frame = -1
        self._shape: tuple[int, ...] = ()
        self.session = Sam2VideoInferenceSession(
            inference_device=model.device,
            inference_state_device=model.device,
            video_storage_device=model.device,
            dtype=model.dtype,
        )

    def step(self, image: NDArray[np.uint8], boxes: Sequence[PixelBox] = ()) -> tuple[Mask, ...]:
        """Return the mask of every object in the next frame, in the order they were added.

        image: (height, width, 3) uint8 RGB, all frames of one size. boxes: new objects, where they
        are in this frame. A mask is empty where its object is not seen.
        """
        import torch

        if self._shape not in ((), image.shape):
            raise ImageError(
                f'a frame of a video is {image.shape} and those before were {self._shape}: start '
                'a new video'
            )
        self._shape = image.shape
        self._frame += 1
        with torch.inference_mode():
            self._add(boxes)
            if not self._boxes:
                return ()
            pixels = pixel_values(image, self._model.config.image_size, self._model)
            found = self._model(self.session, frame=pixels, frame_idx=self._frame)
            logits = full_size(found.pred_masks, image.shape[:2])[:, 0]
        if self._prune:
            self._forget()
        pairs = zip(logits, self._boxes, strict=True)
        return tuple(mask_of(one, box, self._name) for one, box in pairs)

    def _add(self, boxes: Sequence[PixelBox]) -> None:
        import torch

        if not boxes:
            return
        size = self._model.config.image_size
        corners = scaled_boxes(boxes, self._shape[:2], size, self._model).view(-1, 1, 1, 2, 2)
        for box, points in zip(boxes, corners, strict=True):
            identity = len(self._boxes)
            index = self.session.obj_id_to_idx(identity)
            labels = torch.tensor([[_CORNERS]], dtype=torch.int32)
            inputs = {'point_coords': points, 'point_labels': labels}
            self.session.add_point_inputs(index, self._frame, inputs)
            self.session.obj_with_new_inputs.append(identity)
            self._boxes.append(box)

    def _forget(self) -> None:
        """Drop frames, and outputs that are older than the model looks back."""
        config = self._model.config
        reach = max(config.num_maskmem, config.max_object_pointers_in_encoder)
        oldest = self._frame - reach
        session = self.session
        _drop_before(session.processed_frames, self._frame)
        for index, outputs in session.output_dict_per_obj.items():
            _drop_before(outputs['non_cond_frame_outputs'], oldest)
            _drop_before(session.frames_tracked_per_obj[index], oldest)
            _drop_before(session.point_inputs_per_obj[index], self._frame)


def _drop_before(table: dict[int, Any], frame: int) -> None:
    for index in [index for index in table if index < frame]:
        del table[index]


class Sam2Video:
    """SAM 2.1 of transformers on a video; the boxes are those of its first frame.

    weights: a folder with config.json and model.safetensors of a `sam2_video` checkpoint.
    device: cpu or cuda. dtype: float32, bfloat16 or float16.
    """

    def __init__(
        self, name: str, weights: Path | None, device: str = 'cpu', dtype: str = 'float32'
    ) -> None:
        self.name = name
        self._folder = needed_folder(name, weights, dtype)
        self._options = {'device': device, 'dtype': dtype}
        self._model: Any = None
        self._weights = ''

    def load(self) -> None:
        """Read the weights. Raises ModelFileError where they are not what they should be."""
        if self._model is None:
            self._model = load_model(self.name, 'Sam2VideoModel', self._folder, **self._options)
            self._weights = fingerprint(self._folder / 'model.safetensors')

    def unload(self) -> None:
        """Drop the model."""
        self._model = None

    def stream(self) -> Sam2Stream:
        """Return a new video, to be followed frame by frame; loads the model where it is not."""
        self.load()
        return Sam2Stream(self._model, self.name)

    def run(
        self, request: Request, progress: OnProgress, cancel: Cancel
    ) -> VideoSegmentationResult:
        """Follow the boxes of `request.image` through `request.frames`."""
        start = time.perf_counter()
        first = needed_image(request, self.name)
        stream, masks = self.stream(), []
        count = 1 + len(request.frames)
        for index, image in enumerate(itertools.chain((first,), request.frames)):
            check(cancel, f'expert {self.name}')
            progress(Progress('segment', index / count))
            masks.append(stream.step(image, () if index else request.boxes))
        progress(Progress('segment', 1.0))
        duration = (time.perf_counter() - start) * 1000
        provenance = Provenance(
            self.name, 'torch', self._weights, request.seed, dict(self._options), duration
        )
        return VideoSegmentationResult(provenance, tuple(masks))
