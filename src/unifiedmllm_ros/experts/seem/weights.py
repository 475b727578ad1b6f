"""Published checkpoints of SEEM: read without running anything, checked, and loaded."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch

from unifiedmllm_ros.errors import ModelFileError
from unifiedmllm_ros.experts.seem.configuration import FOCAL_L, FOCAL_T, SeemConfig
from unifiedmllm_ros.experts.seem.modeling import SeemModel

# In the checkpoints, but nothing that inference uses.
_UNUSED = (
    'criterion.',
    'dilation_kernel',
    'sem_seg_head.predictor.spatial_embed.',
    'sem_seg_head.predictor.spatial_featured.',
)


def read_state(path: Path) -> dict[str, Any]:
    """Return the tensors of a .pt or .safetensors file, on the CPU, without those not used.

    Raises ModelFileError where the file is missing, damaged, or would run code when read.
    """
    try:
        if path.suffix == '.safetensors':
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location='cpu', weights_only=True)
    except FileNotFoundError as error:
        raise ModelFileError(f'weights {path} are not there: put the checkpoint there') from error
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            f'weights {path} hold more than tensors and are not read: fetch the published file'
        ) from error
    except Exception as error:  # the two readers share no base class of errors
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ModelFileError(
            f'weights {path} cannot be read ({reason}): fetch them again'
        ) from error
    if not isinstance(state, dict) or not all(torch.is_tensor(x) for x in state.values()):
        raise ModelFileError(f'weights {path} are no table of tensors: not a SEEM checkpoint')
    return {name: value for name, value in state.items() if not name.startswith(_UNUSED)}


def variant(state: dict[str, Any], path: Path) -> SeemConfig:
    """Return the configuration of a published checkpoint. Raises ModelFileError for others."""
    stem = state.get('backbone.patch_embed.proj.weight')
    if stem is not None:
        for config in (FOCAL_T, FOCAL_L):
            if stem.shape[0] == config.backbone.width:
                return config
    raise ModelFileError(
        f'weights {path} are not of SEEM with a Focal-T or Focal-L backbone: use one of '
        'seem_focalt_v0.pt, seem_focalt_v1.pt, seem_focall_v0.pt, seem_focall_v1.pt'
    )


def load_state(model: SeemModel, path: Path, state: dict[str, Any] | None = None) -> None:
    """Load the weights of a file into a model; every tensor must be there and fit."""
    state = read_state(path) if state is None else state
    wanted = model.state_dict()
    wrong = set(wanted.keys() ^ state.keys())
    wrong |= {n for n in wanted.keys() & state.keys() if wanted[n].shape != state[n].shape}
    if wrong:
        few = ', '.join(sorted(wrong)[:3])
        raise ModelFileError(
            f'weights {path} do not fit this model: {len(wrong)} tensors are missing, unknown or '
            f'of another shape ({few}): use a checkpoint of the variant that is configured'
        )
    kind = next(iter(wanted.values())).dtype
    model.load_state_dict({name: value.to(kind) for name, value in state.items()})
