"""Build of the ROS package tddfa_ros; it must not print, since colcon reads what it writes."""

from pathlib import Path

from setuptools import setup

PACKAGE = "tddfa_ros"
FOLDER = Path(__file__).resolve().parent


def packages() -> list[str]:
    """Every folder of the package that holds an ``__init__.py``, in dotted form."""
    inits = sorted((FOLDER / PACKAGE).rglob("__init__.py"))
    return [".".join(path.parent.relative_to(FOLDER).parts) for path in inits]


def shared(name: str, *patterns: str) -> list[tuple[str, list[str]]]:
    """The files of the folder `name` for share/tddfa_ros, in the same tree."""
    folders: dict[Path, list[str]] = {}
    for pattern in patterns:
        for path in sorted((FOLDER / name).glob(pattern)):
            if path.is_file():
                relative = path.relative_to(FOLDER)
                folders.setdefault(relative.parent, []).append(str(relative))
    return [(f"share/{PACKAGE}/{folder}", files) for folder, files in folders.items()]


setup(
    name=PACKAGE,
    version="0.1.0",
    packages=packages(),
    package_data={f"{PACKAGE}.training": ["makehuman_files.txt"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
        *shared("launch", "*.py"),
        *shared("config", "*.yaml", "*.xml", "*.rviz", "*.json"),
        *shared("models", "**/*"),
    ],
    entry_points={
        "console_scripts": [
            "face_node = tddfa_ros.nodes.face_node:main",
            "media_source = tddfa_ros.nodes.media_source:main",
            "tddfa = tddfa_ros.__main__:main",
        ]
    },
    python_requires=">=3.11",
    zip_safe=False,
    maintainer="tddfa_ros contributors",
    maintainer_email="tddfa_ros@users.noreply.github.com",
    description="Dense 3D faces as a ROS 2 stream.",
    license="Apache-2.0",
)
