"""Residency: budgets, turns, and what happens when memory runs out."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from unifiedmllm_ros.errors import Cancelled, ExpertError, ModelFileError, OutOfMemoryError
from unifiedmllm_ros.experts.base import Progress, Request
from unifiedmllm_ros.experts.configuration import ExpertsConfig
from unifiedmllm_ros.experts.device_memory import (
    Offload,
    device_key,
    is_out_of_memory,
    offload_policy,
)
from unifiedmllm_ros.experts.registry import ExpertRegistry
from unifiedmllm_ros.experts.residency import Need, ResidencyManager


class Counted:
    """An expert that counts how often it is loaded, and does what it is told when loading."""

    def __init__(self, name: str, loading: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.loads = self.unloads = 0
        self._loading = loading

    def load(self) -> None:
        self.loads += 1
        self._loading()

    def unload(self) -> None:
        self.unloads += 1

    def run(self, request, progress, cancel):  # type: ignore[no-untyped-def]
        return request.argument


def use(manager: ResidencyManager, expert: Counted, mib: float) -> None:
    with manager.lease(expert, Need('cpu', mib)):
        assert manager.residence(expert.name).busy


def test_two_experts_take_turns_under_a_budget_that_holds_one() -> None:
    manager = ResidencyManager({'cpu': 100})
    one, two = Counted('one'), Counted('two')
    for _ in range(3):
        use(manager, one, 80)
        use(manager, two, 70)
        assert manager.used('cpu') == 70
    assert (one.loads, one.unloads, two.loads, two.unloads) == (3, 3, 3, 2)


def test_the_least_recently_used_one_goes_first_and_no_more_than_needed() -> None:
    manager = ResidencyManager({'cpu': 100})
    experts = [Counted(name) for name in 'abc']
    for expert in experts:
        use(manager, expert, 30)
    use(manager, experts[0], 30)
    use(manager, Counted('d'), 30)
    assert [manager.residence(name).loaded for name in 'abcd'] == [True, False, True, True]


def test_devices_have_budgets_of_their_own() -> None:
    manager = ResidencyManager({'cpu': 100, 'cuda': 100})
    one, two = Counted('one'), Counted('two')
    use(manager, one, 80)
    with manager.lease(two, Need('cuda:0', 80)):
        pass
    assert (manager.used('cpu'), manager.used('cuda')) == (80, 80)
    assert one.unloads == 0


def test_an_expert_beyond_the_budget_is_refused_before_anything_is_unloaded() -> None:
    manager = ResidencyManager({'cpu': 100})
    small, large = Counted('small'), Counted('large')
    use(manager, small, 50)
    with pytest.raises(OutOfMemoryError, match=r"'large' needs 200 MiB.*100 MiB.*memory_mib"):
        manager.run(large, Need('cpu', 200), lambda expert: None)
    assert (small.unloads, large.loads) == (0, 0)


def test_one_that_can_be_offloaded_gets_the_whole_budget() -> None:
    manager = ResidencyManager({'cpu': 100})
    small, large = Counted('small'), Counted('large')
    use(manager, small, 50)
    with manager.lease(large, Need('cpu', 200, 60)):
        assert manager.used('cpu') == 100
    assert small.unloads == 1


def test_a_failed_load_is_told_and_can_be_tried_again() -> None:
    state = {'broken': True}

    def loading() -> None:
        if state['broken']:
            raise ModelFileError('damaged')

    manager, expert = ResidencyManager({'cpu': 100}), Counted('one', loading)
    with pytest.raises(ModelFileError):
        use(manager, expert, 10)
    assert manager.residence('one').error == 'damaged'
    assert manager.used('cpu') == 0
    state['broken'] = False
    use(manager, expert, 10)
    assert manager.residence('one').error == ''


@pytest.mark.parametrize('where', ['load', 'run'])
def test_out_of_memory_unloads_the_others_and_tries_once_more(where: str) -> None:
    manager = ResidencyManager({'cpu': 1000})
    other = Counted('other')
    use(manager, other, 10)

    def greedy() -> None:
        if not other.unloads:
            raise MemoryError

    expert = Counted('greedy', greedy if where == 'load' else lambda: None)

    def work(_: object) -> str:
        if where == 'run':
            greedy()
        return 'done'

    assert manager.run(expert, Need('cpu', 10), work) == 'done'
    assert expert.loads == 2
    assert not manager.residence('other').loaded


def test_out_of_memory_twice_is_an_error_and_leaves_nothing_loaded() -> None:
    manager, tries = ResidencyManager({'cpu': 1000}), []

    def work(_: object) -> None:
        tries.append(1)
        raise MemoryError('Unable to allocate 3 TiB')

    with pytest.raises(OutOfMemoryError, match=r"'one'.*3 TiB.*smaller image"):
        manager.run(Counted('one'), Need(), work)
    assert len(tries) == 2
    assert not manager.residence('one').loaded
    assert manager.run(Counted('two'), Need(), lambda expert: 'fine') == 'fine'


def test_other_errors_are_not_tried_again() -> None:
    manager, tries = ResidencyManager(), []

    def work(_: object) -> None:
        tries.append(1)
        raise ExpertError('no')

    with pytest.raises(ExpertError):
        manager.run(Counted('one'), Need(), work)
    assert len(tries) == 1


def test_torch_and_wrapped_errors_count_as_out_of_memory() -> None:
    torch = pytest.importorskip('torch', reason='needs the extra [train]')
    assert is_out_of_memory(torch.OutOfMemoryError('CUDA out of memory'))
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    wrapped = ModelFileError('cannot be read')
    wrapped.__cause__ = MemoryError()
    assert is_out_of_memory(wrapped)
    assert not is_out_of_memory(RuntimeError('mat1 and mat2 shapes cannot be multiplied'))


def test_who_comes_first_is_served_first_and_hears_its_position() -> None:
    manager, expert = ResidencyManager(), Counted('one')
    done: list[int] = []
    positions: dict[int, list[int]] = {index: [] for index in range(4)}
    queued = [threading.Event() for _ in range(4)]

    def job(index: int) -> None:
        def heard(position: int) -> None:
            positions[index].append(position)
            queued[index].set()

        manager.run(expert, Need(), lambda _: done.append(index), on_position=heard)

    threads = [threading.Thread(target=job, args=(index,)) for index in range(4)]
    with manager.lease(expert, Need()):
        for index, thread in enumerate(threads):
            thread.start()
            assert queued[index].wait(10)
        assert [heard[0] for heard in positions.values()] == [1, 2, 3, 4]
    for thread in threads:
        thread.join(10)
    assert done == [0, 1, 2, 3]
    for heard in positions.values():
        assert heard == sorted(heard, reverse=True)
        assert heard[-1] == 0
    assert expert.loads == 1


def test_a_cancel_while_waiting_frees_the_place_in_the_queue() -> None:
    manager, expert = ResidencyManager(), Counted('one')
    stop, waiting, caught = threading.Event(), threading.Event(), []

    def job() -> None:
        try:
            manager.run(
                expert,
                Need(),
                lambda _: None,
                on_position=lambda _: waiting.set(),
                cancel=stop.is_set,
            )
        except Cancelled as error:
            caught.append(error)

    thread = threading.Thread(target=job)
    with manager.lease(expert, Need()):
        thread.start()
        assert waiting.wait(10)
        stop.set()
        thread.join(10)
        assert len(caught) == 1
    assert manager.run(expert, Need(), lambda _: 'next') == 'next'


def test_work_on_one_device_is_never_at_the_same_time() -> None:
    manager, inside, most, lock = ResidencyManager({'cpu': 100}), [0], [0], threading.Lock()

    def work(_: object) -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        threading.Event().wait(0.001)
        with lock:
            inside[0] -= 1

    def job(index: int) -> None:
        for _ in range(5):
            manager.run(experts[index], Need('cpu', 60), work)

    experts = [Counted(str(index)) for index in range(4)]
    threads = [threading.Thread(target=job, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == [1]
    assert manager.used('cpu') == 60


def test_a_thread_that_holds_a_device_does_not_wait_for_itself() -> None:
    manager = ResidencyManager({'cpu': 100})
    outer, inner = Counted('outer'), Counted('inner')
    need = Need('cpu', 40)
    found = manager.run(outer, need, lambda _: manager.run(inner, need, lambda _: 'inner'))
    assert found == 'inner'


def test_what_is_at_work_is_not_unloaded_under_its_hands() -> None:
    manager, expert = ResidencyManager(), Counted('one')
    with manager.lease(expert, Need()):
        with pytest.raises(ExpertError, match="'one' is at work"):
            manager.unload('one')
        manager.close()
        assert expert.unloads == 0
    assert expert.unloads == 1
    assert not manager.residence('one').loaded


def test_the_offload_policy_goes_from_fast_to_small() -> None:
    weights, largest = 4096.0, 2048.0
    order = [offload_policy(weights, largest, free) for free in range(0, 12_000, 100)]
    assert order[0] is Offload.SEQUENTIAL
    assert order[-1] is Offload.RESIDENT
    ranks = [list(Offload).index(one) for one in order]
    assert ranks == sorted(ranks, reverse=True)
    assert set(order) == set(Offload)
    assert offload_policy(weights, largest, 1.5 * weights + 4096) is Offload.RESIDENT


def test_devices_have_one_name() -> None:
    assert [device_key(one) for one in ('cpu', 'cuda', 'cuda:1')] == ['cpu', 'cuda:0', 'cuda:1']


def test_a_request_through_the_registry_tells_of_queue_and_loading() -> None:
    entry = {'implementation': f'{__name__}:Slow', 'kind': 'text_to_image', 'memory_mib': 10}
    config = ExpertsConfig.model_validate(
        {'experts': {'slow': entry}, 'tasks': {'gen': 'slow'}, 'memory_mib': {'cpu': 10}}
    )
    registry = ExpertRegistry(config, Path())
    heard: list[Progress] = []
    assert registry.run(Request('gen', 'a'), progress=heard.append) == 'a'  # type: ignore[comparison-overlap]
    assert [(one.phase, one.fraction) for one in heard] == [
        ('load', 0.0),
        ('denoise', 0.5),
        ('denoise', 0.5),  # it told a fall, which nobody hears
        ('denoise', 1.0),
    ]
    assert registry.list()[0].state == 'loaded'
    assert registry.list()[0].load_seconds > 0
    registry.unload('slow')
    assert registry.list()[0].state == 'available'


class Slow(Counted):
    """Tells of progress that falls."""

    def __init__(self, name: str, weights: Path | None = None) -> None:
        super().__init__(name)

    def run(self, request, progress, cancel):  # type: ignore[no-untyped-def]
        for fraction in (0.5, 0.25, 1.0):
            progress(Progress('denoise', fraction))
        return request.argument
