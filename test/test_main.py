import os
import signal
import subprocess
import sys

import pytest

from tddfa_ros.__main__ import VERBS

ROS_FREE = ("image", "video", "models", "bench")


def python(code: str, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, **options
    )


def modules_after(arguments: list[str]) -> set[str]:
    done = python(
        "import sys\n"
        "from tddfa_ros.__main__ import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "sys.stderr.write('\\n'.join(sys.modules))\n"
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize("verb", ROS_FREE)
def test_verbs_without_ros_import_none_of_it(verb):
    modules = modules_after([verb, "--help"])
    assert VERBS[verb].module in modules
    assert not {name for name in modules if name.split(".")[0] in ("rclpy", "tddfa_msgs")}
    assert not {name for name in modules if name.startswith("tddfa_ros.nodes")}
    # They take long to load, and are for lost faces and recordings alone.
    assert not modules & {"scipy", "rosbags"}


def test_overview_imports_no_verb():
    modules = modules_after(["--help"])
    assert not {name for name in modules if name.startswith(("tddfa_ros.tools", "tddfa_ros.nodes"))}


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_has_its_examples(verb):
    if VERBS[verb].needs_ros:
        pytest.importorskip("rclpy", reason="needs ROS")
        pytest.importorskip("tddfa_msgs", reason="needs the built workspace: make setup")
    done = subprocess.run(
        [sys.executable, "-m", "tddfa_ros", verb, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m tddfa_ros {verb}" in done.stdout
    assert f"  python -m tddfa_ros {verb}" in done.stdout.partition("examples:")[2]


@pytest.mark.parametrize("arguments", [[], ["juggle"], ["image"], ["--frobnicate"]])
def test_wrong_usage_is_status_2(arguments):
    done = subprocess.run(
        [sys.executable, "-m", "tddfa_ros", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "usage:" in done.stderr


@pytest.mark.parametrize(
    ("verb", "option", "value"),
    [
        ("bench", "--rounds", "0"),
        ("bench", "--rounds", "2.5"),
        ("demo", "--duration", "-1"),
        ("demo", "--duration", "nan"),
        ("demo", "--overlay", "foo"),
        ("export", "--node", "a-b"),
        ("export", "--node", "/"),
        ("export", "--timeout-s", "0"),
        ("export", "--timeout-s", "inf"),
    ],
)
def test_values_that_cannot_be_are_wrong_usage(verb, option, value):
    if VERBS[verb].needs_ros:
        pytest.importorskip("rclpy", reason="needs ROS")
        pytest.importorskip("tddfa_msgs", reason="needs the built workspace: make setup")
    # Were the value taken, the unknown option would be told, and nothing run.
    arguments = [verb, option, value, "--frobnicate"]
    done = python(f"from tddfa_ros.__main__ import main; main({arguments!r})")
    assert done.returncode == 2
    assert f"{option}: '{value}' is not " in done.stderr


def run_with(body: str, **options) -> subprocess.CompletedProcess:
    """Run a verb whose module does `body`."""
    return python(
        "import sys, types\n"
        "from tddfa_ros import __main__ as program\n"
        "from tddfa_ros.core.errors import MediaError\n"
        "verb = types.ModuleType('verb')\n"
        "def run(args):\n"
        f"    {body}\n"
        "verb.run, verb.add_arguments = run, lambda parser: None\n"
        "sys.modules['verb'] = verb\n"
        "program.VERBS['image'] = program.Verb('verb', '')\n"
        "sys.exit(program.main(['image']))\n",
        **options,
    )


def test_an_error_of_ours_is_one_line_and_status_1():
    done = run_with("raise MediaError('x.mp4: broken; mend it')")
    assert done.returncode == 1
    assert done.stderr == "tddfa_ros image: x.mp4: broken; mend it\n"


def test_a_mistake_in_the_program_keeps_its_traceback():
    done = run_with("raise ZeroDivisionError")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


@pytest.mark.parametrize("cause", ["ENOSPC", "EEXIST", "ENOENT", "ENAMETOOLONG"])
def test_a_full_disk_or_a_name_that_is_taken_is_one_line_too(cause):
    done = run_with(f"import errno; raise OSError(errno.{cause}, 'No space left', 'x.mp4')")
    assert done.returncode == 1
    assert done.stderr.startswith("tddfa_ros image: ")
    assert "x.mp4" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_names_that_are_no_text_are_printed_all_the_same(stream):
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}
    done = run_with(f"sys.{stream}.write('f\\udcfcr.jpg')", env=environment)
    assert done.returncode == 0, done.stderr
    assert getattr(done, stream) == "f\\udcfcr.jpg"


def test_a_reader_that_goes_away_is_no_traceback():
    command = f"{sys.executable} -m tddfa_ros --help | head -c 10; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    done = run_with("[print('x' * 1000) for _ in range(10)]; raise BrokenPipeError")
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("numbers", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_streams_are_nobodys_and_no_files(numbers):
    body = (
        "print(sys.stdin.read(), flush=True); sys.stderr.write('said'); "
        "sys.exit(100 + open(sys.executable, 'rb').fileno())"
    )

    def close() -> None:
        for number in numbers:
            os.close(number)

    done = run_with(body, stdin=subprocess.DEVNULL, preexec_fn=close)
    assert done.returncode > 102, done.stderr


def test_interruption_is_status_130():
    done = run_with("raise KeyboardInterrupt")
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_verb_is_imported_ends_in_order(tmp_path, number, status):
    # As a compiled module that is interrupted while it begins.
    (tmp_path / "verb.py").write_text(
        "import signal\n"
        "try:\n"
        f"    signal.raise_signal({int(number)})\n"
        "except BaseException as error:\n"
        "    raise ImportError('initialization failed') from error\n"
    )
    done = python(
        "import sys\n"
        "from tddfa_ros import __main__ as program\n"
        "program.VERBS['image'] = program.Verb('verb', '')\n"
        "sys.exit(program.main(['image']))\n",
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"},
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


def test_termination_is_status_143_and_leaves_in_order():
    done = run_with("import os; os.kill(os.getpid(), 15)")
    assert done.returncode == 143


def test_verbs_of_ros_say_what_to_do_without_it():
    done = python(
        "import sys, importlib.util\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: None if n == 'rclpy' else found(n, *a)\n"
        "from tddfa_ros.__main__ import main\n"
        "sys.exit(main(['demo']))\n"
    )
    assert done.returncode == 1
    assert "rclpy" in done.stderr
    assert "source env.sh" in done.stderr
