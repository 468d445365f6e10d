"""Latency from an image published to its faces received, in three real processes.

This process publishes, a face node answers, a second copy of this script receives. Images carry
the time of publishing as their stamp, so the receiver's clock minus the stamp is the latency.

    python bench/latency.py [--model-set SET] [--rate 30] [--size 640x480] [--overlay] [--json]

`--all` measures what the node must reach: 640x480 with `faces` alone, and 1920x1080 with the
overlay, where nothing may pile up: then the latency grows from the first to the last images.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import rclpy
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image

from tddfa_msgs.msg import FaceArray
from tddfa_ros.core.sample_media import astronaut_clip
from tddfa_ros.nodes.raw_image import ImageHeader, encode_image

REPOSITORY = Path(__file__).resolve().parents[1]
WARM_UP_S = 3.0
NS_PER_S = 1_000_000_000
TICKS_PER_S = os.sysconf("SC_CLK_TCK")
MUST_BE = {
    "640x480": {"p50_ms": 5.0, "p99_ms": 15.0, "face_node_cpu_percent_of_one_core": 40.0},
    "1920x1080": {"growth_ms": 20.0},
}


def receive(path: str, overlay: bool) -> None:
    """Write stamp, time of arrival and number of faces of every message, until killed."""
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    node = rclpy.create_node("latency_receiver")
    with Path(path).open("w", buffering=1) as out:

        def on_faces(data: bytes) -> None:
            # Taken before the message is read: how long that takes is the reader's language.
            now_ns = time.time_ns()
            message = deserialize_message(data, FaceArray)
            stamp = message.header.stamp
            stamp_ns = stamp.sec * NS_PER_S + stamp.nanosec
            out.write(f"{stamp_ns} {now_ns} {len(message.faces)} {message.frames_dropped}\n")

        node.create_subscription(FaceArray, "faces", on_faces, 100, raw=True)
        if overlay:
            node.create_subscription(Image, "faces/overlay", lambda _: None, 1, raw=True)
        rclpy.spin(node)


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def free_domain() -> str:
    """Return a ROS domain whose first participant's port nobody holds."""
    for domain_id in random.sample(range(1, 100), 99):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7410 + 250 * domain_id))
            except OSError:
                continue
        return str(domain_id)
    sys.exit("no free ROS domain")


