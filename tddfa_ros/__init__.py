"""Dense 3D faces from images, as a ROS 2 stream, a command line and a library."""

__version__ = "0.1.0"
