"""System calls by their C signatures: what fails is an OSError that says what was asked."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kubeedge._fastpath import libc

from tests.kit.descriptors import descriptors


def test_a_failure_is_an_oserror_with_its_number_and_what_was_asked(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=rf"mount nosuchfs on {tmp_path}/missing: ") as failed:
        libc.mount("none", tmp_path / "missing", "nosuchfs")
    assert failed.value.errno in (errno.ENOENT, errno.ENODEV, errno.EPERM)
    with pytest.raises(OSError, match=rf"unmount {tmp_path}: ") as failed:
        libc.umount(tmp_path, libc.MNT_DETACH)
    assert failed.value.errno in (errno.EINVAL, errno.EPERM)
    with pytest.raises(OSError) as failed:
        libc.syncfs(-1)
    assert failed.value.errno == errno.EBADF
    with pytest.raises(OSError) as failed:
        libc.setns(-1)
    assert failed.value.errno == errno.EBADF


def test_a_name_with_a_nul_is_refused_instead_of_cut(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="NUL"):
        libc.mount("none", f"{tmp_path}\0/elsewhere", "tmpfs")
    with pytest.raises(ValueError, match="NUL"):
        libc.inotify(f"{tmp_path}\0", libc.IN_MOVED_TO)


def test_arguments_are_checked_against_the_signature() -> None:
    with pytest.raises(TypeError):
        libc.syncfs("3")  # type: ignore[arg-type, unused-ignore]
    with pytest.raises(OverflowError):
        libc.syncfs(1 << 40)


def test_inotify_tells_of_a_rename_and_leaves_no_descriptor_when_it_fails(tmp_path: Path) -> None:
    fd = libc.inotify(tmp_path, libc.IN_MOVED_TO)
    try:
        (tmp_path / "a").touch()
        (tmp_path / "a").rename(tmp_path / "b")
        assert os.read(fd, 4096)[16:].rstrip(b"\0") == b"b"
        assert not os.get_inheritable(fd) and not os.get_blocking(fd)
    finally:
        os.close(fd)
    before = descriptors()
    with pytest.raises(OSError, match="inotify on"):
        libc.inotify(tmp_path / "missing", libc.IN_MOVED_TO)
    assert not descriptors() - before


def test_a_descriptor_of_another_process_is_taken_over(tmp_path: Path) -> None:
    with open(tmp_path / "a", "w") as file:
        pidfd = os.pidfd_open(os.getpid())
        try:
            ours = libc.pidfd_getfd(pidfd, file.fileno())
            assert os.path.sameopenfile(ours, file.fileno()) and not os.get_inheritable(ours)
            os.close(ours)
            with pytest.raises(OSError, match="pidfd_getfd"):
                libc.pidfd_getfd(pidfd, 1 << 20)
        finally:
            os.close(pidfd)


def test_namespaces_are_held_by_a_process_until_its_descriptor_is_closed(tmp_path: Path) -> None:
    before = descriptors()
    pid, held = libc.hold_namespaces(0)
    assert Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink()
    os.close(held)
    assert os.waitpid(pid, 0) == (pid, 0) and descriptors() == before
    with pytest.raises(OSError, match="clone"):
        libc.hold_namespaces(0x800)  # CLONE_SIGHAND, which is nothing without CLONE_VM
    assert descriptors() == before


def test_a_mount_that_cannot_be_mapped_leaves_nothing_open(tmp_path: Path) -> None:
    before = descriptors()
    for source, target in ((tmp_path / "none", tmp_path), (Path("/proc"), tmp_path)):
        with pytest.raises(OSError, match="idmapped mount on"):
            libc.idmap(source, target, 0)
    with pytest.raises(ValueError, match="NUL"):
        libc.idmap("a\0b", tmp_path, 0)
    assert descriptors() == before


def test_of_the_program_and_its_libraries_single_pages_are_read() -> None:
    """In a process of its own: the advice stays."""
    program = """
from pathlib import Path
from kubeedge._fastpath import libc

def advised():
    found = {}
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0]:
            mapped = words[5] if len(words) > 5 and "x" in words[1] else ""
        elif words[0] == "VmFlags:" and mapped.startswith("/"):
            found[mapped] = "rr" in words
    return found

assert not any(advised().values())
libc.read_single_pages()
assert all(advised().values()), advised()
print(len(advised()))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert not done.returncode, done.stderr
    assert int(done.stdout) >= 4  # Python, the C library, ld.so, libc.so of ours
