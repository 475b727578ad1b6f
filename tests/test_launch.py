"""The launch files, described with the real `launch` where it is installed, else with stand-ins.

The stand-ins have the classes and keywords of launch and launch_ros of Jazzy, so that a name or a
keyword that does not exist there fails. What the nodes do with it is tried with a real `ros2
launch` elsewhere.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

from unifiedmllm_ros.nodes.configuration import (
    ExpertParameters,
    PerceptionParameters,
    TabletopCameraParameters,
)

ROOT = Path(__file__).resolve().parents[1]
# The arguments people know from nav2.
USUAL = {'namespace', 'use_sim_time', 'params_file', 'autostart', 'log_level'}


class Described(SimpleNamespace):
    """What an action or a substitution was made with."""


def stand_in(kind: str, positional: tuple[str, ...], keywords: tuple[str, ...]) -> Any:
    def make(*values: Any, **options: Any) -> Described:
        assert len(values) <= len(positional), f'{kind}: too many values'
        assert options.keys() <= {*positional, *keywords}, f'{kind}: unknown keyword in {options}'
        return Described(kind=kind, **dict(zip(positional, values, strict=False)), **options)

    return make


STAND_INS = {
    'launch': {'LaunchDescription': (('entities',), ())},
    'launch.actions': {
        'DeclareLaunchArgument': (('name',), ('default_value', 'description', 'choices')),
        'IncludeLaunchDescription': (('source',), ('launch_arguments', 'condition')),
    },
    'launch.launch_description_sources': {'PythonLaunchDescriptionSource': (('path',), ())},
    'launch.substitutions': {
        'LaunchConfiguration': (('name',), ('default',)),
        'PathJoinSubstitution': (('parts',), ()),
    },
    'launch_ros.actions': {
        'Node': (
            (),
            (
                *('package', 'executable', 'name', 'namespace', 'parameters', 'remappings'),
                *('arguments', 'output', 'condition', 'ros_arguments', 'respawn'),
            ),
        ),
    },
    'launch_ros.parameter_descriptions': {'ParameterValue': (('value',), ('value_type',))},
    'launch_ros.substitutions': {'FindPackageShare': (('package',), ())},
}


@pytest.fixture
def described(monkeypatch):
    """Return a function that describes a launch file with the stand-ins."""
    monkeypatch.setitem(sys.modules, 'launch_ros', ModuleType('launch_ros'))
    for name, classes in STAND_INS.items():
        module = ModuleType(name)
        for kind, (positional, keywords) in classes.items():
            setattr(module, kind, stand_in(kind, positional, keywords))
        monkeypatch.setitem(sys.modules, name, module)
    return lambda name: load(name).generate_launch_description().entities


def load(name: str) -> Any:
    path = ROOT / 'launch' / f'{name}.launch.py'
    spec = importlib.util.spec_from_file_location(f'{name}_launch', path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_kind(entities: list[Described], kind: str) -> list[Described]:
    return [entity for entity in entities if entity.kind == kind]


def configurations(value: Any) -> set[str]:
    """Return the names of all LaunchConfigurations in a description."""
    if isinstance(value, Described):
        own = {value.name} if value.kind == 'LaunchConfiguration' else set()
        return own.union(*map(configurations, vars(value).values()))
    if isinstance(value, dict):
        return set().union(*map(configurations, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(configurations, value))
    return set()


@pytest.mark.parametrize('name', ['perception', 'experts', 'demo'])
def test_arguments_are_declared_described_and_used(described, name):
    entities = described(name)
    arguments = of_kind(entities, 'DeclareLaunchArgument')
    declared = {argument.name for argument in arguments}
    assert declared >= USUAL
    assert all(argument.description for argument in arguments)
    assert configurations(list_of_items(entities)) == declared


def list_of_items(entities: list[Described]) -> list[Described]:
    """Return the entities with the views that `dict.items()` gives made into lists."""
    for entity in of_kind(entities, 'IncludeLaunchDescription'):
        entity.launch_arguments = list(entity.launch_arguments)
    return entities


@pytest.mark.parametrize('name', ['perception', 'experts', 'demo'])
def test_executables_and_files_exist(described, name):
    entities = described(name)
    for node in of_kind(entities, 'Node'):
        assert (ROOT / 'scripts' / 'ros' / node.executable).is_file()
    arguments = {a.name: a for a in of_kind(entities, 'DeclareLaunchArgument')}
    _, *path = arguments['params_file'].default_value.parts
    assert ROOT.joinpath(*path).is_file()
    for include in of_kind(entities, 'IncludeLaunchDescription'):
        _, *path = include.source.path.parts
        assert ROOT.joinpath(*path).is_file()


def test_compressed_images_follow_the_image_argument(described):
    (node,) = of_kind(described('perception'), 'Node')
    remappings = dict(node.remappings)
    assert remappings['image'].name == 'image'
    assert remappings['image/compressed'] == [remappings['image'], '/compressed']


@pytest.mark.parametrize(
    ('name', 'model'), [('perception', PerceptionParameters), ('experts', ExpertParameters)]
)
def test_launch_sets_parameters_that_the_node_has(described, name, model):
    (node,) = of_kind(described(name), 'Node')
    _, settings = node.parameters
    assert settings.keys() - {'use_sim_time'} <= model.model_fields.keys()
    assert all(value.value_type is bool for value in settings.values())


def test_parameters_of_the_demo_are_valid():
    nodes = yaml.safe_load((ROOT / 'config' / 'demo.yaml').read_text())
    PerceptionParameters(**nodes['/**/perception_node']['ros__parameters'])
    TabletopCameraParameters(**nodes['/**/tabletop_camera_node']['ros__parameters'])


def test_real_launch_accepts_the_files():
    pytest.importorskip('launch_ros', reason='ROS from wheels has no launch')
    import launch

    for name in ('perception', 'experts', 'demo'):
        assert isinstance(load(name).generate_launch_description(), launch.LaunchDescription)
