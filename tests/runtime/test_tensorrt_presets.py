"""All graphs of tabletop-nano and of every preset's twin as engines for three generations of GPUs.

Built without a GPU by TensorRT for RTX, each model exported and each engine built once.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip('tensorrt_rtx', reason='needs the extra [tensorrt]')
torch = pytest.importorskip('torch', reason='needs the extra [train]')
pytest.importorskip('onnxscript', reason='needs the extra [export]')
peft = pytest.importorskip('peft', reason='needs the extra [train]')

from tests.model.preset_twin import shrunken_model  # noqa: E402
from unifiedmllm_ros.errors import EngineFileError  # noqa: E402
from unifiedmllm_ros.locations import share  # noqa: E402
from unifiedmllm_ros.model.loramoe import LoraMoEConfig  # noqa: E402
from unifiedmllm_ros.model.modeling import UnifiedMLLMForConditionalGeneration  # noqa: E402
from unifiedmllm_ros.runtime.engine_cache import EngineCache  # noqa: E402
from unifiedmllm_ros.runtime.export import export_model  # noqa: E402
from unifiedmllm_ros.runtime.manifest import Manifest  # noqa: E402
from unifiedmllm_ros.runtime.tensorrt_build import (  # noqa: E402
    BuildJob,
    DecoderProfile,
    _profiles,
    build,
    parse,
)
from unifiedmllm_ros.runtime.tensorrt_library import open_library  # noqa: E402
from unifiedmllm_ros.runtime.tensorrt_plans import Plans  # noqa: E402

GPUS = ('8.6', '8.9', '12.0')
TWINS = ('smol-135m', '7b')
CAPACITY = 128
LIBRARY = open_library('tensorrt_rtx')
KINDS = {'bool': 'BOOL', 'float32': 'FLOAT', 'float16': 'HALF', 'int64': 'INT64'}


@dataclass(frozen=True)
class Exported:
    """A folder of graphs for TensorRT."""

    folder: Path

    @property
    def manifest(self) -> Manifest:
        return Manifest.load(self.folder)

    def job(self, graph: str) -> BuildJob:
        profile = DecoderProfile.of(self.manifest, CAPACITY) if graph == 'decoder' else None
        file = self.manifest.graph(self.folder, graph)
        return BuildJob(file, graph, self.manifest, GPUS, profile)


def exported(name: str, out: Path) -> Exported:
    if name in TWINS:
        # With a LoRAMoE adapter whose experts do something.
        model = peft.get_peft_model(shrunken_model(name), LoraMoEConfig(init_weights=False)).eval()
    else:
        folder = share(f'models/{name}')
        model = UnifiedMLLMForConditionalGeneration.from_pretrained(folder)
    export_model(model, name, out, precision='fp16', target='tensorrt')
    return Exported(out)


@pytest.fixture(scope='session')
def nano_graphs(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return exported('tabletop-nano', tmp_path_factory.mktemp('nano'))


@pytest.fixture(scope='module', params=('tabletop-nano', *TWINS))
def graphs(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    nano_graphs: Exported,
) -> Exported:
    if request.param not in TWINS:
        return nano_graphs
    return exported(request.param, tmp_path_factory.mktemp('graphs'))


@pytest.fixture(scope='module')
def plans(tmp_path_factory: pytest.TempPathFactory, graphs: Exported) -> dict[str, bytes]:
    """One engine of each graph, for all three."""
    return {name: build(graphs.job(name), LIBRARY, print) for name in graphs.manifest.graphs}


def test_every_graph_builds(graphs: Exported, plans: dict[str, bytes]) -> None:
    has_media = graphs.manifest.video is not None
    assert set(plans) == {'vision', 'decoder', *(('video', 'audio') if has_media else ())}
    assert has_media == (graphs.manifest.model in TWINS)
    # Kernels are compiled where the engine runs: what is in it are graph and weights.
    for name, plan in plans.items():
        assert len(plan) > 10_000, name


def test_bindings_and_profiles_are_those_of_the_manifest(graphs: Exported) -> None:
    for name, entry in graphs.manifest.graphs.items():
        job = graphs.job(name)
        logger = LIBRARY.logger()
        builder = LIBRARY.module.Builder(logger)
        network, _parser = parse(job, LIBRARY, builder, logger)
        inputs = [network.get_input(i) for i in range(network.num_inputs)]
        outputs = [network.get_output(i) for i in range(network.num_outputs)]
        assert [tensor.name for tensor in inputs] == list(entry.inputs)
        assert [tensor.name for tensor in outputs] == list(entry.outputs)
        for tensor in (*inputs, *outputs):
            assert tensor.dtype.name == KINDS[entry.types[tensor.name]], tensor.name
        profiles = list(_profiles(job))
        assert len(profiles) == {'vision': 1, 'decoder': 2}.get(name, 0)
        for tensor in inputs:
            for shapes in profiles:
                covers(tensor, shapes)
            assert profiles or -1 not in tuple(tensor.shape)


def covers(tensor: Any, shapes: dict[str, Any]) -> None:
    """A profile gives every length that is open, and no other than those that are fixed."""
    shape = tuple(tensor.shape)
    if tensor.name not in shapes:
        assert -1 not in shape, tensor.name
        return
    least, usual, most = shapes[tensor.name]
    for place, length in enumerate(shape):
        if length == -1:
            assert least[place] <= usual[place] <= most[place]
        else:
            assert least[place] == most[place] == length, tensor.name


@pytest.fixture(scope='module')
def nano(
    tmp_path_factory: pytest.TempPathFactory, nano_graphs: Exported
) -> tuple[Exported, EngineCache]:
    """tabletop-nano's vision engine in a cache, for each generation its own."""
    cache = EngineCache.open(tmp_path_factory.mktemp('engines'))
    for gpu in GPUS:
        assert plans_of(nano_graphs, cache, gpu).get('vision').built
    return nano_graphs, cache


def plans_of(graphs: Exported, cache: EngineCache, gpu: str) -> Plans:
    return Plans(graphs.folder, cache, gpu, print, LIBRARY, CAPACITY)


def test_each_generation_has_its_engine_and_finds_it_again(
    nano: tuple[Exported, EngineCache],
) -> None:
    found = [plans_of(*nano, gpu).get('vision') for gpu in GPUS]
    assert not any(plan.built for plan in found)
    assert len({plan.content for plan in found}) == len(GPUS)
    names = sorted(file.name for file in nano[1].folder.glob('*.engine'))
    assert names == [f'tabletop-nano-vision-sm{gpu}-fp32-fixed.engine' for gpu in sorted(GPUS)]


def test_another_generation_precision_or_length_is_a_miss(
    nano: tuple[Exported, EngineCache],
) -> None:
    graphs, cache = nano
    assert cache.load(plans_of(graphs, cache, '12.1').key('vision')) is None
    keys = {plans_of(graphs, cache, '8.9').key('decoder')}
    keys.add(Plans(graphs.folder, cache, '8.9', print, LIBRARY, 2 * CAPACITY).key('decoder'))
    assert len({key.file for key in keys}) == 2
    assert all(cache.load(key) is None for key in keys)


def test_a_truncated_engine_is_named_and_left(nano: tuple[Exported, EngineCache]) -> None:
    plans = plans_of(*nano, '8.6')
    file = nano[1].folder / plans.key('vision').file
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    try:
        with pytest.raises(EngineFileError, match=rf'{file.name}: truncated, .*--rebuild'):
            plans.get('vision')
        assert file.stat().st_size == len(content) // 2
    finally:
        file.write_bytes(content)
    assert not plans.get('vision').built
