"""The ROS 2 nodes: parameters, topics, lifecycle. The work is done by the core."""
