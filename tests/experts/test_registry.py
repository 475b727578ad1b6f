"""The registry of experts: its file, what it refuses, what it loads and when."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from tests.experts.networks import write_channel_network
from unifiedmllm_ros.errors import (
    ConfigError,
    ExpertNotInstalledError,
    ModelFileError,
    OutOfMemoryError,
    UnknownTaskError,
)
from unifiedmllm_ros.experts.registry import ExpertRegistry
from unifiedmllm_ros.experts.segmentation import MaskNetwork
from unifiedmllm_ros.tasks import TASKS

NETWORK = """
experts:
  net:
    implementation: unifiedmllm_ros.experts.segmentation:MaskNetwork
    kind: segmentation
    weights: weights/mask.onnx
    memory_mib: 12
    licence: MIT
    defaults: {threads: 1}
  cut:
    implementation: unifiedmllm_ros.experts.grabcut:GrabCut
    kind: segmentation
tasks:
  seg: net
"""


def write(folder: Path, text: str) -> Path:
    path = folder / 'experts.yaml'
    path.write_text(text, encoding='utf-8')
    return path


def test_an_expert_is_built_from_the_file_and_loaded_once(tmp_path: Path) -> None:
    write_channel_network(tmp_path / 'weights' / 'mask.onnx')
    registry = ExpertRegistry.from_file(write(tmp_path, NETWORK))
    assert [status.state for status in registry.list()] == ['available', 'available']
    expert = registry.expert('seg')
    assert isinstance(expert, MaskNetwork)
    assert registry.expert('seg') is expert
    net, cut = registry.list()
    assert (net.state, cut.state) == ('loaded', 'available')
    assert (net.tasks, cut.tasks) == (('seg',), ())
    assert (net.memory_mib, net.licence) == (12, 'MIT')
    assert net.weights == str(tmp_path / 'weights' / 'mask.onnx')
    registry.close()
    assert registry.list()[0].state == 'available'


def test_another_expert_takes_over_by_configuration_alone(tmp_path: Path) -> None:
    text = NETWORK.replace('seg: net', 'seg: cut')
    assert ExpertRegistry.from_file(write(tmp_path, text)).expert('seg').name == 'cut'


def test_missing_weights_are_listed_and_named_with_the_remedy(tmp_path: Path) -> None:
    registry = ExpertRegistry.from_file(write(tmp_path, NETWORK))
    status = registry.list()[0]
    assert status.state == 'unavailable'
    assert 'weights/mask.onnx' in status.reason
    with pytest.raises(ExpertNotInstalledError, match=r'weights/mask\.onnx.*experts\.yaml'):
        registry.expert('seg')


def test_damaged_weights_are_an_error_and_a_later_fix_works(tmp_path: Path) -> None:
    path = write_channel_network(tmp_path / 'weights' / 'mask.onnx')
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    registry = ExpertRegistry.from_file(write(tmp_path, NETWORK))
    with pytest.raises(ModelFileError):
        registry.expert('seg')
    path.write_bytes(whole)
    assert registry.expert('seg').name == 'net'


def test_tasks_without_an_expert_name_the_remedy(tmp_path: Path) -> None:
    registry = ExpertRegistry.from_file(
        write(tmp_path, NETWORK.replace('seg: net', 'x').replace('tasks:\n  x', 'tasks: {}'))
    )
    with pytest.raises(ExpertNotInstalledError, match=r'bind one of net, cut'):
        registry.expert('seg')
    with pytest.raises(ExpertNotInstalledError, match="kind 'image_edit'"):
        registry.expert('edit')
    with pytest.raises(UnknownTaskError, match=r'dance.*seg.*register_task'):
        registry.expert('dance')


@pytest.mark.parametrize(
    ('change', 'named'),
    [
        (('seg: net', 'seg: nobody'), 'nobody'),
        (('seg: net', 'edit: net'), 'image_edit'),
        (('seg: net', 'dance: net'), 'dance'),
        (('memory_mib: 12', 'memory_mib: -1'), r'memory_mib.*0'),
        (('memory_mib: 12', 'offload_mib: 12'), r'offload_mib 12 is more than memory_mib 0'),
        (('weights: weights/mask.onnx', 'repo: a/b'), r'repo .a/b. needs weights'),
        (('memory_mib: 12', 'memory: 12'), 'experts.net.memory'),
        (('kind: segmentation', ''), 'experts.net.kind'),
        (('experts:', 'experts: ['), 'YAML'),
        ((NETWORK, ''), 'file'),
        ((NETWORK, '- 1'), 'file'),
    ],
)
def test_a_wrong_file_is_refused_with_the_place_named(
    tmp_path: Path, change: tuple[str, str], named: str
) -> None:
    path = write(tmp_path, NETWORK.replace(*change, 1))
    with pytest.raises(ConfigError, match=named) as caught:
        ExpertRegistry.from_file(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='cannot be read'):
        ExpertRegistry.from_file(tmp_path / 'none.yaml')
    (tmp_path / 'bytes.yaml').write_bytes(b'\xff\xfe\x00experts')
    with pytest.raises(ConfigError, match='not YAML'):
        ExpertRegistry.from_file(tmp_path / 'bytes.yaml')


def test_defaults_that_the_implementation_does_not_take_are_refused(tmp_path: Path) -> None:
    write_channel_network(tmp_path / 'weights' / 'mask.onnx')
    registry = ExpertRegistry.from_file(write(tmp_path, NETWORK.replace('threads', 'treads')))
    with pytest.raises(ConfigError, match='treads'):
        registry.expert('seg')


def test_entries_tell_how_missing_weights_are_fetched(tmp_path: Path) -> None:
    text = NETWORK.replace('weights: weights', 'repo: someone/masks\n    weights: weights')
    registry = ExpertRegistry.from_file(write(tmp_path, text))
    with pytest.raises(ExpertNotInstalledError, match='unifiedmllm experts download net'):
        registry.expert('seg')


def test_an_unknown_name_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    registry = ExpertRegistry.from_file(write(tmp_path, NETWORK))
    for ask in (registry.get, registry.unload, registry.entry):
        with pytest.raises(ConfigError, match=r"no expert 'nobody'.*net, cut"):
            ask('nobody')


def test_the_file_sets_budgets_by_device(tmp_path: Path) -> None:
    registry = ExpertRegistry.from_file(write(tmp_path, NETWORK + 'memory_mib: {cpu: 5}\n'))
    write_channel_network(tmp_path / 'weights' / 'mask.onnx')
    with pytest.raises(OutOfMemoryError, match=r"'net' needs 12 MiB.*5 MiB"):
        registry.expert('seg')


@pytest.mark.parametrize(
    'reference', ['no_such_module:Expert', 'unifiedmllm_ros.experts.grabcut:Nothing', 'no_entry']
)
def test_an_implementation_that_is_not_installed_names_the_remedy(
    tmp_path: Path, reference: str
) -> None:
    text = NETWORK.replace('unifiedmllm_ros.experts.grabcut:GrabCut', reference)
    registry = ExpertRegistry.from_file(write(tmp_path, text.replace('seg: net', 'seg: cut')))
    with pytest.raises(ExpertNotInstalledError, match='install the package'):
        registry.expert('seg')
    assert registry.list()[1].state == 'unavailable'


def test_an_expert_of_ones_own_comes_by_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / 'own_expert-1.0.dist-info'
    package.mkdir()
    (package / 'METADATA').write_text('Metadata-Version: 2.1\nName: own-expert\nVersion: 1.0\n')
    (package / 'entry_points.txt').write_text(
        '[unifiedmllm_ros.experts]\nfilled_box = own_expert:FilledBox\n'
    )
    (tmp_path / 'own_expert.py').write_text(
        'from unifiedmllm_ros.experts.grabcut import GrabCut\n\n\nclass FilledBox(GrabCut):\n'
        '    pass\n'
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, 'own_expert', raising=False)
    text = NETWORK.replace('unifiedmllm_ros.experts.grabcut:GrabCut', 'filled_box')
    registry = ExpertRegistry.from_file(write(tmp_path, text.replace('seg: net', 'seg: cut')))
    assert type(registry.expert('seg')).__name__ == 'FilledBox'


def test_the_package_file_is_valid_and_segments_with_the_mask_network() -> None:
    registry = ExpertRegistry.from_file()
    assert registry.name_for('seg') == 'mask_network'
    assert registry.name_for('vidseg') == 'mask_flow'
    assert registry.name_for('edit') == 'classical_edit'
    assert registry.name_for('regedit') == 'classical_region_edit'
    kinds = {status.name: status.kind for status in registry.list()}

    def names(task: str) -> set[str]:
        return {name for name, kind in kinds.items() if kind == TASKS[task].expert}

    assert {'grabcut', 'mask_network', 'sam2', 'seem_focal_l', 'seem_focal_t'} <= names('seg')
    assert {'mask_flow', 'sam2_video'} <= names('vidseg')


def test_every_expert_of_the_package_takes_its_defaults() -> None:
    # Listed as unavailable for want of weights, never for a wrong name or option.
    registry = ExpertRegistry.from_file()
    for name, entry in registry.config.experts.items():
        module, _, attribute = entry.implementation.partition(':')
        factory = getattr(importlib.import_module(module), attribute)
        weights = None if entry.weights is None else Path(entry.weights)
        options = {**entry.defaults, **({'variant': entry.variant} if entry.variant else {})}
        assert factory(name=name, weights=weights, **options).name == name
