"""Which backend runs: by name, or by what a machine has; what is missing is named."""

from __future__ import annotations

import ctypes
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from unifiedmllm_ros.errors import (
    BackendError,
    GpuMemoryError,
    ModelError,
    ModelFileError,
    NotFiniteError,
)
from unifiedmllm_ros.perception import Perceiver
from unifiedmllm_ros.runtime import backends, doctor, onnx_session, torch_engine
from unifiedmllm_ros.runtime.backends import Machine, choose, open_engine
from unifiedmllm_ros.runtime.cuda import CudaRuntime
from unifiedmllm_ros.runtime.doctor import diagnose, faster
from unifiedmllm_ros.runtime.engine import Row
from unifiedmllm_ros.runtime.gpu import Gpu, gpus
from unifiedmllm_ros.runtime.manifest import Manifest
from unifiedmllm_ros.runtime.memory import check_main_memory
from unifiedmllm_ros.runtime.onnx_engine import OnnxEngine
from unifiedmllm_ros.runtime.refused import FOLDER_VARIABLE, KEPT, save_refused
from unifiedmllm_ros.runtime.tensorrt_plans import check_gpu_memory
from unifiedmllm_ros.runtime.unified import UnifiedModel

from .conftest import IMAGE_SIZE, TinyModel

RTX = Gpu(0, 'RTX 4090', (8, 9), 24 << 30, False, (13, 0))
ORIN = Gpu(0, 'Orin', (8, 7), 16 << 30, True, (12, 6))
CPU = ('CPUExecutionProvider',)
CUDA = ('CUDAExecutionProvider', *CPU)


@pytest.mark.parametrize(
    ('machine', 'chosen', 'command'),
    [
        (Machine((), (), CPU, False), 'onnxruntime', ''),
        (Machine((), ('tensorrt_rtx',), CUDA, True), 'onnxruntime', ''),
        (Machine((RTX,), ('tensorrt_rtx',), CPU, False), 'tensorrt', ''),
        (Machine((RTX,), (), CUDA, True), 'onnxruntime-cuda', 'unifiedmllm_ros[tensorrt]'),
        (Machine((RTX,), (), CPU, True), 'onnxruntime', 'unifiedmllm_ros[tensorrt]'),
        (Machine((ORIN,), (), CPU, True), 'onnxruntime', 'python3-libnvinfer'),
    ],
)
def test_the_fastest_that_is_there(machine: Machine, chosen: str, command: str) -> None:
    assert choose(machine)[0].backend == chosen
    found = diagnose(machine, lambda _: [('model', 'm')])
    assert found.chosen.backend == chosen
    assert ('backend', f'{chosen}: {found.chosen.why}') in found.lines
    assert ('model', 'm') in found.lines
    assert command in faster(machine)


def test_names_that_are_none(tiny: TinyModel) -> None:
    with pytest.raises(BackendError, match="backend 'cuda': choose from auto, onnxruntime"):
        open_engine(tiny.folder, 'cuda')
    with pytest.raises(BackendError, match="precision 'fp8'"):
        open_engine(tiny.folder, precision='fp8')
    with pytest.raises(BackendError, match="no provider 'rocm' here: choose from cpu, cuda"):
        OnnxEngine.load(tiny.folder / 'onnx', provider='rocm')


def test_onnxruntime_without_cuda_says_what_to_install(tiny: TinyModel) -> None:
    with pytest.raises(BackendError, match=r'without CUDAExecutionProvider.*onnxruntime-gpu'):
        OnnxEngine.load(tiny.folder / 'onnx', provider='cuda')


