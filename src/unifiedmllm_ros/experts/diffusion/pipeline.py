"""Pipelines of diffusers from folders: the class one asks for, all of its weights, no download.

`DiffusionPipeline.from_pretrained` takes what a folder says it is, which is wrong for GLIGEN's
published ones, and only warns of weights that are missing. Here every network is loaded by itself
and refused where a tensor is missing; weights that no network takes are refused for the denoiser.
Pickled weights are read as tensors only.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unifiedmllm_ros.errors import ConfigError, MissingExtraError, ModelFileError
from unifiedmllm_ros.experts.device_memory import (
    Offload,
    free_mib,
    is_out_of_memory,
    offload_policy,
)
from unifiedmllm_ros.experts.diffusion.folder import (
    Needs,
    check_folder,
    fingerprint_of,
    known_variant,
    parts_of,
)
from unifiedmllm_ros.experts.diffusion.job import DENOISERS
from unifiedmllm_ros.experts.diffusion.options import Loading
from unifiedmllm_ros.experts.torch_masks import torch_device

_AUTOMATIC = ('DiffusionPipeline', 'AutoPipelineForText2Image')
_MIB = 2**20


@dataclass(frozen=True, eq=False)
class Loaded:
    """A pipeline, ready to run.

    device, dtype: where and in what numbers it runs; offload: what stays on a GPU.
    weights: name and SHA-256 of the denoiser's weights. notices: what was not as configured.
    """

    pipeline: Any
    device: str
    dtype: str
    offload: str
    weights: str
    notices: tuple[str, ...] = ()


def load_pipeline(name: str, folder: Path, loading: Loading, needs: Needs) -> Loaded:
    """Return the pipeline of the expert `name` from a folder, for inference.

    Raises ModelFileError where the folder lacks something or holds another model, ConfigError for
    a class or a device that is none, MissingExtraError without the libraries.
    """
    kind = loading.pipeline or needs.pipeline
    check_folder(name, folder, kind, _AUTOMATIC, needs)
    factory = pipeline_class(name, kind)

    def assemble(dtype: Any) -> Any:
        return _assembled(name, folder, factory, loading, needs, dtype)

    return load_assembled(name, folder, loading, needs, assemble)


def load_assembled(
    name: str, folder: Path, loading: Loading, needs: Needs, assemble: Callable[[Any], Any]
) -> Loaded:
    """Return the pipeline that `assemble(dtype)` makes of a folder, brought to where it runs.

    Raises ModelFileError where it cannot, ConfigError for a device that is none.
    """
    device = torch_device(name, _device(loading.device))
    dtype = _dtype(loading.dtype, device, needs.half)
    try:
        pipeline = assemble(dtype)
    except (ConfigError, ModelFileError):
        raise
    except Exception as error:  # what is raised depends on what is wrong with the files
        if is_out_of_memory(error):
            raise
        raise ModelFileError(
            f'weights of expert {name!r} in {folder} cannot be read ({first_line(error)}): '
            f'fetch {needs.repository} again'
        ) from error
    if loading.vae_slicing:
        pipeline.vae.enable_slicing()
    if loading.vae_tiling:
        pipeline.vae.enable_tiling()
    offload, notices = _place(pipeline, device, loading.offload)
    return Loaded(
        pipeline,
        str(device),
        str(dtype).removeprefix('torch.'),
        offload.value,
        fingerprint_of(folder, DENOISERS, loading.variant),
        notices,
    )


def unload(loaded: Loaded) -> None:
    """Give the memory of a pipeline back."""
    loaded.pipeline.remove_all_hooks()
    gc.collect()


def pipeline_class(name: str, kind: str) -> Any:
    """Return the class of diffusers called `kind`. Raises ConfigError, MissingExtraError."""
    try:
        import accelerate  # noqa: F401  (without it weights are loaded by another, slower way)
        import diffusers
        import transformers  # noqa: F401
    except ImportError as error:
        library = (error.name or 'diffusers').partition('.')[0]
        raise MissingExtraError.naming(library, 'experts') from error
    found = getattr(diffusers, kind, None) if kind.isidentifier() else None
    if kind in _AUTOMATIC or (
        isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)
    ):
        return found
    raise ConfigError(
        f'expert {name!r}: {kind!r} is no pipeline of diffusers {diffusers.__version__}: set '
        'pipeline in experts.yaml to the class that the model card names'
    )


def first_line(error: BaseException) -> str:
    """Return what an error says, shortly."""
    text = str(error).strip()
    return text.splitlines()[0][:200] if text else type(error).__name__


def _device(wanted: str) -> str:
    import torch

    if wanted != 'auto':
        return wanted
    return 'cuda' if torch.cuda.is_available() else 'cpu'


def _dtype(wanted: str, device: Any, half: str) -> Any:
    import torch

    if wanted == 'auto':
        wanted = 'float32' if device.type == 'cpu' else half
    return getattr(torch, wanted)


def _assembled(
    name: str, folder: Path, factory: Any, loading: Loading, needs: Needs, dtype: Any
) -> Any:
    networks: dict[str, Any] = {}
    for part, (library, kind) in parts_of(name, folder).items():
        _check_library(folder, part, library)
        network = _network_class(library, kind)
        if network is not None:
            networks[part] = load_network(name, folder, part, network, loading, needs, dtype)
    if not loading.safety_checker:
        networks |= {'safety_checker': None}
    if 'safety_checker' in networks and not _takes(factory, 'safety_checker'):
        del networks['safety_checker']
    pipeline = factory.from_pretrained(folder, local_files_only=True, dtype=dtype, **networks)
    for suffix in ('', '_2', '_3'):
        tokenizer = getattr(pipeline, f'tokenizer{suffix}', None)
        encoder = getattr(pipeline, f'text_encoder{suffix}', None)
        if tokenizer is not None and encoder is not None:
            check_tokenizer(folder / f'tokenizer{suffix}', tokenizer, encoder, needs)
    for network in networks.values():
        if network is not None:
            network.eval().requires_grad_(False)
    return pipeline


def _check_library(folder: Path, part: str, library: str) -> None:
    import diffusers

    if library not in ('diffusers', 'transformers') and not hasattr(diffusers.pipelines, library):
        raise ModelFileError(
            f'{folder} has its {part} made by {library!r}, which is neither diffusers nor '
            'transformers; code of a folder is not run: use weights that need none'
        )


def check_tokenizer(folder: Path, tokenizer: Any, encoder: Any, needs: Needs) -> None:
    """Raise ModelFileError where a tokenizer was read without its vocabulary.

    It loads all the same then, and knows a few special tokens.
    """
    count, wanted = len(tokenizer), getattr(encoder.config, 'vocab_size', 0)
    if 2 * count < wanted:
        raise ModelFileError(
            f'the tokenizer in {folder} has {count} tokens and its text encoder reads {wanted}: '
            f'its vocabulary is missing, fetch {needs.repository} again'
        )


def _takes(factory: Any, argument: str) -> bool:
    import inspect

    return argument in inspect.signature(factory.__init__).parameters


def _network_class(library: str, kind: str) -> Any:
    """The class of a network that is loaded by itself; None for tokenizers, schedulers and such.

    Besides the two libraries a folder may name a module of pipelines, as for safety checkers.
    """
    import diffusers
    import transformers

    bases = (diffusers.ModelMixin, transformers.PreTrainedModel)
    modules = {'diffusers': diffusers, 'transformers': transformers}
    found = getattr(modules.get(library, getattr(diffusers.pipelines, library, None)), kind, None)
    return found if isinstance(found, type) and issubclass(found, bases) else None


def load_network(
    name: str, folder: Path, part: str, kind: Any, loading: Loading, needs: Needs, dtype: Any
) -> Any:
    """Return the network of class `kind` in a part of a folder. Raises ModelFileError."""
    options: dict[str, Any] = {'local_files_only': True, 'output_loading_info': True}
    if variant := known_variant(folder / part, loading.variant):
        options['variant'] = variant
    if needs.gated and part == 'unet':
        # Older folders say `use_gated_attention`, which the class no longer reads.
        options['attention_type'] = 'gated'
    network, found = kind.from_pretrained(folder / part, dtype=dtype, **options)
    _check_complete(name, folder, part, found, needs)
    return network


def _check_complete(
    name: str, folder: Path, part: str, found: Mapping[str, Any], needs: Needs
) -> None:
    missing = sorted(map(str, found.get('missing_keys', ())))
    missing += sorted(map(str, found.get('mismatched_keys', ())))
    if missing:
        raise ModelFileError(
            f'weights of expert {name!r} in {folder / part} lack {len(missing)} tensors '
            f'({", ".join(missing[:3])}): fetch {needs.repository} again'
        )
    surplus = sorted(map(str, found.get('unexpected_keys', ())))
    if surplus and part in DENOISERS:
        raise ModelFileError(
            f'weights of expert {name!r} in {folder / part} have {len(surplus)} tensors that its '
            f'network does not take ({", ".join(surplus[:3])}), so they are of another model: '
            f'fetch {needs.repository}'
        )


def _place(pipeline: Any, device: Any, wanted: str) -> tuple[Offload, tuple[str, ...]]:
    """Bring the networks to where they run; say what stays there."""
    if device.type == 'cpu':
        pipeline.to(device)
        if wanted in ('auto', 'resident'):
            return Offload.RESIDENT, ()
        return Offload.RESIDENT, (
            f'Offloading ({wanted}) needs a GPU; on the CPU all networks stay in memory.',
        )
    offload = _policy(pipeline, str(device)) if wanted == 'auto' else Offload(wanted)
    if offload is Offload.MODEL:
        pipeline.enable_model_cpu_offload(device=device)
    elif offload is Offload.SEQUENTIAL:
        pipeline.enable_sequential_cpu_offload(device=device)
    elif offload is Offload.GROUP:
        pipeline.enable_group_offload(
            onload_device=device, offload_type='leaf_level', use_stream=True
        )
    else:
        pipeline.to(device)
    return offload, ()


def _policy(pipeline: Any, device: str) -> Offload:
    sizes = [
        sum(one.numel() * one.element_size() for one in part.parameters()) / _MIB
        for part in pipeline.components.values()
        if hasattr(part, 'parameters')
    ]
    return offload_policy(sum(sizes), max(sizes), free_mib(device))
