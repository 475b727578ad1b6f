"""The engine that replays its steps: the numbers of torch as it is, on the CPU and on a GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='needs the extra [train]')
peft = pytest.importorskip('peft', reason='needs the extra [train]')

from tests.model.preset_twin import shrunken_model  # noqa: E402
from unifiedmllm_ros.errors import GpuMemoryError, InstructionError, ModelError  # noqa: E402
from unifiedmllm_ros.locations import model_folder  # noqa: E402
from unifiedmllm_ros.model.loramoe import LoraMoEConfig  # noqa: E402
from unifiedmllm_ros.runtime.captured_engine import CapturedEngine  # noqa: E402
from unifiedmllm_ros.runtime.engine import Row  # noqa: E402
from unifiedmllm_ros.runtime.torch_decoder import WIDTHS  # noqa: E402
from unifiedmllm_ros.runtime.torch_engine import TorchEngine, fitting_precision  # noqa: E402

DEVICES = ['cpu', 'cuda'] if torch.cuda.is_available() else ['cpu']
CLOSE = 2e-4
IDS = list(range(30, 80))


@pytest.fixture(scope='module', params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where the engine computes; on a GPU in float32 throughout."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield str(request.param)
    torch.backends.cudnn.allow_tf32 = before


@pytest.fixture(scope='module', params=['7b', 'smol-135m', 'tabletop-nano', 'adapted'])
def pair(request: pytest.FixtureRequest, device: str) -> tuple[TorchEngine, CapturedEngine]:
    """The same weights in both engines; 'adapted' has LoRAMoE's experts."""

    def model() -> Any:
        if request.param != 'adapted':
            return shrunken_model(request.param)
        torch.manual_seed(0)
        twin = shrunken_model('tabletop-nano')
        return peft.get_peft_model(twin, LoraMoEConfig(init_weights=False)).eval()

    return TorchEngine(model(), 'twin'), CapturedEngine(model().to(device), 'twin', 600)


def visual(engine: TorchEngine, seed: int = 0) -> np.ndarray:
    shape = engine.manifest.visual_tokens, engine.manifest.hidden
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def assert_equal(
    ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray], close: float = CLOSE
) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.shape == other.shape
        np.testing.assert_allclose(mine, other, atol=close, rtol=close)


@pytest.mark.parametrize('cuts', [[50], [1] * 50, [2, 3, 1, 30, 14], [WIDTHS[2], 46]])
def test_logits_of_torch_however_a_sequence_is_cut(
    pair: tuple[TorchEngine, CapturedEngine], cuts: list[int]
) -> None:
    said: list[list[np.ndarray]] = []
    for engine in pair:
        cache, rest = engine.new_cache(), list(IDS)
        said.append([])
        for place, cut in enumerate(cuts):
            picture = visual(engine) if place == 0 else None
            said[-1].append(engine.step(rest[:cut], cache, picture))
            rest = rest[cut:]
    assert_equal(said[1], said[0])


def test_pictures_between_ids(pair: tuple[TorchEngine, CapturedEngine]) -> None:
    said = []
    for engine in pair:
        cache, picture = engine.new_cache(), visual(engine)
        row = Row(IDS[:9], cache, ((2, picture), (7, picture)))
        said.append([*engine.step_all([row]), engine.step([9, 8], cache, last=1)])
    assert_equal(said[1], said[0])


def test_several_sequences_at_once_and_a_shared_beginning(
    pair: tuple[TorchEngine, CapturedEngine],
) -> None:
    reference, engine = pair
    assert engine.info.shares_prefixes
    said = []
    for each in pair:
        opening = each.new_cache()
        each.step([7], opening)
        picture = visual(each)
        caches = [opening.fork() for _ in range(5)]
        rows = [
            Row([11, 12, *IDS[: 3 * n + 1]], cache, ((1, picture),), 1)
            for n, cache in enumerate(caches)
        ]
        first = each.step_all(rows)
        then = each.step_all([Row(IDS[n : n + 1 + n % 2], c) for n, c in enumerate(caches)])
        caches[2].truncate(6)
        said.append([*first, *then, each.step([5], caches[2]), each.step([5], opening)])
    assert_equal(said[1], said[0])
    assert reference.info.shares_prefixes is False


def test_steps_wider_than_any_recorded_and_sequences_up_to_the_end(
    pair: tuple[TorchEngine, CapturedEngine],
) -> None:
    reference, engine = pair
    ids = np.random.default_rng(1).integers(30, 900, 600).tolist()
    ours, theirs = engine.new_cache(), reference.new_cache()
    assert_equal(
        [engine.step(ids[: WIDTHS[-1] + 44], ours, last=2), engine.step(ids[300:599], ours)],
        [
            reference.step(ids[: WIDTHS[-1] + 44], theirs, last=2),
            reference.step(ids[300:599], theirs),
        ],
    )
    assert_equal([engine.step([40], ours)], [reference.step([40], theirs)])
    with pytest.raises(InstructionError, match='600'):
        engine.step([41], ours)
    assert ours.length == 600


