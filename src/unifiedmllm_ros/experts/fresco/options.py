"""The options of an edit of a video."""

from __future__ import annotations

from pydantic import Field, model_validator

from unifiedmllm_ros.experts.diffusion.options import Sampling


class FrescoSampling(Sampling):
    """An edit of a video; the defaults are those of the published code where facts tell them."""

    steps: int = Field(default=20, ge=1, le=1000, description='denoising steps of a whole run')
    scheduler: str = Field(default='DDIMScheduler', description='class of diffusers')
    strength: float = Field(
        default=0.8, gt=0.0, le=1.0, description='share of the steps that are run: how much changes'
    )
    control_scale: float = Field(
        default=0.8, ge=0.0, le=2.0, description='how much the edges of the video count'
    )
    short_side: int = Field(default=512, ge=128, le=2048, description='of the edited frames')
    batch: int = Field(default=8, ge=3, le=64, description='key frames that are edited together')
    key_interval_min: int = Field(default=10, ge=1, le=1000, description='frames between keys')
    key_interval_max: int = Field(default=30, ge=1, le=1000, description='frames between keys')
    optimised_steps: int = Field(
        default=15, ge=0, le=1000, description='first steps in which features are optimised'
    )
    iterations: int = Field(default=20, ge=1, le=200, description='of each optimisation')

    @model_validator(mode='after')
    def _check_intervals(self) -> FrescoSampling:
        if self.key_interval_min > self.key_interval_max:
            raise ValueError(
                f'key_interval_min {self.key_interval_min} is more than key_interval_max '
                f'{self.key_interval_max}'
            )
        return self
