"""A checkpoint's network in memory: precision, place, attention, quantisation."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from unifiedmllm_ros.errors import (
    ConfigError,
    MissingExtraError,
    ModelFileError,
    OutOfMemoryError,
)
from unifiedmllm_ros.model.protocol import ModelInfo
from unifiedmllm_ros.runtime.catalogue import FOUR_BIT, GIB
from unifiedmllm_ros.runtime.local.checkpoint import Checkpoint
from unifiedmllm_ros.runtime.local.description import LocalDescription

_BYTES = {'float32': 4.0, 'float16': 2.0, 'bfloat16': 2.0}
_QUANTISED = {
    'bitsandbytes-8bit': 1.0,
    'bitsandbytes-4bit': FOUR_BIT,
    'torchao-int8': 1.0,
    'torchao-int4': FOUR_BIT,
}
_LIBRARIES = {
    'bitsandbytes': 'bitsandbytes',
    'torchao': 'torchao',
    'gptq': 'gptqmodel',
    'awq': 'gptqmodel',
    'compressed-tensors': 'compressed_tensors',
}
"""What transformers needs for checkpoints that are quantised in these ways."""
_SPARE = 0.3
"""GiB that stay free while weights are read."""


@dataclass(frozen=True)
class Network:
    """A loaded network.

    attention: the implementation that it runs, as transformers reports it.
    """

    module: Any
    info: ModelInfo
    attention: str

    @property
    def device(self) -> Any:
        """Where inputs go."""
        return self.module.device


def load_network(
    checkpoint: Checkpoint, description: LocalDescription, family: str, *, threads: int = 2
) -> Network:
    """Load a network for inference.

    Raises OutOfMemoryError naming a smaller way to run it, before anything is read where it is
    plain that it cannot fit; ModelFileError, ConfigError, MissingExtraError.
    """
    import torch

    torch.set_num_threads(max(1, threads))
    device = _device(description.device)
    dtype = _dtype(description.dtype, checkpoint, device)
    options: dict[str, Any] = {
        'dtype': getattr(torch, dtype),
        'device_map': 'balanced' if device == 'balanced' else {'': device},
    }
    if description.attention != 'auto':
        options['attn_implementation'] = description.attention
    if description.quantisation:
        _check_place(description.quantisation, device)
        options['quantization_config'] = _quantisation(description.quantisation, checkpoint, dtype)
    _check_library(checkpoint.quantised)
    _check_room(checkpoint, description, dtype, device)
    with _explained(checkpoint, description, dtype, device):
        module, report = _read(checkpoint, family, options)
    _check_complete(checkpoint, report)
    module.eval()
    precision = description.quantisation or checkpoint.quantised or dtype
    attention = _attention(module)
    backend = f'transformers ({attention} attention)'
    info = ModelInfo(checkpoint.name, backend, precision, str(module.device))
    return Network(module, info, attention)


def smaller(checkpoint: Checkpoint, room: float) -> str:
    """Return in words what of this checkpoint, or instead of it, fits `room` bytes."""
    parameters = checkpoint.parameters
    for name, size in (('dtype: bfloat16', 2.0), ('quantisation: bitsandbytes-8bit', 1.0),
                       ('quantisation: bitsandbytes-4bit', FOUR_BIT)):  # fmt: skip
        if parameters * size <= room:
            return f'{name} takes {parameters * size / GIB:.1f} GiB'
    least = parameters * FOUR_BIT / GIB
    return (
        f'even in 4 bits it takes {least:.1f} GiB: take a smaller model '
        '(unifiedmllm models list shows what fits)'
    )


def _read(checkpoint: Checkpoint, family: str, options: dict[str, Any]) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText, AutoModelForZeroShotObjectDetection

    detector = family in ('grounding-dino', 'owlv2')
    loader = AutoModelForZeroShotObjectDetection if detector else AutoModelForImageTextToText
    return loader.from_pretrained(
        str(checkpoint.folder),
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        output_loading_info=True,
        **options,
    )


@contextmanager
def _explained(
    checkpoint: Checkpoint, description: LocalDescription, dtype: str, device: str
) -> Iterator[None]:
    import torch

    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _too_large(checkpoint, description, dtype, device) from error
    except ImportError as error:
        text = ' '.join(str(error).split())[:300]
        raise MissingExtraError(f'{checkpoint.name} needs another library: {text}') from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        text = ' '.join(str(error).split())[:300]
        raise ModelFileError(f'{checkpoint.name} cannot be loaded: {text}') from error
    except RuntimeError as error:
        # The allocator of the CPU raises this class with these words.
        if 'memory' in str(error).lower():
            raise _too_large(checkpoint, description, dtype, device) from error
        text = ' '.join(str(error).split())[:300]
        raise ModelFileError(f'{checkpoint.name} cannot be loaded: {text}') from error


def _check_room(
    checkpoint: Checkpoint, description: LocalDescription, dtype: str, device: str
) -> None:
    """On a CPU the system would kill the process instead of telling it."""
    if _size(checkpoint, description, dtype) > _free(device) - _SPARE * GIB:
        raise _too_large(checkpoint, description, dtype, device)


def _too_large(
    checkpoint: Checkpoint, description: LocalDescription, dtype: str, device: str
) -> OutOfMemoryError:
    gc.collect()
    size, free = _size(checkpoint, description, dtype), _free(device)
    how = description.quantisation or checkpoint.quantised or dtype
    return OutOfMemoryError(
        f'{checkpoint.name} in {how} takes {size / GIB:.1f} GiB for its weights alone, and '
        f'{free / GIB:.1f} GiB of {device} are free: {smaller(checkpoint, free - _SPARE * GIB)}'
    )


def _size(checkpoint: Checkpoint, description: LocalDescription, dtype: str) -> float:
    """Bytes of the weights once they are loaded."""
    if checkpoint.quantised:
        return float(sum(path.stat().st_size for path in checkpoint.files))
    each = _QUANTISED.get(description.quantisation, _BYTES[dtype])
    return checkpoint.parameters * each


def _free(device: str) -> float:
    """Bytes that are free where the network goes."""
    import psutil
    import torch

    if device == 'cpu':
        return float(psutil.virtual_memory().available)
    if device == 'balanced':
        return float(sum(torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count())))
    return float(torch.cuda.mem_get_info(device)[0])


def _device(wanted: str) -> str:
    import torch

    if wanted == 'auto':
        return 'cuda:0' if torch.cuda.is_available() else 'cpu'
    if wanted != 'cpu' and not torch.cuda.is_available():
        raise ConfigError(f'device is {wanted}, and torch finds no GPU: check its CUDA build')
    number = int(wanted.partition(':')[2] or 0)
    if wanted.startswith('cuda') and number >= torch.cuda.device_count():
        raise ConfigError(f'device is {wanted}, and there are {torch.cuda.device_count()} GPUs')
    return f'cuda:{number}' if wanted.startswith('cuda') else wanted


def _dtype(wanted: str, checkpoint: Checkpoint, device: str) -> str:
    import torch

    if wanted != 'auto':
        return wanted
    if device == 'cpu':
        return 'float32'
    stored = checkpoint.dtype if checkpoint.dtype in _BYTES else 'bfloat16'
    if stored == 'bfloat16' and not torch.cuda.is_bf16_supported(including_emulation=False):
        return 'float16'
    return stored


def _check_place(quantisation: str, device: str) -> None:
    if quantisation == 'torchao-int4' and device == 'cpu':
        raise ConfigError('torchao-int4 has no kernels for a CPU: choose torchao-int8, or a GPU')


def _quantisation(name: str, checkpoint: Checkpoint, dtype: str) -> Any:
    import torch

    if checkpoint.quantised:
        raise ConfigError(
            f'{checkpoint.name} is quantised already ({checkpoint.quantised}): leave quantisation '
            'empty'
        )
    library, _, bits = name.partition('-')
    _check_library(library)
    if library == 'bitsandbytes':
        from transformers import BitsAndBytesConfig

        compute = getattr(torch, dtype)
        four = {'bnb_4bit_quant_type': 'nf4', 'bnb_4bit_compute_dtype': compute}
        return BitsAndBytesConfig(
            load_in_4bit=bits == '4bit',
            load_in_8bit=bits == '8bit',
            **(four if bits == '4bit' else {}),
        )
    from torchao.quantization import Int4WeightOnlyConfig, Int8WeightOnlyConfig
    from transformers import TorchAoConfig

    return TorchAoConfig(Int4WeightOnlyConfig() if bits == 'int4' else Int8WeightOnlyConfig())


def _check_library(method: str) -> None:
    library = _LIBRARIES.get(method)
    if library is not None and importlib.util.find_spec(library) is None:
        raise MissingExtraError(
            f'weights in {method} need {library}, which is not installed: pip install {library}'
        )


def _check_complete(checkpoint: Checkpoint, report: Any) -> None:
    """transformers fills what a checkpoint lacks with random numbers, and only warns."""
    missing = sorted(_of(report, 'missing_keys'))
    if missing:
        raise ModelFileError(
            f'{checkpoint.name} lacks {len(missing)} tensors ({missing[0]} ...): it belongs to '
            'another version or model; download it again'
        )
    wrong = sorted(str(one) for one in _of(report, 'mismatched_keys'))
    if wrong:
        raise ModelFileError(f'{checkpoint.name} has tensors of wrong sizes ({wrong[0]} ...)')


def _of(report: Any, name: str) -> Any:
    return report.get(name, ()) if isinstance(report, dict) else getattr(report, name, ())


def _attention(module: Any) -> str:
    config = module.config
    text = getattr(config, 'text_config', None) or config
    found = getattr(text, '_attn_implementation', None) or getattr(
        config, '_attn_implementation', None
    )
    return str(found or 'eager')
