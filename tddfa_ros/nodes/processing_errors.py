"""What libraries raise over one image or mesh; a node logs it and outlives it."""

import struct

import cv2

PROCESSING_ERRORS = (
    cv2.error,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Of OpenCV, the networks' runtime, numpy, rclpy's messages and the memory."""
