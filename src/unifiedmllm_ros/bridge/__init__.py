"""ROS messages to core types and back: pure functions, one noun a file.

Functions here take and return values; none creates a node, a publisher or a thread.
"""