def test_a_provider_that_does_not_start_is_no_silent_cpu(tiny: TinyModel) -> None:
    import onnxruntime

    def fallen_back(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(get_providers=lambda: list(CPU))

    runtime = SimpleNamespace(
        __version__='1',
        get_available_providers=lambda: list(CUDA),
        SessionOptions=onnxruntime.SessionOptions,
        InferenceSession=fallen_back,
    )
    with pytest.raises(BackendError, match='did not start'):
        onnx_session.open_session(
            Path('decoder.onnx'), onnx_session.SessionOptions('cuda', 1), runtime
        )
    error = RuntimeError('CUDA failure 2: out of memory')
    assert isinstance(onnx_session.failed(error, 'decoder', 'cuda'), GpuMemoryError)
    assert isinstance(onnx_session.failed(error, 'decoder', 'cpu'), ModelError)


def test_tensorrt_without_a_gpu_is_an_error(tiny: TinyModel) -> None:
    if gpus():
        pytest.skip('there is a GPU')
    with pytest.raises(BackendError, match='needs an NVIDIA GPU'):
        open_engine(tiny.folder, 'tensorrt', 'fp32')
    with pytest.raises(ModelFileError, match=r'--to tensorrt --precision bf16'):
        open_engine(tiny.folder, 'tensorrt', 'bf16')


def test_out_of_gpu_memory_goes_on_with_the_cpu_aloud(
    tiny: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    real = backends._open

    def short_of_memory(folder: Path, backend: str, *rest: object) -> object:
        if backend == 'tensorrt':
            raise GpuMemoryError('out of GPU memory')
        return real(folder, backend, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(backends, '_open', short_of_memory)
    machine = Machine((RTX,), ('tensorrt',), CPU, False)
    engine = open_engine(tiny.folder, machine=machine, say=said.append)
    assert engine.info.backend.startswith('onnxruntime')
    assert 'instead of tensorrt' in engine.info.state
    assert 'going on with onnxruntime' in said[0]
    with pytest.raises(GpuMemoryError):  # what was named runs or fails
        open_engine(tiny.folder, 'tensorrt', say=said.append)


def test_a_driver_that_is_too_old_leaves_the_cpu_to_auto_alone(
    tiny: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    real = backends._open

    def too_old(folder: Path, backend: str, *rest: object) -> object:
        if backend == 'tensorrt':
            raise BackendError('the NVIDIA driver is too old')
        return real(folder, backend, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(backends, '_open', too_old)
    machine = Machine((RTX,), ('tensorrt',), CPU, False)
    engine = open_engine(tiny.folder, machine=machine, say=said.append)
    assert engine.info.state == 'instead of tensorrt, which does not run here'
    assert said == ['tensorrt: the NVIDIA driver is too old; going on with onnxruntime instead']
    with pytest.raises(BackendError, match='too old'):
        open_engine(tiny.folder, 'tensorrt', say=said.append)


def test_auto_runs_in_torch_on_a_gpu_what_was_never_exported(
    tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu, cpu = Machine((RTX,), (), CPU, True), Machine((), (), CPU, False)
    opened: list[str] = []

    def note(folder: Path, backend: str, *_: object) -> str:
        opened.append(backend)
        return backend

    monkeypatch.setattr(backends, '_open', note)
    exported, raw = tmp_path / 'exported', tmp_path / 'raw'
    shutil.copytree(tiny.folder, exported)
    raw.mkdir()
    for folder in (exported, raw):
        (folder / 'model.safetensors').touch()
    assert open_engine(exported, machine=gpu) == 'onnxruntime'
    assert open_engine(raw, machine=gpu) == 'torch'
    assert open_engine(raw, machine=cpu) == 'onnxruntime'  # which says what is missing
    assert open_engine(raw, precision='bf16', machine=gpu) == 'torch'
    assert open_engine(raw, precision='int8', machine=gpu) == 'onnxruntime'  # so it does
    assert opened == ['onnxruntime', 'torch', 'onnxruntime', 'torch', 'onnxruntime']


def test_torch_is_only_asked_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(torch_engine, 'cuda_available', lambda: asked.append(True) or True)
    monkeypatch.setattr(backends, 'gpus', tuple)
    assert not Machine.here().torch
    monkeypatch.setattr(backends, 'gpus', lambda: (RTX,))
    assert Machine.here().torch
    assert asked == [True]


def test_the_doctor_says_in_what_precision_models_are(
    tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny.folder / 'onnx', tmp_path / 'models' / 'tiny' / 'onnx')
    broken = tmp_path / 'models' / 'broken' / 'onnx'
    broken.mkdir(parents=True)
    (broken / 'manifest.json').write_text('{}')
    monkeypatch.setattr(doctor, 'share_folders', lambda: (tmp_path,))
    lines = dict(diagnose(Machine((), (), CPU, False)).lines)
    assert lines['tiny'] == 'onnx: fp32, 0 MiB'
    assert 'format None' in lines['broken']


def test_a_model_larger_than_memory_is_refused(tiny: TinyModel) -> None:
    manifest = Manifest.load(tiny.folder / 'onnx')
    graph = manifest.graphs['decoder'].model_copy(update={'bytes': 1 << 50})
    huge = manifest.model_copy(update={'graphs': {'decoder': graph}})
    with pytest.raises(ModelError, match='of memory are free'):
        check_main_memory(huge)
    with pytest.raises(GpuMemoryError, match=r'RTX 4090 has 24\.0 GiB'):
        check_gpu_memory(huge, RTX, 256)
    check_gpu_memory(manifest, RTX, 256)


@pytest.mark.parametrize(
    ('code', 'error', 'words'),
    [
        (2, GpuMemoryError, 'out of GPU memory'),
        (35, BackendError, 'driver is too old'),
        (100, BackendError, 'no NVIDIA GPU'),
        (700, ModelError, 'CUDA error 700'),
    ],
)
def test_cuda_errors_are_told_apart(code: int, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        CudaRuntime(SimpleNamespace(cudaGetDeviceCount=lambda _: code))


def test_gpus_are_read_from_the_driver() -> None:
    class Driver:
        def cuInit(self, _: int) -> int:
            return 0

        def cuDriverGetVersion(self, version: object) -> int:
            ctypes.cast(version, ctypes.POINTER(ctypes.c_int))[0] = 13010
            return 0

        def cuDeviceGetCount(self, count: object) -> int:
            ctypes.cast(count, ctypes.POINTER(ctypes.c_int))[0] = 1
            return 0

        def cuDeviceGet(self, device: object, index: int) -> int:
            return 0

        def cuDeviceGetName(self, name: ctypes.Array, size: int, device: object) -> int:
            name.value = b'RTX'
            return 0

        def cuDeviceTotalMem_v2(self, memory: object, device: object) -> int:
            ctypes.cast(memory, ctypes.POINTER(ctypes.c_size_t))[0] = 8 << 30
            return 0

        def cuDeviceGetAttribute(self, value: object, number: int, device: object) -> int:
            ctypes.cast(value, ctypes.POINTER(ctypes.c_int))[0] = {75: 8, 76: 6, 18: 0}[number]
            return 0

    assert gpus(Driver()) == (Gpu(0, 'RTX', (8, 6), 8 << 30, False, (13, 1)),)
    assert gpus(SimpleNamespace(cuInit=lambda _: 100)) == ()


def test_an_answer_of_nan_is_refused_and_its_frame_kept(
    tiny: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    model = UnifiedModel.load(tiny.folder, threads=1)
    perceiver = Perceiver(model)
    image = np.random.default_rng(0).integers(0, 255, (*IMAGE_SIZE, 3), np.uint8)
    perceiver.set_image(image)
    vocab = model.processor.vocab_size

    def spoilt(rows: Sequence[Row]) -> list[np.ndarray]:
        return [np.full((row.wanted, vocab), np.nan, np.float32) for row in rows]

    with monkeypatch.context() as patch:
        patch.setattr(model._engine._decoder, 'step', spoilt)
        with pytest.raises(NotFiniteError, match=r'saved for a report: .*\.png'):
            perceiver.ask('find the mug')
    (png,) = tmp_path.glob('*.png')
    import cv2

    assert np.array_equal(cv2.cvtColor(cv2.imread(str(png)), cv2.COLOR_BGR2RGB), image)
    facts = json.loads(png.with_suffix('.json').read_text())
    assert (facts['question'], facts['model']) == ('find the mug', 'tiny')


def test_few_refused_frames_are_kept(tmp_path: Path) -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    for _ in range(KEPT + 3):
        assert 'saved' in save_refused(image, {}, tmp_path)
    assert len(list(tmp_path.glob('*.png'))) == KEPT
    (tmp_path / 'file').write_text('')
    assert 'could not be saved' in save_refused(image, {}, tmp_path / 'file')
