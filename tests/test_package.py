"""The package as a whole: what importing it costs, its layers, its shared files and commands."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

import unifiedmllm_ros
from unifiedmllm_ros.nodes.configuration import ExpertParameters, PerceptionParameters

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / 'src' / 'unifiedmllm_ros'
OUTER_LAYERS = {'bridge', 'cli', 'nodes'}
HEAVY = ('torch', 'rclpy', 'numpy', 'onnxruntime', 'cv2', 'mujoco', 'transformers')


def project() -> dict:
    return tomllib.loads((ROOT / 'pyproject.toml').read_text())


def top_level_modules() -> set[str]:
    files = {path.stem for path in SOURCE.glob('*.py')} - {'__init__'}
    return files | {path.parent.name for path in SOURCE.glob('*/__init__.py')}


def test_import_is_light_and_quick():
    """In a new interpreter: none of the heavy libraries, and under 0.2 s of processor time."""
    code = (
        'import sys, time\n'
        'start = time.process_time()\n'
        'import unifiedmllm_ros\n'
        'print(time.process_time() - start)\n'
        f'print([name for name in {HEAVY!r} if name in sys.modules])\n'
    )
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    seconds, heavy = run.stdout.split('\n')[:2]
    assert heavy == '[]'
    assert float(seconds) < 0.2


@pytest.mark.parametrize(
    'module', ['nodes.perception_node', 'nodes.expert_node', 'nodes.demo', 'perception']
)
def test_what_a_robot_runs_does_without_torch(module):
    code = f'import sys; import unifiedmllm_ros.{module}; print("torch" in sys.modules)'
    run = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert run.stdout.strip() == 'False', run.stderr


def test_versions_agree():
    version = re.search(r'<version>(.*)</version>', (ROOT / 'package.xml').read_text())
    assert version is not None
    assert version[1] == project()['project']['version'] == unifiedmllm_ros.__version__


def test_contracts_cover_every_module_of_the_core():
    """A module that the contracts of pyproject.toml do not name would escape them."""
    layers, ros = project()['tool']['importlinter']['contracts']
    core = top_level_modules() - OUTER_LAYERS
    assert core <= set(re.findall(r'\((\w+)\)', layers['layers'][-1]))
    assert core <= {name.removeprefix('unifiedmllm_ros.') for name in ros['source_modules']}


def test_core_does_not_import_our_messages():
    """The contracts do not see unifiedmllm_ros.msg, which is generated outside the source tree."""
    offenders = []
    for path in SOURCE.rglob('*.py'):
        if path.relative_to(SOURCE).parts[0] in OUTER_LAYERS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or '']
            if any(re.match(r'unifiedmllm_ros\.(msg|srv|action)\b', name) for name in names):
                offenders.append(str(path))
    assert offenders == []


@pytest.mark.parametrize(
    ('file', 'node', 'model'),
    [
        ('perception.yaml', 'perception_node', PerceptionParameters),
        ('expert_node.yaml', 'expert_node', ExpertParameters),
    ],
)
def test_parameter_file_is_the_parameter_model(file, node, model):
    """Every parameter, alphabetical, with its default and description."""
    text = (ROOT / 'config' / file).read_text()
    written = yaml.safe_load(text)[f'/**/{node}']['ros__parameters']
    # The launch file sets autostart.
    fields = {k: v for k, v in model.model_fields.items() if k != 'autostart'}
    assert list(written) == sorted(fields)
    assert written == {name: field.default for name, field in fields.items()}
    prose = re.sub(r'\s*\n\s*# ', ' ', text)
    assert [name for name, field in fields.items() if field.description not in prose] == []


@pytest.mark.parametrize('script', ['setup', 'test', 'demo', 'bench', 'env'])
def test_scripts_are_valid_shell(script):
    path = ROOT / 'scripts' / script
    subprocess.run(['bash', '-n', str(path)], check=True)
    assert script == 'env' or os.access(path, os.X_OK)
