"""The numbered ErrorCode of every error of the core."""

from __future__ import annotations

from unifiedmllm_ros.errors import UnifiedMLLMError
from unifiedmllm_ros.msg import ErrorCode

_CODES = {
    'invalid_image': ErrorCode.INVALID_IMAGE,
    'no_image': ErrorCode.NO_IMAGE,
    'missing_image': ErrorCode.NO_IMAGE,
    'invalid_instruction': ErrorCode.INVALID_INSTRUCTION,
    'invalid_representation': ErrorCode.INVALID_REQUEST,
    'invalid_request': ErrorCode.INVALID_REQUEST,
    'missing_region': ErrorCode.INVALID_REQUEST,
    'missing_argument': ErrorCode.INVALID_REQUEST,
    'model_file': ErrorCode.MODEL_FILE,
    'model_failed': ErrorCode.MODEL_FAILED,
    'expert_failed': ErrorCode.EXPERT_FAILED,
    'unknown_task': ErrorCode.UNKNOWN_TASK,
    'expert_not_installed': ErrorCode.EXPERT_NOT_INSTALLED,
    'out_of_memory': ErrorCode.OUT_OF_MEMORY,
    'invalid_video': ErrorCode.INVALID_VIDEO,
    'result_not_written': ErrorCode.RESULT_NOT_WRITTEN,
    'cancelled': ErrorCode.CANCELLED,
    'not_active': ErrorCode.NOT_ACTIVE,
    'busy': ErrorCode.BUSY,
    'invalid_config': ErrorCode.INVALID_CONFIG,
    'missing_extra': ErrorCode.INVALID_CONFIG,
    'failed': ErrorCode.UNKNOWN,
}


def error_code(error: BaseException) -> int:
    """Return the ErrorCode constant of `error`: UNKNOWN for anything this package did not raise."""
    if not isinstance(error, UnifiedMLLMError):
        return int(ErrorCode.UNKNOWN)
    return int(_CODES.get(error.code, ErrorCode.UNKNOWN))


def error_message(error: BaseException) -> str:
    """Return what to tell a person; errors that are not ours are named with their type."""
    if isinstance(error, UnifiedMLLMError):
        return str(error)
    return f'{type(error).__name__}: {error}'
