"""The demo: replays a recording through ROS 2 topics into perception_node.

Prints each answer and writes overlays, masks and summary.json. Runs without torch.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.locations import share
from unifiedmllm_ros.nodes.recording import Question, Recording
from unifiedmllm_ros.nodes.scoring import Score, Scoreboard
from unifiedmllm_ros.representation import Box

if TYPE_CHECKING:
    from unifiedmllm_ros.nodes.perception_node import PerceiverFactory
    from unifiedmllm_ros.nodes.replay import Seen

DEFAULT_FRAMES = 60
PARAMETERS = {'input': 'compressed', 'mask_all': True}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo from the command line; return the exit status."""
    options = _parser().parse_args(arguments)
    # A domain of its own keeps other nodes of this machine out.
    os.environ.setdefault('ROS_DOMAIN_ID', str(os.getpid() % 100 + 1))
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    window = None if options.headless else _open_window()
    try:
        summary = run(
            Recording(options.recording or share('samples/tabletop')),
            options.out,
            model=options.model,
            frames=options.frames,
            instruction=options.instruction,
            window=window,
        )
    except (UnifiedMLLMError, TimeoutError) as error:
        print(f'demo: {error}', file=sys.stderr)
        return 1
    _print_summary(summary, options.out)
    return 1 if summary['errors'] else 0


def run(
    recording: Recording,
    out: Path,
    frames: int = DEFAULT_FRAMES,
    instruction: str | None = None,
    model: str = 'tabletop-nano',
    window: str | None = None,
    perceiver_factory: PerceiverFactory | None = None,
) -> dict[str, Any]:
    """Replay `frames` frames of a recording and return what summary.json holds.

    Args:
        recording: what is replayed, each frame when the one before has been answered, but no
            faster than it was recorded.
        out: folder for overlays/, masks/ and summary.json.
        frames: how many, evenly spread; all where there are fewer.
        instruction: asked of every frame; by default the recording's own, one after another.
        model: a name under models/, a folder, or a description (.yaml).
        window: name of the window that shows the overlays, None for none.
        perceiver_factory: makes the node's perceiver, by default by loading `model`.
    """
    from unifiedmllm_ros.nodes.perception_node import load
    from unifiedmllm_ros.nodes.replay import Replay

    for folder in ('overlays', 'masks'):
        (out / folder).mkdir(parents=True, exist_ok=True)
    board = Scoreboard()
    ran: dict[str, str] = {}
    with Replay(perceiver_factory or load, {**PARAMETERS, 'model': model}) as replay:
        asked = ''
        for index, question in plan(recording, frames, instruction):
            begin = time.monotonic()
            if question.instruction != asked:
                asked = question.instruction
                replay.instruct(asked)
            seen = replay.show(recording.frames[index])
            score = _score(board, recording, index, question, seen)
            _print_answer(index, question, seen, score)
            _write(out, index, seen, window)
            ran = {'name': seen.response.model, 'backend': seen.response.backend}
            time.sleep(max(0.0, begin + 1.0 / recording.rate - time.monotonic()))
        dropped = replay.perception.statistics.snapshot().dropped
    summary = {
        'recording': recording.folder.name,
        'frames': min(frames, len(recording.frames)),
        'dropped': dropped,
        'model': ran,
        **board.summary(),
    }
    (out / 'summary.json').write_text(json.dumps(summary, indent=1) + '\n', encoding='utf-8')
    return summary


