"""`unifiedmllm ask`: a question about an image file, answered on the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from unifiedmllm_ros.perception import Answer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        'instruction',
        nargs='+',
        help='what to ask, for example "take the can away"; further ones go on from what the '
        'earlier ones made, for example "now make it night"',
    )
    parser.add_argument('--image', type=Path, required=True, help='the image file')
    parser.add_argument('--model', default='tabletop-nano', help='name or folder of the model')
    parser.add_argument('--experts', type=Path, help="experts.yaml (default: the package's own)")
    parser.add_argument('--out', type=Path, help='folder for overlay, masks and what experts make')
    parser.add_argument('--seed', type=int, default=0, help='seed of the experts')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, print the answers, write pictures, videos and sounds."""
    from unifiedmllm_ros.experts.files import read_image
    from unifiedmllm_ros.perception import Perceiver
    from unifiedmllm_ros.session import Session

    picture = read_image(args.image)
    perceiver = Perceiver.load(args.model, experts=args.experts, threads=args.threads)
    perceiver.set_image(picture)
    session, failed = Session(), False
    for number, instruction in enumerate(args.instruction, start=1):
        asked_about = picture if session.image is None else session.image
        answer = perceiver.ask(instruction, session=session, mask_all=True, seed=args.seed)
        print(answer.text)
        for failure in answer.failures:
            failed = True
            print(f'{failure.call.task}: {failure.error}')
        if args.out:
            prefix = '' if len(args.instruction) == 1 else f'{number}_'
            _write(args.out, asked_about, answer, prefix)
    perceiver.close()
    return 1 if failed else 0


def _write(folder: Path, picture: np.ndarray, answer: Answer, prefix: str) -> None:
    from unifiedmllm_ros.experts.files import write_file
    from unifiedmllm_ros.masks import label_map
    from unifiedmllm_ros.overlay import draw

    labels, _ = label_map(answer.masks, *picture.shape[:2])
    boxes = [(region.phrase, box) for region in answer.response.regions for box in region.boxes]
    overlay = draw(picture, boxes, labels, answer.response.text)
    overlay_data = cv2.imencode('.jpg', cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR))[1].tobytes()
    masks_data = cv2.imencode('.png', labels)[1].tobytes()
    paths = [
        write_file(folder / f'{prefix}overlay.jpg', overlay_data),
        write_file(folder / f'{prefix}masks.png', masks_data),
        *_write_results(folder, answer, prefix),
    ]
    print(f'wrote {", ".join(map(str, paths))}')


def _write_results(folder: Path, answer: Answer, prefix: str) -> list[Path]:
    """What experts have made; masks of the image are in masks.png already."""
    from unifiedmllm_ros.experts.base import SegmentationResult
    from unifiedmllm_ros.experts.files import save_result

    paths: list[Path] = []
    made = [
        (call, result)
        for call, result in zip(answer.calls, answer.results, strict=True)
        if not isinstance(result, SegmentationResult)
    ]
    for number, (call, result) in enumerate(made, start=1):
        for notice in result.provenance.notices:
            print(f'{call.task}: {notice}')
        facts = {'task': call.task, 'argument': call.argument, 'instruction': answer.instruction}
        stem = f'{prefix}{call.task}' if len(made) == 1 else f'{prefix}{number}_{call.task}'
        paths += save_result(result, folder, stem, facts=facts)
    return paths
