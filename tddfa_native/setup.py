"""Build of tddfa_native: every ``tddfa_native/*_cy.pyx`` is an extension module.

TDDFA_NATIVE_CHECKS=1 builds them with Cython's bounds checks and the C++ library's assertions,
for the tests.
"""

import os
from pathlib import Path

import numpy as np
from setuptools import Extension, setup

PACKAGE = "tddfa_native"

# Sources in C++ that belong to an extension, beside its .pyx.
SOURCES = {
    "_rasterize_cy": [
        "attributes.cpp",
        "candidates.cpp",
        "shading.cpp",
        "texture.cpp",
        "visibility.cpp",
    ],
    "_reconstruct_cy": ["reconstruct_kernel.cpp"],
}

COMPILE_ARGS = ["-O3", "-std=c++17", "-fno-math-errno", "-fvisibility=hidden"]

# Exact edge functions need every product rounded on its own; without trapping math compilers may
# vectorise loops that choose between two results.
EXTRA_COMPILE_ARGS = {
    "_rasterize_cy": ["-ffp-contract=off", "-fno-trapping-math"],
}

folder = Path(__file__).resolve().parent
checked = os.environ.get("TDDFA_NATIVE_CHECKS", "") == "1"


def extension(pyx: Path) -> Extension:
    """Extension of one .pyx; in C++, with the headers of the package and of numpy."""
    sources = [pyx, *(pyx.parent / name for name in SOURCES.get(pyx.stem, []))]
    module = Extension(
        f"{PACKAGE}.{pyx.stem}",
        [str(path.relative_to(folder)) for path in sources],
        depends=[str(path.relative_to(folder)) for path in sorted(pyx.parent.glob("*.h"))],
        include_dirs=[np.get_include(), str(pyx.parent)],
        define_macros=[
            ("NPY_NO_DEPRECATED_API", "NPY_1_7_API_VERSION"),
            *([("_GLIBCXX_ASSERTIONS", "1")] if checked else []),
        ],
        extra_compile_args=COMPILE_ARGS + EXTRA_COMPILE_ARGS.get(pyx.stem, []),
        language="c++",
    )
    module.cython_directives = {
        "language_level": 3,
        **({"boundscheck": True, "initializedcheck": True, "cdivision": False} if checked else {}),
    }
    return module


setup(
    name=PACKAGE,
    version="0.1.0",
    packages=[PACKAGE],
    ext_modules=[extension(path) for path in sorted((folder / PACKAGE).glob("*_cy.pyx"))],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    zip_safe=False,
    maintainer="tddfa_ros contributors",
    maintainer_email="tddfa_ros@users.noreply.github.com",
    description="Compiled kernels of tddfa_ros: rasterizer and vertex reconstruction.",
    license="Apache-2.0",
)
