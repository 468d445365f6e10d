"""Detection, fitting, tracking and rendering of faces; imports no ROS."""
