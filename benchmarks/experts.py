"""What the router and the expert layer cost over a bare pipeline; embeddings; taking turns.

On tiny twins with random weights: they have the architectures of the published models and none of
their size, so that what is measured is the layer and not the network.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.frames import percentiles
from tests.experts.diffusion.twins import save_stable_diffusion
from tests.experts.tiny_sam2 import save_image_model
from unifiedmllm_ros.experts.base import ImageResult, Request, SegmentationResult
from unifiedmllm_ros.experts.configuration import ExpertsConfig
from unifiedmllm_ros.experts.registry import ExpertRegistry
from unifiedmllm_ros.representation import Box, Region, TaskCall
from unifiedmllm_ros.router import Router, pixel_boxes

PROMPT, SIZE, STEPS, SEED = 'a red mug on a table', 128, 30, 7
ROUNDS, TURNS = 15, 5
BOXES = (1, 10, 50)


def run() -> dict[str, Any]:
    """Measure all three."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        save_stable_diffusion(made / 'sd')
        save_image_model(made / 'sam')
        return {
            'what': 'tiny twins on the CPU; weights are random',
            'overhead': overhead(made),
            'embedding': embedding(made),
            'turns': turns(made),
        }


def overhead(folder: Path) -> dict[str, Any]:
    """Return the times of the bare pipeline and of the same work through the router.

    Both alternate, so that a slow moment of the machine hits both; the pictures are compared.
    """
    router = Router(_registry(folder, {'gen': 'sd'}))
    bare = _bare_pipeline(folder / 'sd')
    call = TaskCall('gen', PROMPT)
    times: dict[str, list[float]] = {'bare': [], 'router': []}
    for index in range(ROUNDS + 1):
        start = time.perf_counter()
        image = bare()
        middle = time.perf_counter()
        result = router.run(call, seed=SEED)
        end = time.perf_counter()
        assert isinstance(result, ImageResult)
        if index:  # the first of both warms up
            times['bare'].append((middle - start) * 1000)
            times['router'].append((end - middle) * 1000)
    router.close()
    more = [two - one for one, two in zip(*times.values(), strict=True)]
    median = statistics.median(more)
    return {
        'image': f'{SIZE}x{SIZE}, {STEPS} steps',
        'rounds': ROUNDS,
        'bare_ms': percentiles(times['bare']),
        'router_ms': percentiles(times['router']),
        'overhead_ms': median,
        'overhead_percent': 100 * median / statistics.median(times['bare']),
        'mark': 'at most 20 ms and 5 %',
        'same_picture': bool((result.images[0] == image).all()),
    }


def embedding(folder: Path) -> dict[str, Any]:
    """Return how often SAM 2 encodes an image for so many boxes, and how long a request takes."""
    registry = _registry(folder, {'seg': 'sam'})
    expert: Any = registry.expert('seg')
    count = [0]

    def counted(*_: Any) -> None:
        count[0] += 1

    expert._model.vision_encoder.register_forward_hook(counted)
    image = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    rows = []
    for number in BOXES:
        boxes = tuple(
            Box(i / (number + 1), 0.2, (i + 1) / (number + 1), 0.8) for i in range(number)
        )
        regions = (Region('thing', boxes),)
        request = Request(
            'seg', image=image, regions=regions, boxes=pixel_boxes(regions, *image.shape[:2])
        )
        registry.run(request)
        count[0], times = 0, []
        for _ in range(TURNS):
            start = time.perf_counter()
            result = registry.run(request)
            times.append((time.perf_counter() - start) * 1000)
            assert isinstance(result, SegmentationResult)
            assert len(result.masks) == number
        rows.append(
            {
                'boxes': number,
                'image_encodings_per_request': count[0] / TURNS,
                'request_ms': percentiles(times),
            }
        )
    registry.close()
    return {'image': '640x480', 'rows': rows, 'mark': 'one encoding however many boxes'}


def turns(folder: Path) -> dict[str, Any]:
    """Return what it costs that two experts alternate where the memory holds one of them."""
    found = {}
    for name, budget in (('room for both', 1000.0), ('room for one', 100.0)):
        registry = _registry(folder, {'gen': 'sd', 'edit': 'sd_two'}, budget)
        image = np.full((SIZE, SIZE, 3), 90, np.uint8)
        times, loads = [], 0
        for index in range(2 * TURNS + 2):
            task = ('gen', 'edit')[index % 2]
            was = registry.residency.residence(registry.name_for(task)).loaded
            start = time.perf_counter()
            registry.run(Request(task, PROMPT, image, seed=SEED))
            if index >= 2:
                times.append((time.perf_counter() - start) * 1000)
                loads += not was
            most = registry.residency.used('cpu')
            assert most <= budget
        found[name] = {'request_ms': percentiles(times), 'loads': loads, 'requests': len(times)}
        registry.close()
    return found


def _registry(folder: Path, tasks: dict[str, str], budget: float = 1000.0) -> ExpertRegistry:
    pipeline = {
        'implementation': 'unifiedmllm_ros.experts.diffusion.text_to_image:TextToImage',
        'weights': 'sd',
        'memory_mib': 80,
        'defaults': {'device': 'cpu', 'steps': STEPS, 'width': SIZE, 'height': SIZE},
    }
    experts = {
        'sd': {**pipeline, 'kind': 'text_to_image'},
        'sd_two': {**pipeline, 'kind': 'image_edit'},
        'sam': {
            'implementation': 'unifiedmllm_ros.experts.sam2:Sam2',
            'kind': 'segmentation',
            'weights': 'sam',
            'memory_mib': 80,
        },
    }
    config = {'experts': experts, 'tasks': tasks, 'memory_mib': {'cpu': budget}}
    return ExpertRegistry(ExpertsConfig.model_validate(config), folder)


def _bare_pipeline(folder: Path) -> Any:
    """The pipeline alone: prompt in, uint8 image out."""
    import diffusers
    import torch

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)

    def made() -> np.ndarray:
        output = pipeline(
            PROMPT,
            num_inference_steps=STEPS,
            width=SIZE,
            height=SIZE,
            guidance_scale=7.5,
            generator=torch.Generator('cpu').manual_seed(SEED),
            output_type='np',
        )
        return np.asarray((output.images[0] * 255).round().clip(0, 255), np.uint8)

    return made
