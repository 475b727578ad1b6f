"""A label map and its names as sensor_msgs/Image and vision_msgs/LabelInfo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from vision_msgs.msg import LabelInfo, VisionClass

from unifiedmllm_ros.bridge.image import array_to_image


def masks_message(labels: np.ndarray, header: Any) -> Any:
    """Make the Image of a label map (H, W) with 0 for background.

    mono8 for uint8, 16UC1 for uint16.
    """
    return array_to_image(labels, 'mono8' if labels.dtype == np.uint8 else '16UC1', header)


def label_info_message(names: Sequence[str], header: Any, threshold: float = 0.0) -> LabelInfo:
    """Make the LabelInfo in which label i + 1 is `names[i]`, with the header of its label map.

    `threshold` is the least confidence that was asked for.
    """
    classes = [VisionClass(class_id=i, class_name=name) for i, name in enumerate(names, start=1)]
    return LabelInfo(header=header, class_map=classes, threshold=float(threshold))
