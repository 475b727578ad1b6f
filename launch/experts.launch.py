"""Start expert_node, on this machine or on another one of the ROS graph.

    ros2 launch unifiedmllm_ros experts.launch.py

Its settings are in the parameter file: see config/expert_node.yaml. For perception_node to send its
task calls here set its parameter expert_node to execute_task.
"""

from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare


def launch_arguments() -> list[DeclareLaunchArgument]:
    """Declare what can be said on the command line."""
    parameters = PathJoinSubstitution(
        [FindPackageShare('unifiedmllm_ros'), 'config', 'expert_node.yaml']
    )
    return [
        DeclareLaunchArgument('namespace', default_value='', description='Namespace of the node.'),
        DeclareLaunchArgument(
            'use_sim_time',
            default_value='false',
            choices=['true', 'false'],
            description='Take the time from /clock, as with a replay or a simulation.',
        ),
        DeclareLaunchArgument(
            'params_file', default_value=parameters, description='Parameters of the node (YAML).'
        ),
        DeclareLaunchArgument(
            'autostart',
            default_value='true',
            choices=['true', 'false'],
            description='Configure and activate the node; false leaves it to a lifecycle manager.',
        ),
        DeclareLaunchArgument(
            'log_level',
            default_value='info',
            choices=['debug', 'info', 'warn', 'error', 'fatal'],
            description='Least severity of the messages that are logged.',
        ),
    ]


def expert_node() -> Node:
    """Describe the node, with everything taken from the arguments."""
    return Node(
        package='unifiedmllm_ros',
        executable='expert_node',
        name='expert_node',
        namespace=LaunchConfiguration('namespace'),
        output='screen',
        parameters=[
            LaunchConfiguration('params_file'),
            {
                'autostart': ParameterValue(LaunchConfiguration('autostart'), value_type=bool),
                'use_sim_time': ParameterValue(
                    LaunchConfiguration('use_sim_time'), value_type=bool
                ),
            },
        ],
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
    )


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` is to start."""
    return LaunchDescription([*launch_arguments(), expert_node()])
