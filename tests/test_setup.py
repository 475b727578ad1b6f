"""scripts/setup: what it says on a machine that lacks something."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = (
    *('bash', 'cat', 'cut', 'dirname', 'env', 'find', 'flock', 'id', 'mkdir', 'rm', 'sed'),
    *('sha256sum', 'sort', 'tail', 'xargs'),
)


@pytest.fixture
def setup(tmp_path):
    """Return a function that runs scripts/setup with these commands, and no others, at hand."""

    def run(*commands: str, python: str | None = None) -> subprocess.CompletedProcess[str]:
        for command in (*TOOLS, *commands):
            (tmp_path / command).symlink_to(str(shutil.which(command)))
        environment = {'PATH': str(tmp_path), 'UNIFIEDMLLM_VENV': str(tmp_path / 'venv')}
        if python is not None:
            environment['PYTHON'] = python
        return subprocess.run(
            [str(ROOT / 'scripts' / 'setup'), 'demo'],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


def test_missing_compiler_is_named_with_the_command(setup):
    done = setup(python=os.path.realpath(sys.executable))
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == 'setup: missing: g++. Please run: sudo apt-get install g++'


def test_missing_python_is_named_with_its_packages(setup):
    done = setup('g++')
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert 'sudo apt-get install python3.11 python3.11-venv python3.11-dev' in line


def test_unknown_set_is_refused_with_those_there_are():
    command = [str(ROOT / 'scripts' / 'setup'), 'everything']
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert 'demo or test' in done.stderr


def test_environment_serves_where_no_home_is_named(tmp_path):
    """Without either, rclpy cannot be initialised, as it finds no place for its log."""
    command = f'. {ROOT}/scripts/env && echo "$ROS_LOG_DIR $AMENT_PREFIX_PATH"'
    environment = {'PATH': os.environ['PATH'], 'TMPDIR': str(tmp_path)}
    done = subprocess.run(
        ['bash', '-euc', command], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(tmp_path / 'ros_log'), str(ROOT / '.venv')]
