"""Reading and fetching MakeHuman's own files, on a head of one quad."""

import http.server
import threading
from functools import partial

import numpy as np
import pytest

from tddfa_ros.core.errors import DownloadError, ModelSetError
from tddfa_ros.core.release.manifest import git_blob_id
from tddfa_ros.training import makehuman_files as mh

BASE = b"""# a face above and one below the neck
v 0.0 7.0 1.0
v 1.0 7.0 1.0
v 1.0 8.0 1.0
v 0.0 8.0 1.0
v 5.0 1.0 0.0
vt 0.1 0.2
vt 0.3 0.2
vt 0.3 0.4
vt 0.1 0.4
g body
f 1/1 2/2 3/3 4/4
f 5/1 2/2 3/3 4/4
g helper-skirt
f 1/1 2/2 3/3 4/4
"""
TARGET = b"# basis of makehuman\n2 .5 -1 0.25\n4 9 9 9\n"
CONTENTS = {"3dobjs/base.obj": BASE, "targets/chin/chin-width-incr.target": TARGET}
FILES = [mh.SourceFile(path, git_blob_id(content)) for path, content in CONTENTS.items()]


@pytest.fixture
def checkout(tmp_path):
    for path, content in CONTENTS.items():
        target = tmp_path / "origin" / mh.DATA / path
        target.parent.mkdir(parents=True)
        target.write_bytes(content)
    return tmp_path / "origin"


@pytest.fixture
def server(checkout):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(Quiet, directory=checkout)
    ) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_head_is_cut_from_the_body(checkout):
    arrays = mh.read_folder(checkout, FILES)
    np.testing.assert_array_equal(arrays["base_vertex_index"], [0, 1, 2, 3])
    np.testing.assert_array_equal(arrays["quads"], [[0, 1, 2, 3]])
    assert arrays["quad_group"].tolist() == ["body"]
    assert arrays["target_names"].tolist() == ["chin/chin-width-incr"]
    np.testing.assert_array_equal(
        arrays["target_deltas"][0], [[0, 0, 0], [0, 0, 0], [0.5, -1, 0.25], [0, 0, 0]]
    )


def test_a_changed_file_is_refused_unread(checkout):
    (checkout / mh.DATA / "3dobjs/base.obj").write_bytes(BASE + b"#")
    with pytest.raises(ModelSetError, match="not that of commit"):
        mh.read_folder(checkout, FILES)
    with pytest.raises(ModelSetError, match="--fetch"):
        mh.read_folder(checkout / "nowhere", FILES)


def test_fetching_goes_on_where_it_stopped(server, tmp_path):
    folder = tmp_path / "copy"
    assert mh.fetch(folder, FILES[:1], server) == 1
    assert mh.fetch(folder, FILES, server) == 1
    assert mh.fetch(folder, FILES, server) == 0
    assert len(mh.read_folder(folder, FILES)["vertices"]) == 4


def test_what_is_not_the_listed_file_is_not_kept(server, checkout, tmp_path):
    (checkout / mh.DATA / "3dobjs/base.obj").write_bytes(b"something else")
    with pytest.raises(DownloadError, match="not the file of commit"):
        mh.fetch(tmp_path / "copy", FILES, server)
    with pytest.raises(DownloadError, match="404"):
        mh.fetch(tmp_path / "copy", [mh.SourceFile("none.target", "0" * 40)], server)
    assert not list((tmp_path / "copy").rglob("*.obj"))


def test_manifest_names_the_base_mesh_and_every_target_once():
    files = mh.manifest()
    assert files[0].path == "3dobjs/base.obj"
    assert len({file.path for file in files}) == len(files) == 471
    assert all(len(file.blob_id) == 40 for file in files)
    assert all(file.path.startswith("targets/") for file in files[1:])


def test_packed_head_lists_the_same_targets(head):
    listed = {f.path.removeprefix("targets/").removesuffix(".target") for f in mh.manifest()[1:]}
    assert set(head.targets) == listed