def test_encoders_take_new_pictures_each_time(pair: tuple[TorchEngine, CapturedEngine]) -> None:
    reference, engine = pair
    rng = np.random.default_rng(3)
    size = engine.manifest.image_size
    pictures = [rng.random((count, 3, *size), np.float32) for count in (1, 1, 2, 1)]
    copies = [pixels.copy() for pixels in pictures]
    for pixels in pictures:
        # Convolutions of a GPU sum otherwise.
        said = engine.encode_images(pixels)
        assert_equal([said], [reference.encode_images(pixels)], close=10 * CLOSE)
    assert all(map(np.array_equal, pictures, copies))
    if engine.manifest.video:
        frames = rng.random((engine.manifest.video.frames, 3, *size), np.float32)
        for each in (frames, frames[::-1].copy()):
            assert_equal([engine.encode_video(each)], [reference.encode_video(each)], 10 * CLOSE)
    if engine.manifest.audio:
        wave = rng.normal(0, 0.1, engine.manifest.audio.samples).astype(np.float32)
        assert_equal([engine.encode_audio(wave)], [reference.encode_audio(wave)], 10 * CLOSE)


def test_memory_of_caches_that_are_gone_is_used_again(device: str) -> None:
    engine = CapturedEngine(shrunken_model('smol-135m').to(device), 'twin')
    free = engine._decoder._free
    first = engine.new_cache()
    memory = first.buffers.memory
    said = engine.step(IDS, first)
    del first
    assert free == [memory]
    second = engine.new_cache()
    assert second.buffers.memory is memory
    assert not free
    assert_equal([engine.step(IDS, second)], [said])


def test_numbers_that_are_not_finite_leave_with_their_memory(device: str) -> None:
    engine = CapturedEngine(shrunken_model('smol-135m').to(device), 'twin')
    cache, good = engine.new_cache(), engine.new_cache()
    expected = engine.step([7, 8], good)
    broken = np.full((2, engine.manifest.hidden), np.nan, np.float32)
    engine.step([7], cache)
    assert not np.isfinite(engine.step([8], cache, broken)).all()
    cache.truncate(1)
    assert_equal([engine.step([8], cache)], [expected[1:]])
    memory = engine._decoder._free[-1]  # which holds them still
    assert not torch.isfinite(memory.store).all()
    fresh = engine.new_cache()
    assert fresh.buffers.memory is memory
    assert_equal([engine.step([7, 8], fresh)], [expected])


def test_a_step_that_fails_leaves_caches_as_they_were(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = CapturedEngine(shrunken_model('smol-135m').to(device), 'twin')
    cache = engine.new_cache()
    engine.step([7, 8], cache)

    def fail(*_: Any) -> None:
        raise RuntimeError('an illegal memory access was encountered')

    with monkeypatch.context() as patch:
        patch.setattr(engine._decoder, '_compute', fail)
        with pytest.raises(ModelError, match='illegal memory access'):
            engine.step([9], cache)
    assert cache.length == 2
    left = cache.buffers  # what the failed step has written there is not known
    again = engine.new_cache()
    assert_equal([engine.step([9], cache)], [engine.step([7, 8, 9], again, last=1)])
    assert cache.buffers is not left


def test_no_room_for_a_cache_is_an_error_of_gpu_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = CapturedEngine(shrunken_model('smol-135m'), 'twin')

    def full() -> None:
        raise torch.OutOfMemoryError('CUDA out of memory')

    monkeypatch.setattr(engine._decoder, '_new_memory', full)
    with pytest.raises(GpuMemoryError, match='CUDA out of memory'):
        engine.new_cache()


def test_the_shipped_model_answers_as_in_torch(device: str) -> None:
    from benchmarks.frames import sample_frames, sample_recording
    from unifiedmllm_ros.model.processing import UnifiedMLLMProcessor
    from unifiedmllm_ros.perception import Perceiver
    from unifiedmllm_ros.runtime.unified import UnifiedModel

    folder = model_folder('tabletop-nano')
    processor = UnifiedMLLMProcessor.from_pretrained(folder)
    engines = TorchEngine.load(folder, 'fp32', 'cpu'), CapturedEngine.load(folder, 'fp32', device)
    questions = [question.instruction for question in sample_recording().questions]
    said = []
    for engine in engines:
        perceiver = Perceiver(UnifiedModel(engine, processor))
        said.append([])
        for frame in sample_frames(2):
            perceiver.set_image(frame)
            said[-1] += [perceiver.ask(q, execute=False).text for q in questions]
    assert said[0] == said[1]


def test_a_gpu_computes_in_the_halves_that_weights_are_stored_in() -> None:
    stored = ('torch.float16', 'torch.bfloat16', 'torch.float32', 'None')
    assert [fitting_precision(name, 'cuda') for name in stored] == ['fp16', 'bf16', 'bf16', 'bf16']
    assert {fitting_precision(name, 'cpu') for name in stored} == {'fp32'}


@pytest.mark.gpu
@pytest.mark.skipif(
    'cuda' not in DEVICES, reason='needs an NVIDIA GPU: all of this file runs there'
)
def test_steps_are_recorded_on_a_gpu() -> None:
    engine = CapturedEngine(shrunken_model('smol-135m').to('cuda'), 'twin')
    cache = engine.new_cache()
    engine.step(IDS, cache)
    engine.step([7], cache)
    assert engine.info.state.startswith('replayed as CUDA graphs')
    assert {shape[0] for shape in cache.buffers.memory.steps} == {64, 1}
