"""tabletop_camera_node: the simulated table as a camera, live.

Needs the extra [tabletop]. All rendering happens in one thread of its own, as its graphics context
demands; laying a table takes some seconds, showing it does not.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from unifiedmllm_ros.bridge import parameters
from unifiedmllm_ros.bridge.camera_info import camera_info_message
from unifiedmllm_ros.bridge.image import array_to_image, rgb_to_jpeg
from unifiedmllm_ros.errors import ConfigError
from unifiedmllm_ros.nodes.configuration import TabletopCameraParameters
from unifiedmllm_ros.nodes.inputs import sensor_qos
from unifiedmllm_ros.nodes.running import run_node

TableFactory = Callable[[TabletopCameraParameters], Any]


def lay(settings: TabletopCameraParameters) -> Any:
    """Lay the table that the parameters ask for."""
    from unifiedmllm_ros.tabletop.live import LiveTable

    return LiveTable(settings.seed, settings.width, settings.height)


class TabletopCameraNode(Node):
    """Publishes image, image/compressed, depth and camera_info of a table laid by `seed`.

    Args:
        table_factory: makes what has `frame(seconds)` and `close()`, in the rendering thread.
        options: of rclpy's Node.
    """

    def __init__(self, table_factory: TableFactory = lay, **options: Any) -> None:
        super().__init__('tabletop_camera_node', **options)
        self._factory = table_factory
        self._settings = parameters.declare(self, TabletopCameraParameters)
        self.add_on_set_parameters_callback(self._check_parameters)
        self.add_post_set_parameters_callback(self._apply_parameters)
        self._image = self.create_publisher(Image, 'image', sensor_qos())
        self._compressed = self.create_publisher(CompressedImage, 'image/compressed', sensor_qos())
        self._depth = self.create_publisher(Image, 'depth', sensor_qos())
        self._camera_info = self.create_publisher(CameraInfo, 'camera_info', sensor_qos())
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='rendering', daemon=True)
        self._thread.start()

    @property
    def settings(self) -> TabletopCameraParameters:
        """The parameters in effect."""
        return self._settings

    def destroy_node(self) -> None:
        """End the rendering, then the node."""
        self._stopping.set()
        self._thread.join()
        super().destroy_node()

    def _check_parameters(self, changes: Sequence[Any]) -> SetParametersResult:
        values = parameters.own_values(TabletopCameraParameters, changes)
        try:
            parameters.changed(self._settings, values)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _apply_parameters(self, changes: Sequence[Any]) -> None:
        values = parameters.own_values(TabletopCameraParameters, changes)
        self._settings = parameters.changed(self._settings, values)

    # In the rendering thread.

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._show(self._settings)
        except Exception as error:
            self.get_logger().fatal(f'the table cannot be shown: {error}')
            self.context.try_shutdown()

    def _show(self, laid: TabletopCameraParameters) -> None:
        """Show the table of these settings until another seed is asked for."""
        self.get_logger().info(f'laying table {laid.seed}')
        table = self._factory(laid)
        self.get_logger().info('the table is laid')
        started = time.monotonic()
        try:
            while self._settings.seed == laid.seed and not self._stopping.is_set():
                seconds = time.monotonic() - started
                self._publish(table.frame(seconds))
                period = 1.0 / self._settings.rate
                self._stopping.wait(max(0.0, started + seconds + period - time.monotonic()))
        finally:
            table.close()

    def _publish(self, frame: Any) -> None:
        settings = self._settings
        stamp = self.get_clock().now().to_msg()
        header = Header(stamp=stamp, frame_id=settings.frame_id)
        height, width = frame.rgb.shape[:2]
        if settings.publish_depth and self._depth.get_subscription_count():
            depth = np.asarray(frame.depth, np.float32)
            self._depth.publish(array_to_image(depth, '32FC1', header))
        self._camera_info.publish(camera_info_message(frame.intrinsics, width, height, header))
        if settings.compressed and self._compressed.get_subscription_count():
            self._compressed.publish(rgb_to_jpeg(frame.rgb, header, settings.jpeg_quality))
        if self._image.get_subscription_count():
            self._image.publish(array_to_image(frame.rgb, 'rgb8', header))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the node until it is shut down; return the exit status."""
    return run_node(TabletopCameraNode, arguments)
