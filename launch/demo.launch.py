"""Start a simulated table under a moving camera, and perception_node looking at it.

    ros2 launch unifiedmllm_ros demo.launch.py
    ros2 topic pub --once /instruction std_msgs/msg/String "{data: find the mug}"

Needs the extra `tabletop`: pip install 'unifiedmllm_ros[tabletop]'.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

PASSED_ON = ('namespace', 'use_sim_time', 'params_file', 'autostart', 'log_level')


def in_share(*path: str) -> PathJoinSubstitution:
    """Name a file of this package."""
    return PathJoinSubstitution([FindPackageShare('unifiedmllm_ros'), *path])


def launch_arguments() -> list[DeclareLaunchArgument]:
    """Declare what can be said on the command line."""
    return [
        DeclareLaunchArgument('namespace', default_value='', description='Namespace of the nodes.'),
        DeclareLaunchArgument(
            'use_sim_time',
            default_value='false',
            choices=['true', 'false'],
            description='Take the time from /clock.',
        ),
        DeclareLaunchArgument(
            'params_file',
            default_value=in_share('config', 'demo.yaml'),
            description='Parameters of both nodes (YAML).',
        ),
        DeclareLaunchArgument(
            'autostart',
            default_value='true',
            choices=['true', 'false'],
            description='Configure and activate perception_node.',
        ),
        DeclareLaunchArgument(
            'log_level',
            default_value='info',
            choices=['debug', 'info', 'warn', 'error', 'fatal'],
            description='Least severity of the messages that are logged.',
        ),
    ]


def camera_node() -> Node:
    """Describe the simulated camera."""
    return Node(
        package='unifiedmllm_ros',
        executable='tabletop_camera_node',
        name='tabletop_camera_node',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        parameters=[
            LaunchConfiguration('params_file'),
            {'use_sim_time': ParameterValue(LaunchConfiguration('use_sim_time'), value_type=bool)},
        ],
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
    )


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` is to start."""
    perception = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(in_share('launch', 'perception.launch.py')),
        launch_arguments={name: LaunchConfiguration(name) for name in PASSED_ON}.items(),
    )
    return LaunchDescription([*launch_arguments(), camera_node(), perception])