def end(child: subprocess.Popen) -> None:
    """Wait for a process that was told to end; by force in the end."""
    try:
        child.wait(20)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def measure(args: argparse.Namespace, folder: Path) -> dict[str, float]:
    """Publish for the time asked for; figures by name."""
    width, height = (int(n) for n in args.size.split("x"))
    clip = [cv2.resize(frame, (width, height)) for frame in astronaut_clip()]
    received = folder / "received.txt"
    log = (folder / "face_node.log").open("wb")
    node_command = [sys.executable, "-m", "tddfa_ros.nodes.face_node", "--ros-args"]
    if args.model_set:
        node_command += ["-p", f"model_set:={args.model_set}"]
    if args.reliable:
        node_command += ["-p", "image_reliability:=reliable"]
    receiver_command = [sys.executable, __file__, "--receive", str(received)]
    receiver_command += ["--overlay"] if args.overlay else []
    children = [
        subprocess.Popen(node_command, stdout=log, stderr=log, cwd=REPOSITORY),
        subprocess.Popen(receiver_command, cwd=REPOSITORY),
    ]
    rclpy.init(args=[])
    try:
        node = rclpy.create_node("latency_publisher")
        publisher = node.create_publisher(Image, "image", QoSProfile(depth=1))
        deadline = time.monotonic() + 60
        while publisher.get_subscription_count() < 1 or not received.exists():
            if time.monotonic() > deadline or children[0].poll() is not None:
                sys.exit((folder / "face_node.log").read_text())
            time.sleep(0.05)
        time.sleep(1.0)
        sent_ns = []
        cpu_from, begin = 0.0, time.monotonic()
        while (now := time.monotonic() - begin) < WARM_UP_S + args.seconds:
            if not cpu_from and now >= WARM_UP_S:
                cpu_from, wall_from = cpu_seconds(children[0].pid), time.monotonic()
            # There and back, so that the face never jumps.
            place = len(sent_ns) % (2 * len(clip))
            image = clip[min(place, 2 * len(clip) - 1 - place)]
            stamp_ns = time.time_ns()
            publisher.publish(encode_image(image, ImageHeader(*divmod(stamp_ns, NS_PER_S), "cam")))
            sent_ns.append(stamp_ns)
            time.sleep(max(0.0, begin + len(sent_ns) / args.rate - time.monotonic()))
        cpu = (cpu_seconds(children[0].pid) - cpu_from) / (time.monotonic() - wall_from)
        time.sleep(0.5)
    finally:
        for child in children:
            child.send_signal(signal.SIGINT)
        for child in children:
            end(child)
        rclpy.try_shutdown()
    rows = np.loadtxt(received, dtype=np.int64).reshape(-1, 4)
    counted_from_ns = sent_ns[0] + round(WARM_UP_S * NS_PER_S)
    rows = rows[rows[:, 0] >= counted_from_ns]
    sent = sum(stamp_ns >= counted_from_ns for stamp_ns in sent_ns)
    latency_ms = (rows[:, 1] - rows[:, 0]) / 1e6
    p50, p95, p99 = np.percentile(latency_ms, [50, 95, 99])
    quarter = max(len(latency_ms) // 4, 1)
    growth_ms = np.median(latency_ms[-quarter:]) - np.median(latency_ms[:quarter])
    return {
        "images": sent,
        "answered": len(rows),
        "dropped": int(rows[-1, 3] - rows[0, 3]),
        "with a face": int((rows[:, 2] > 0).sum()),
        "p50_ms": round(float(p50), 2),
        "p95_ms": round(float(p95), 2),
        "p99_ms": round(float(p99), 2),
        "max_ms": round(float(latency_ms.max()), 2),
        "growth_ms": round(float(growth_ms), 2),
        "face_node_cpu_percent_of_one_core": round(100 * cpu, 1),
    }


def run(args: argparse.Namespace) -> dict[str, float]:
    """Measure on a ROS domain of its own and with the project's Fast DDS profile."""
    os.environ["ROS_DOMAIN_ID"] = free_domain()
    profile = str(REPOSITORY / "config" / "fastdds.xml")
    os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", profile)
    os.environ.setdefault("FASTDDS_DEFAULT_PROFILES_FILE", profile)
    with tempfile.TemporaryDirectory() as folder:
        return measure(args, Path(folder))


def report(figures: dict[str, float], size: str) -> None:
    """Write a figure a line, beside what it must be."""
    for name, value in figures.items():
        must_be = MUST_BE.get(size, {}).get(name)
        wanted = "" if must_be is None else f"   must be <= {must_be:g}"
        sys.stdout.write(f"{name:36}{value:>10}{wanted}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--receive", help=argparse.SUPPRESS)
    parser.add_argument("--model-set", default="", help="name or path; empty: any")
    parser.add_argument("--rate", type=float, default=30.0, help="images a second")
    parser.add_argument("--size", default="640x480", help="of the images, pixels")
    parser.add_argument("--seconds", type=float, default=20.0, help="measured, after a warm-up")
    parser.add_argument("--reliable", action="store_true", help="ask for reliable images")
    parser.add_argument("--overlay", action="store_true", help="subscribe faces/overlay, too")
    parser.add_argument("--all", action="store_true", help="both sizes that have targets")
    parser.add_argument("--json", action="store_true", help="one line of JSON a size")
    args = parser.parse_args()
    if args.receive:
        receive(args.receive, args.overlay)
        return
    for size in MUST_BE if args.all else [args.size]:
        if args.all:
            args.size, args.overlay = size, size == "1920x1080"
        figures = run(args)
        if args.json:
            sys.stdout.write(json.dumps({"size": size} | figures) + "\n")
        else:
            overlay = ", faces/overlay subscribed" if args.overlay else ""
            sys.stdout.write(f"{size} at {args.rate:g} Hz{overlay}\n")
            report(figures, size)


if __name__ == "__main__":
    main()
