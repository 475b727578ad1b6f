"""Start perception_node.

    ros2 launch unifiedmllm_ros perception.launch.py image:=/camera/color/image_raw

All other settings are in the parameter file: see config/perception.yaml.
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
        [FindPackageShare('unifiedmllm_ros'), 'config', 'perception.yaml']
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
        DeclareLaunchArgument(
            'image',
            default_value='image',
            description='Topic of the images; compressed ones are at its subtopic /compressed.',
        ),
        DeclareLaunchArgument(
            'depth', default_value='depth', description='Topic of the depth images, if any.'
        ),
        DeclareLaunchArgument(
            'camera_info',
            default_value='camera_info',
            description='Topic of the calibration, needed with depth.',
        ),
    ]


def perception_node() -> Node:
    """Describe the node, with everything taken from the arguments."""
    image = LaunchConfiguration('image')
    return Node(
        package='unifiedmllm_ros',
        executable='perception_node',
        name='perception_node',
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
        remappings=[
            ('image', image),
            ('image/compressed', [image, '/compressed']),
            ('depth', LaunchConfiguration('depth')),
            ('camera_info', LaunchConfiguration('camera_info')),
        ],
        arguments=['--ros-args', '--log-level', LaunchConfiguration('log_level')],
    )


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch` is to start."""
    return LaunchDescription([*launch_arguments(), perception_node()])
