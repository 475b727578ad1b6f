"""`unifiedmllm ask`: one question about an image file, answered on the terminal."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument('instruction', help='what to ask, for example "segment the red mug"')
    parser.add_argument('--image', type=Path, required=True, help='the image file')
    parser.add_argument('--model', default='tabletop-nano', help='name or folder of the model')
    parser.add_argument('--out', type=Path, help='folder for the overlay and the masks')
    parser.add_argument('--threads', type=int, default=2, help='CPU threads')
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask, print the answer, write the pictures."""
    from unifiedmllm_ros.errors import ImageError
    from unifiedmllm_ros.perception import Perceiver

    picture = cv2.imread(str(args.image), cv2.IMREAD_COLOR_RGB)
    if picture is None:
        raise ImageError(f'{args.image} is missing or no image; give a JPEG or PNG file')
    perceiver = Perceiver.load(args.model, threads=args.threads)
    perceiver.set_image(np.asarray(picture, np.uint8))
    answer = perceiver.ask(args.instruction, mask_all=True)
    print(answer.text)
    for failure in answer.failures:
        print(f'{failure.call.task}: {failure.error}')
    if args.out:
        _write(args.out, np.asarray(picture, np.uint8), answer)
    return 1 if answer.failures else 0


def _write(folder: Path, picture: np.ndarray, answer) -> None:  # type: ignore[no-untyped-def]
    from unifiedmllm_ros.masks import label_map
    from unifiedmllm_ros.overlay import draw

    folder.mkdir(parents=True, exist_ok=True)
    labels, _ = label_map(answer.masks, *picture.shape[:2])
    boxes = [(region.phrase, box) for region in answer.response.regions for box in region.boxes]
    overlay = draw(picture, boxes, labels, answer.response.text)
    cv2.imwrite(str(folder / 'overlay.jpg'), cv2.cvtColor(overlay, cv2.COLOR_RGB2BGR))
    cv2.imwrite(str(folder / 'masks.png'), labels)
    print(f'wrote {folder / "overlay.jpg"} and {folder / "masks.png"}')
