"""Files that are whole or absent."""

import os

import pytest

from qagrel_jax import atomic


def test_an_exception_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic.replacing(path) as file:
        file.write(b"half")
        file.flush()
        assert path.read_bytes() == b"old"
        raise RuntimeError
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_a_link_stays_one(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with atomic.replacing(link) as file:
        file.write(b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"


def test_the_new_file_replaces_the_old_one_when_it_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic.replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_process_left_beside_is_removed_after_a_day(tmp_path):
    path = tmp_path / "a[1].npz"
    old, new, others = (tmp_path / f".{n}.tmp" for n in ("a[1].npz.1", "a[1].npz.2", "a1.npz.1"))
    for left in (old, new, others):
        left.touch()
    for left in (old, others):
        os.utime(left, (0, 0))
    with atomic.replacing(path) as file:
        file.write(b"new")
    assert sorted(tmp_path.iterdir()) == sorted([path, new, others])
