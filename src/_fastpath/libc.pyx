# cython: language_level=3
"""System calls that Python's os module does not offer, with the signatures of the C headers. The only way into libc from Python.

A failure is an OSError with errno, that names what was asked. Calls that may touch a disk or a network release the GIL.
"""

import os

from cpython.bytes cimport PyBytes_AS_STRING
from libc.errno cimport errno
from libc.stdint cimport uint32_t


cdef extern from "<sys/mount.h>" nogil:
    int c_mount "mount"(const char *source, const char *target, const char *kind, unsigned long flags, const void *options)
    int c_umount2 "umount2"(const char *target, int flags)
    enum:
        c_RDONLY "MS_RDONLY"
        c_NOSUID "MS_NOSUID"
        c_NODEV "MS_NODEV"
        c_BIND "MS_BIND"
        c_PRIVATE "MS_PRIVATE"
        c_DETACH "MNT_DETACH"


cdef extern from * nogil:
    """
    #ifndef _GNU_SOURCE
    #define _GNU_SOURCE
    #endif
    #include <sched.h>
    #include <sys/inotify.h>
    #include <sys/prctl.h>
    #include <sys/syscall.h>
    #include <unistd.h>
    #ifndef SYS_pidfd_getfd
    #define SYS_pidfd_getfd 438 /* on every architecture; glibc has no function for it before 2.36 */
    #endif
    #ifdef __GLIBC__
    #include <malloc.h>
    static int kb_limit_malloc(int arenas, int spare) {
        return mallopt(M_ARENA_MAX, arenas) && mallopt(M_TRIM_THRESHOLD, spare) && mallopt(M_TOP_PAD, spare);
    }
    static void kb_trim_malloc(void) { (void)malloc_trim(0); }
    #else /* other C libraries have one arena, and give back by themselves */
    static int kb_limit_malloc(int arenas, int spare) { (void)arenas, (void)spare; return 1; }
    static void kb_trim_malloc(void) {}
    #endif
    static int kb_pidfd_getfd(int pidfd, int fd) { return (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0u); }
    """
    int kb_pidfd_getfd(int pidfd, int fd)
    int kb_limit_malloc(int arenas, int spare)
    void kb_trim_malloc()
    int c_syncfs "syncfs"(int fd)
    int c_unshare "unshare"(int flags)
    int c_setns "setns"(int fd, int flags)
    int c_prctl "prctl"(int option, unsigned long a, unsigned long b, unsigned long c, unsigned long d)
    int c_inotify_init1 "inotify_init1"(int flags)
    int c_inotify_add_watch "inotify_add_watch"(int fd, const char *path, uint32_t mask)
    enum:
        c_NEWNET "CLONE_NEWNET"
        c_NEWIPC "CLONE_NEWIPC"
        c_NEWUTS "CLONE_NEWUTS"
        c_MOVED_TO "IN_MOVED_TO"
        c_NONBLOCK "IN_NONBLOCK"
        c_CLOEXEC "IN_CLOEXEC"
        c_PDEATHSIG "PR_SET_PDEATHSIG"


MS_RDONLY = <unsigned long> c_RDONLY
MS_NOSUID = <unsigned long> c_NOSUID
MS_NODEV = <unsigned long> c_NODEV
MS_BIND = <unsigned long> c_BIND
MS_PRIVATE = <unsigned long> c_PRIVATE
MNT_DETACH = <int> c_DETACH
CLONE_NEWNET = <int> c_NEWNET
CLONE_NEWIPC = <int> c_NEWIPC
CLONE_NEWUTS = <int> c_NEWUTS
IN_MOVED_TO = <unsigned int> c_MOVED_TO


cdef object failed(int number, str what):
    return OSError(number, f"{what}: {os.strerror(number)}")


cdef bytes text(object value):
    """A C string: what has a NUL in it would be cut off there."""
    cdef bytes encoded = os.fsencode(value)
    if b"\0" in encoded:
        raise ValueError(f"{value!r:.80} has a NUL in it")
    return encoded


def mount(source not None, target not None, str kind not None, unsigned long flags=0, str options not None="", /):
    """mount(2)."""
    cdef bytes from_bytes = text(source), at = text(target), of = text(kind), how = text(options)
    cdef const char *c_source = PyBytes_AS_STRING(from_bytes)
    cdef const char *c_target = PyBytes_AS_STRING(at)
    cdef const char *c_kind = PyBytes_AS_STRING(of)
    cdef const char *c_options = PyBytes_AS_STRING(how)
    cdef int number = 0
    with nogil:
        if c_mount(c_source, c_target, c_kind, flags, c_options) != 0:
            number = errno
    if number:
        raise failed(number, f"mount {kind} on {os.fsdecode(at)}")


def umount(target not None, int flags=0, /):
    """umount2(2)."""
    cdef bytes at = text(target)
    cdef const char *c_target = PyBytes_AS_STRING(at)
    cdef int number = 0
    with nogil:
        if c_umount2(c_target, flags) != 0:
            number = errno
    if number:
        raise failed(number, f"unmount {os.fsdecode(at)}")


def syncfs(int fd, /):
    """syncfs(2): everything of the file system that `fd` is on."""
    cdef int number = 0
    with nogil:
        if c_syncfs(fd) != 0:
            number = errno
    if number:
        raise failed(number, "syncfs")


def unshare(int flags, /):
    """unshare(2): this thread gets namespaces of its own."""
    cdef int number = 0
    with nogil:
        if c_unshare(flags) != 0:
            number = errno
    if number:
        raise failed(number, "unshare")


def setns(int fd, int kind=0, /):
    """setns(2): this thread joins the namespace that `fd` is open on; `kind` is a CLONE_NEW... that it must be, 0 is any."""
    cdef int number = 0
    with nogil:
        if c_setns(fd, kind) != 0:
            number = errno
    if number:
        raise failed(number, "setns")


def inotify(directory not None, unsigned int mask, /):
    """inotify(7) on one directory: a file descriptor to read events from, non-blocking and closed on exec."""
    cdef bytes path = text(directory)
    cdef int fd = c_inotify_init1(c_NONBLOCK | c_CLOEXEC)
    if fd < 0:
        raise failed(errno, "inotify_init1")
    if c_inotify_add_watch(fd, PyBytes_AS_STRING(path), mask) < 0:
        error = failed(errno, f"inotify on {os.fsdecode(path)}")
        os.close(fd)
        raise error
    return fd


def pidfd_getfd(int pidfd, int fd, /):
    """pidfd_getfd(2): our own descriptor for what `fd` of that process is open on, closed on exec. Linux 5.6."""
    cdef int ours = kb_pidfd_getfd(pidfd, fd)
    if ours < 0:
        raise failed(errno, "pidfd_getfd")
    return ours


def set_parent_death_signal(int signal, /):
    """prctl(PR_SET_PDEATHSIG): the kernel sends it to this process when the thread that started it ends."""
    if c_prctl(c_PDEATHSIG, signal, 0, 0, 0) != 0:
        raise failed(errno, "prctl")


def limit_malloc(int arenas, int spare, /):
    """mallopt(3): threads share that many heaps, and at most `spare` bytes that are free at the end of one stay with it. What a C library
    other than glibc does is its own affair."""
    if arenas < 1 or spare < 0 or not kb_limit_malloc(arenas, spare):
        raise ValueError(f"malloc does not take {arenas} arenas and {spare} bytes")


def trim_malloc():
    """malloc_trim(3): whole pages that are free go back to the kernel. Takes about a millisecond for each 10 MB."""
    with nogil:
        kb_trim_malloc()
