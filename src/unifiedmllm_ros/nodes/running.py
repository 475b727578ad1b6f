"""Running one node as a program."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from unifiedmllm_ros.errors import UnifiedMLLMError


def run_node(make_node: Callable[[], Any], arguments: Sequence[str] | None = None) -> int:
    """Make a node and spin it until the process is told to end; return the exit status.

    A node with a true `autostart` is configured and activated first. A parameter that does not hold
    up is told in one line.
    What a callback raises is logged, and the node lives on.
    """
    rclpy.init(args=None if arguments is None else list(arguments))
    try:
        node = make_node()
    except (UnifiedMLLMError, ParameterException) as error:
        print(f'cannot start: {error}', file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if getattr(node.settings, 'autostart', False):
            node.start()
        _spin(node, executor)
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


def _spin(node: Any, executor: SingleThreadedExecutor) -> None:
    while rclpy.ok():
        try:
            executor.spin()
        except ExternalShutdownException:
            raise
        except Exception:
            node.get_logger().error(f'a callback failed:\n{traceback.format_exc()}')
