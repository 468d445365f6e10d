"""Command line verbs of `python -m tddfa_ros`; imports no ROS."""
