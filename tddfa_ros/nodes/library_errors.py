"""What libraries raise over one image or mesh; a node logs it and outlives it."""

import cv2

LIBRARY_ERRORS = (
    cv2.error,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""Of OpenCV, the networks' runtime, trimesh, numpy and the memory."""