def plan(
    recording: Recording, frames: int, instruction: str | None
) -> Iterator[tuple[int, Question]]:
    """Yield (index of the frame, question); each question has a run of frames of its own."""
    questions = list(recording.questions)
    if instruction is not None:
        known = [question for question in questions if question.instruction == instruction]
        questions = known or [Question(instruction, ())]
    count = min(frames, len(recording.frames))
    for number, index in enumerate(np.linspace(0, len(recording.frames) - 1, count).round()):
        yield int(index), questions[number * len(questions) // count]


def _score(
    board: Scoreboard, recording: Recording, index: int, question: Question, seen: Seen
) -> Score | None:
    response = seen.response
    if response.error_code:
        board.errors.append(f'frame {index}: {response.error_msg}')
    stages = {stage.stage: stage.milliseconds for stage in response.stages}
    board.time(seen.latency_ms, stages)
    if seen.masks is None or question not in recording.questions:
        return None
    return board.score(question, recording.truth(index), _boxes(response), _labels(seen.masks))


def _boxes(response: Any) -> list[Box]:
    """Return the distinct boxes of a response."""
    boxes = [
        Box(box.x1, box.y1, box.x2, box.y2) for region in response.regions for box in region.boxes
    ]
    return list(dict.fromkeys(boxes))


def _labels(masks: Any) -> np.ndarray:
    kind = np.uint8 if masks.encoding == 'mono8' else np.dtype('<u2')
    return np.frombuffer(masks.data, kind).reshape(masks.height, masks.width)


def _write(out: Path, index: int, seen: Seen, window: str | None) -> None:
    if seen.masks is not None:
        cv2.imwrite(str(out / 'masks' / f'{index:06d}.png'), _labels(seen.masks))
    if seen.overlay is not None:
        data = bytes(seen.overlay.data)
        (out / 'overlays' / f'{index:06d}.jpg').write_bytes(data)
        if window is not None:
            cv2.imshow(window, np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), 1)))
            cv2.waitKey(1)


def _open_window() -> str | None:
    if not (os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY')):
        print('demo: no display, so no window; the overlays are written to the output folder')
        return None
    title = 'unifiedmllm_ros demo'
    try:
        cv2.namedWindow(title)
    except cv2.error:
        print('demo: this OpenCV is built without windows; install opencv-python to have one')
        return None
    return title


def _print_answer(index: int, question: Question, seen: Seen, score: Score | None) -> None:
    response = seen.response
    found = ', '.join(
        f'{region.phrase} [{box.x1:.3f}, {box.y1:.3f}, {box.x2:.3f}, {box.y2:.3f}]'
        f' ({box.confidence:.2f})'
        for region in response.regions
        for box in region.boxes
    )
    failed = f'error: {response.error_msg}' if response.error_code else ''
    answer = '  '.join(part for part in (response.text, found, failed) if part)
    told = f'{answer}{_told(score)}  {seen.latency_ms:.0f} ms'
    print(f'[{index:4d}] {question.instruction}  ->  {told}', flush=True)


def _told(score: Score | None) -> str:
    if score is None:
        return ''
    if score.rejected is not None:
        return '  (rightly absent)' if score.rejected else '  (absent, but found)'
    boxes = ' '.join(f'{iou:.2f}' for iou in score.box_ious)
    return f'  (IoU: boxes {boxes}, masks {score.mask_iou:.2f})'


def _print_summary(summary: dict[str, Any], out: Path) -> None:
    latency = summary['latency_ms'] or {'p50': float('nan'), 'p99': float('nan')}
    boxes, masks, absent = summary['boxes'], summary['masks'], summary['absent']
    print(
        f'{summary["answers"]} answers about {summary["frames"]} frames, '
        f'p50 {latency["p50"]:.0f} ms, p99 {latency["p99"]:.0f} ms'
    )
    if boxes['wanted']:
        print(
            f'box IoU {boxes["mean_iou"]:.3f}, Acc@0.5 {boxes["acc_at_0.5"]:.3f}, '
            f'mask IoU {masks["mean_iou"]:.3f}, absent rejected '
            f'{absent["rejected"]}/{absent["asked"]}'
        )
    print(f'written to {out}')


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog='demo', description=__doc__)
    parser.add_argument('--headless', action='store_true', help='open no window')
    parser.add_argument(
        '--frames', type=_positive, default=DEFAULT_FRAMES, help='frames to ask about'
    )
    parser.add_argument(
        '--out', type=Path, default=Path('build/demo'), help='folder for the results'
    )
    parser.add_argument('--instruction', help='ask this of every frame')
    parser.add_argument(
        '--model', default='tabletop-nano', help='name under models/, folder, or description'
    )
    parser.add_argument('--recording', type=Path, help='recording folder (samples/tabletop)')
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f'{value} is not 1 or more')
    return value


if __name__ == '__main__':
    sys.exit(main())
