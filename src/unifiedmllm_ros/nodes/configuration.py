"""The parameters of the nodes: the one source of the ROS declarations, the YAML and the docs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from unifiedmllm_ros.bridge.parameters import READ_ONLY


class PerceptionParameters(BaseModel):
    """Parameters of perception_node."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    autostart: bool = Field(
        default=False,
        description='Configure and activate at start, without a lifecycle manager.',
        json_schema_extra=READ_ONLY,
    )
    backend: Literal['auto', 'onnxruntime', 'onnxruntime-cuda', 'tensorrt', 'torch'] = Field(
        default='auto',
        description='What runs a model of ours; auto takes the fastest that this machine has '
        '(unifiedmllm doctor says which).',
        json_schema_extra=READ_ONLY,
    )
    depth_tolerance: float = Field(
        default=0.05,
        ge=0.0,
        le=10.0,
        description='Largest difference in seconds between the stamps of an image and its depth.',
    )
    diagnostics_period: float = Field(
        default=1.0, ge=0.1, le=60.0, description='Seconds between two messages on /diagnostics.'
    )
    expert_node: str = Field(
        default='',
        description='Action that carries out task calls other than seg for the action ask, for '
        'example execute_task; empty for the experts of this process.',
        json_schema_extra=READ_ONLY,
    )
    expert_node_timeout: float = Field(
        default=10.0,
        ge=0.1,
        le=3600.0,
        description='Seconds within which the expert node has to take a task call.',
    )
    input: Literal['raw', 'compressed'] = Field(
        default='raw', description='Which topic images come from: image, or image/compressed.'
    )
    instruction: str = Field(
        default='',
        description='Standing instruction, asked of each new image; empty for none. A message on '
        'the topic instruction replaces it.',
    )
    mask_all: bool = Field(
        default=False,
        description='Make masks of everything the answer points at, not only of what it segments.',
    )
    masks: bool = Field(
        default=True, description='Let experts make masks; false gives text and boxes only, sooner.'
    )
    max_image_pixels: int = Field(
        default=33_177_600,
        ge=256,
        le=1_000_000_000,
        description='Images with more pixels than this are refused.',
    )
    max_pending_questions: int = Field(
        default=8,
        ge=1,
        le=1000,
        description='Goals of the action ask that may wait; more are refused.',
    )
    max_rate: float = Field(
        default=0.0,
        ge=0.0,
        le=1000.0,
        description='Most images per second that are answered; 0 for as many as possible.',
    )
    max_tokens: int = Field(
        default=256,
        ge=8,
        le=4096,
        description='Longest answer in tokens; a longer one is closed there.',
    )
    min_confidence: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description='Boxes less sure than this are left out of detections and masks.',
    )
    model: str = Field(
        default='tabletop-nano',
        description='Model: a name under models/, a folder, or a description (.yaml) of another '
        'one.',
        json_schema_extra=READ_ONLY,
    )
    overlay_quality: int = Field(
        default=85, ge=1, le=100, description='JPEG quality of overlay/compressed.'
    )
    precision: Literal['auto', 'fp32', 'fp16', 'bf16', 'int8', 'int4'] = Field(
        default='auto',
        description='Which of the exported graphs of a model of ours to run; auto takes the best '
        'for the backend.',
        json_schema_extra=READ_ONLY,
    )
    publish_overlay: bool = Field(
        default=True, description='Draw overlay/compressed while someone listens to it.'
    )
    threads: int = Field(
        default=2,
        ge=1,
        le=256,
        description='CPU threads of the model.',
        json_schema_extra=READ_ONLY,
    )
    use_depth: bool = Field(
        default=True, description='Listen to depth and camera_info and publish detections_3d.'
    )


class ExpertParameters(BaseModel):
    """Parameters of expert_node."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    autostart: bool = Field(
        default=False,
        description='Configure and activate at start, without a lifecycle manager.',
        json_schema_extra=READ_ONLY,
    )
    client_timeout: float = Field(
        default=5.0,
        ge=0.0,
        le=3600.0,
        description='Jobs of the action are stopped when no action client has been there for so '
        'many seconds; 0 lets them end.',
    )
    diagnostics_period: float = Field(
        default=1.0, ge=0.1, le=60.0, description='Seconds between two messages on /diagnostics.'
    )
    experts: str = Field(
        default='',
        description="Configuration of the experts (YAML); empty for the package's own, "
        'config/experts.yaml.',
        json_schema_extra=READ_ONLY,
    )
    input_folders: str = Field(
        default='',
        description='Folders, separated by colons, that a video_path may lie in; output_folder '
        'always is one.',
    )
    max_image_pixels: int = Field(
        default=33_177_600,
        ge=256,
        le=1_000_000_000,
        description='Images and video frames with more pixels than this are refused.',
    )
    max_message_pixels: int = Field(
        default=4_194_304,
        ge=0,
        le=100_000_000,
        description='Images of one result with more pixels than this together are written to '
        'output_folder and told by path.',
    )
    max_pending_jobs: int = Field(
        default=8, ge=1, le=1000, description='Jobs that may wait; more are refused.'
    )
    max_video_frames: int = Field(
        default=600, ge=1, le=100_000, description='Videos with more frames than this are refused.'
    )
    output_folder: str = Field(
        default='~/.ros/unifiedmllm',
        min_length=1,
        description='Where results too large for a message are written; made when it is needed.',
    )
    preview_period: float = Field(
        default=0.5,
        ge=0.0,
        le=60.0,
        description='Least seconds between two previews of a job; 0 for none.',
    )
    preview_quality: int = Field(default=80, ge=1, le=100, description='JPEG quality of previews.')


class TabletopCameraParameters(BaseModel):
    """Parameters of tabletop_camera_node."""

    model_config = ConfigDict(extra='forbid', frozen=True)

    compressed: bool = Field(default=True, description='Publish image/compressed (JPEG) as well.')
    frame_id: str = Field(
        default='camera_optical_frame',
        description='Frame of the images: x right, y down, z forward.',
    )
    height: int = Field(
        default=480, ge=32, le=2160, description='Height in pixels.', json_schema_extra=READ_ONLY
    )
    jpeg_quality: int = Field(
        default=90, ge=1, le=100, description='JPEG quality of image/compressed.'
    )
    publish_depth: bool = Field(default=True, description='Publish depth (32FC1, metres).')
    rate: float = Field(default=10.0, ge=0.1, le=60.0, description='Images per second.')
    seed: int = Field(
        default=0, ge=0, le=2_000_000_000, description='Which table; a change lays it anew.'
    )
    width: int = Field(
        default=640, ge=32, le=3840, description='Width in pixels.', json_schema_extra=READ_ONLY
    )
