"""A multimodal language model for robot perception: text, boxes and masks from a camera image.

Nothing heavy is imported here: neither torch, ONNX Runtime nor ROS. Import what you need from the
modules, for example `unifiedmllm_ros.perception` or `unifiedmllm_ros.representation`.
"""

from pkgutil import extend_path

# The generated messages (unifiedmllm_ros.msg, .srv, .action) are installed into site-packages.
# When this package is used from its source tree, both folders make up one package.
__path__ = extend_path(__path__, __name__)

__version__ = '0.1.0'
