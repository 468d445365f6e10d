"""Times the public 3DDFA_V2 in its own checkout; run by `bench --reference`, in its own Python.

Arguments: the checkout and a picture (.npy, BGR). Answers each line on its input by one line of
JSON: milliseconds of every call, by the name of the stage. Imports nothing of tddfa_ros.
"""

import json
import os
import sys
import time
from pathlib import Path

import numpy as np

ROUND_S = 0.15
LEAST_CALLS = 3


def main(checkout, picture_path):
    """Load the networks, then time a round for each line read."""
    picture_bgr = np.load(picture_path)
    os.chdir(checkout)
    sys.path.insert(0, checkout)
    for name, kind in (("int", int), ("float", float), ("bool", bool), ("long", int)):
        if name not in np.__dict__:  # names that the checkout uses and NumPy has dropped
            setattr(np, name, kind)
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever it prints stays out of the answers
    import yaml
    from FaceBoxes.FaceBoxes_ONNX import FaceBoxes_ONNX
    from TDDFA_ONNX import TDDFA_ONNX

    with open("configs/mb05_120x120.yml") as file:  # noqa: PTH123
        fitter = TDDFA_ONNX(gpu_mode=False, **yaml.safe_load(file))
    detector = FaceBoxes_ONNX()
    boxes = detector(picture_bgr)[:1]
    params, rois = fitter(picture_bgr, boxes)
    vertices = fitter.recon_vers(params, rois, dense_flag=False)

    def track():
        found, regions = fitter(picture_bgr, vertices, crop_policy="landmark")
        fitter.recon_vers(found, regions, dense_flag=True)

    stages = {
        "detection": lambda: detector(picture_bgr),
        "regression, crop to parameters": lambda: fitter(picture_bgr, boxes),
        "68 landmarks": lambda: fitter.recon_vers(params, rois, dense_flag=False),
        "dense vertices": lambda: fitter.recon_vers(params, rois, dense_flag=True),
        "video loop: track + dense": track,
    }
    stages |= rendering_stages(picture_bgr, fitter, params, rois, str(Path(picture_path).parent))
    for call in stages.values():
        for _ in range(5):
            call()
    for _ in sys.stdin:
        times_ms = {name: time_calls(call) for name, call in stages.items()}
        answers.write(json.dumps(times_ms) + "\n")
        answers.flush()


def rendering_stages(picture_bgr, fitter, params, rois, folder):
    """Stages that want `sh build.sh` as well; none of them where that was not done."""
    try:
        from utils.depth import depth
        from utils.pncc import pncc
        from utils.render_ctypes import render
        from utils.serialization import ser_to_obj, ser_to_ply
        from utils.uv import uv_tex
    except (ImportError, OSError) as error:
        sys.stderr.write(f"without rendering: {error}\n")
        return {}
    dense = fitter.recon_vers(params, rois, dense_flag=True)
    tri, height = fitter.tri, len(picture_bgr)

    def track_and_render():
        found, regions = fitter(picture_bgr, dense, crop_policy="landmark")
        render(picture_bgr, fitter.recon_vers(found, regions, dense_flag=True), tri)

    return {
        "video loop: track + dense + overlay": track_and_render,
        "overlay": lambda: render(picture_bgr, dense, tri),
        "depth": lambda: depth(picture_bgr, dense, tri, with_bg_flag=False),
        "PNCC": lambda: pncc(picture_bgr, dense, tri, with_bg_flag=False),
        "UV texture 256": lambda: uv_tex(picture_bgr, dense, tri),
        "ply export": lambda: ser_to_ply(dense, tri, height, wfp=f"{folder}/reference.ply"),
        "obj export": lambda: ser_to_obj(
            picture_bgr, dense, tri, height, wfp=f"{folder}/reference.obj"
        ),
    }


def time_calls(call):
    """Milliseconds of each of as many calls as fit in a round."""
    times_ms = []
    end_s = time.perf_counter() + ROUND_S
    while len(times_ms) < LEAST_CALLS or time.perf_counter() < end_s:
        began_ns = time.perf_counter_ns()
        call()
        times_ms.append((time.perf_counter_ns() - began_ns) / 1e6)
    return times_ms


if __name__ == "__main__":
    main(*sys.argv[1:])
