import pytest

from tddfa_ros.core.atomic_file import put_in_place, replaced_input, replacing


def test_content_appears_under_the_name_only_when_complete(tmp_path):
    path = tmp_path / "new" / "a.json"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == ".json"
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_failure_keeps_the_old_content_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def folder(path, text):
    path.mkdir()
    (path / "file").write_text(text)
    return path


def test_a_folder_takes_the_place_of_another_whole(tmp_path):
    path = tmp_path / "bag"
    for text in ("first", "second"):
        put_in_place(folder(tmp_path / "work", text), path)
        assert (path / "file").read_text() == text
        assert list(tmp_path.iterdir()) == [path]


def test_a_folder_replaces_a_file_and_a_link_but_not_what_the_link_leads_to(tmp_path):
    target = folder(tmp_path / "target", "kept")
    path = tmp_path / "bag"
    path.symlink_to(target)
    put_in_place(folder(tmp_path / "work", "first"), path)
    assert (path / "file").read_text() == "first"
    assert (target / "file").read_text() == "kept"
    other = tmp_path / "other"
    other.write_text("a file")
    put_in_place(folder(tmp_path / "work", "second"), other)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bag", "other", "target"]


def test_what_cannot_be_put_in_place_leaves_the_old_folder(tmp_path):
    path = folder(tmp_path / "bag", "old")
    with pytest.raises(FileNotFoundError):
        put_in_place(tmp_path / "missing", path)
    assert (path / "file").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_output_that_would_replace_an_input_is_found(tmp_path):
    (tmp_path / "link").symlink_to("in")
    (tmp_path / "circle").symlink_to("circle")
    given = folder(tmp_path / "in", "read") / "file"
    for lost in (given, given.parent, tmp_path / "link" / "file", tmp_path / "link"):
        assert replaced_input([tmp_path / "out", lost], [tmp_path / "a", given]) == lost
    free = [given.with_name("other"), given / "below", tmp_path / "circle"]
    assert replaced_input(free, [given, tmp_path / "absent"]) is None


@pytest.mark.parametrize("name", ["a" * 251 + ".png", "\U0001f600" * 62 + ".png", "a." + "b" * 253])
def test_names_may_be_as_long_as_the_file_system_takes(tmp_path, name):
    path = tmp_path / name
    for content in ("first", "second"):
        with replacing(path) as temporary:
            temporary.write_text(content)
    assert path.read_text() == "second"
    assert [p.name for p in tmp_path.iterdir()] == [name]
    path.unlink()
    for _ in range(2):
        (tmp_path / "new").mkdir()
        put_in_place(tmp_path / "new", path)
    assert [p.name for p in tmp_path.iterdir()] == [name]
