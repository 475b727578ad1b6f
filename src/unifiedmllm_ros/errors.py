"""The errors of the core: few classes, each with a stable `code` that actions and diagnostics show.

A message names the thing, the value and the remedy. `code` is a lower-case word that never changes
with the wording of the message; the ROS side maps it to its numbered constants.
"""

from __future__ import annotations


class UnifiedMLLMError(Exception):
    """Base of every error this package raises on purpose."""

    code = 'failed'


class ConfigError(UnifiedMLLMError):
    """A configuration file or value that does not hold up."""

    code = 'invalid_config'


class RepresentationError(UnifiedMLLMError, ValueError):
    """A response, region, box or task that breaks the unified representation."""

    code = 'invalid_representation'


class ImageError(UnifiedMLLMError, ValueError):
    """An image that is missing, of a wrong type, shape or size."""

    code = 'invalid_image'


class NoImageError(ImageError):
    """A question about an image before there is one."""

    code = 'no_image'


class InstructionError(UnifiedMLLMError, ValueError):
    """An instruction that is empty, too long or not text."""

    code = 'invalid_instruction'


class RequestError(UnifiedMLLMError, ValueError):
    """A parameter, seed or input of a request that is missing, unknown or out of its range."""

    code = 'invalid_request'


class ModelFileError(UnifiedMLLMError):
    """A model file that is missing, damaged or of another version."""

    code = 'model_file'


class BackendError(ConfigError):
    """A backend that is not there, or that cannot run on this machine."""


class EngineFileError(ModelFileError):
    """A cached engine that cannot be used or written: corrupt, foreign, stale or forbidden."""


class GpuMemoryError(UnifiedMLLMError):
    """The GPU has not enough memory to build or to run a model."""

    code = 'out_of_memory'


class ModelError(UnifiedMLLMError):
    """A model that ran and gave something unusable, such as NaN."""

    code = 'model_failed'


class NotFiniteError(ModelError):
    """Numbers of a model that are NaN or infinite: what it says is not to be trusted."""


class MissingExtraError(UnifiedMLLMError, ImportError):
    """An optional library is not installed; the message names the extra that brings it."""

    code = 'missing_extra'

    @classmethod
    def naming(cls, library: str, extra: str) -> MissingExtraError:
        """Return the error for `library` (its import name), brought by the extra `extra`."""
        return cls(
            f'{library} is not installed: it comes with the extra [{extra}], '
            f"install it with pip install 'unifiedmllm_ros[{extra}]'"
        )


class Cancelled(UnifiedMLLMError):
    """The work was stopped because its caller asked for it."""

    code = 'cancelled'


class ExpertError(UnifiedMLLMError):
    """An expert could not do what a task call asks."""

    code = 'expert_failed'


class UnknownTaskError(ExpertError):
    """A task call whose task is in no registry or is bound to no expert."""

    code = 'unknown_task'


class MissingRegionError(ExpertError):
    """A task call without the regions its task needs."""

    code = 'missing_region'


class MissingArgumentError(ExpertError):
    """A task call without the argument (instruction, prompt) its task needs."""

    code = 'missing_argument'


class MissingImageError(ExpertError):
    """A task call that needs an image where there is none."""

    code = 'missing_image'


class ExpertNotInstalledError(ExpertError):
    """The expert bound to a task, or its weights, is not on this machine."""

    code = 'expert_not_installed'


class OutOfMemoryError(ExpertError):
    """It does not fit, even after everything else was unloaded."""

    code = 'out_of_memory'


class VideoError(UnifiedMLLMError, ValueError):
    """A video that cannot be opened, has no frame, or holds one that cannot be read."""

    code = 'invalid_video'


class WriteError(UnifiedMLLMError):
    """A result that could not be saved, for example on a full disk."""

    code = 'result_not_written'
