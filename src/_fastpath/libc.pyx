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
    #include <errno.h>
    #include <fcntl.h>
    #include <link.h>
    #include <sched.h>
    #include <signal.h>
    #include <stdint.h>
    #include <string.h>
    #include <sys/inotify.h>
    #include <sys/mman.h>
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

    /* Of one object: what its file fills. Advice that the kernel does not take changes nothing. */
    static int kb_advise_random(struct dl_phdr_info *object, size_t size, void *page) {
        (void)size;
        uintptr_t mask = *(uintptr_t *)page - 1;
        for (int n = 0; n < object->dlpi_phnum; n++) {
            const ElfW(Phdr) *segment = &object->dlpi_phdr[n];
            if (segment->p_type != PT_LOAD)
                continue;
            uintptr_t start = object->dlpi_addr + segment->p_vaddr, from = start & ~mask;
            (void)madvise((void *)from, (start + segment->p_filesz - from + mask) & ~mask, MADV_RANDOM);
        }
        return 0;
    }
    static void kb_read_single_pages(void) {
        uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
        dl_iterate_phdr(kb_advise_random, &page);
    }

    #ifndef SYS_open_tree
    #define SYS_open_tree 428 /* these are the same on every architecture, too */
    #define SYS_move_mount 429
    #endif
    #ifndef SYS_mount_setattr
    #define SYS_mount_setattr 442
    #endif
    enum { kb_TREE_CLONE = 1, kb_TREE_RECURSIVE = 0x8000, kb_EMPTY_PATH = 0x1000, kb_MOVE_EMPTY_PATH = 4, kb_IDMAP = 0x100000 };
    struct kb_mount_attr { uint64_t set, clear, propagation, userns; };

    /* A copy of a mount, and of those below it, at `target`: its files belong to whom the user namespace maps their owners to. */
    static int kb_idmap(const char *source, const char *target, int userns, uint64_t propagation) {
        struct kb_mount_attr attr = { kb_IDMAP, 0, propagation, (uint64_t)userns };
        int fd = (int)syscall(SYS_open_tree, AT_FDCWD, source, kb_TREE_CLONE | kb_TREE_RECURSIVE | O_CLOEXEC), number = 0;
        if (fd < 0)
            return errno;
        if (syscall(SYS_mount_setattr, fd, "", kb_EMPTY_PATH | kb_TREE_RECURSIVE, &attr, sizeof attr) != 0
            || syscall(SYS_move_mount, fd, "", AT_FDCWD, target, kb_MOVE_EMPTY_PATH) != 0)
            number = errno;
        close(fd);
        return number;
    }

    /* A process of ours that has new namespaces and does nothing until the other end of the pipe is closed. Between clone and _exit it may call only what
       is safe in a signal handler: the threads that held locks are not there. */
    static int kb_hold_namespaces(int flags, int *writer) {
        int ends[2];
        char byte;
        if (pipe2(ends, O_CLOEXEC) != 0)
            return -1;
        int pid = (int)syscall(SYS_clone, (unsigned long)(flags | SIGCHLD), 0UL, 0UL, 0UL, 0UL);
        if (pid == 0) {
            close(ends[1]);
            while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
                ;
            _exit(0);
        }
        int number = errno;
        close(ends[0]);
        if (pid < 0)
            close(ends[1]);
        else
            *writer = ends[1];
        errno = number;
        return pid;
    }
    static int kb_pidfd_getfd(int pidfd, int fd) { return (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0u); }
    """
    int kb_pidfd_getfd(int pidfd, int fd)
    int kb_idmap(const char *source, const char *target, int userns, unsigned long long propagation)
    int kb_hold_namespaces(int flags, int *writer)
    int kb_limit_malloc(int arenas, int spare)
    void kb_trim_malloc()
    void kb_read_single_pages()
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
        c_NEWUSER "CLONE_NEWUSER"
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
CLONE_NEWUSER = <int> c_NEWUSER
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


def hold_namespaces(int flags, /):
    """clone(2): the id of a process with new namespaces, and a file descriptor. It ends when that is closed, and is to be waited for."""
    cdef int writer = -1
    cdef int pid = kb_hold_namespaces(flags, &writer)
    if pid < 0:
        raise failed(errno, "clone")
    return pid, writer


def idmap(source not None, target not None, int userns, unsigned long propagation=0, /):
    """mount_setattr(2), MOUNT_ATTR_IDMAP: what is at `source` appears at `target`, its owners mapped as by the user namespace that `userns` is open on.
    `propagation`: MS_PRIVATE, or 0 for that of the source. Linux 5.12."""
    cdef bytes from_bytes = text(source), at = text(target)
    cdef const char *c_source = PyBytes_AS_STRING(from_bytes)
    cdef const char *c_target = PyBytes_AS_STRING(at)
    cdef int number
    with nogil:
        number = kb_idmap(c_source, c_target, userns, propagation)
    if number:
        raise failed(number, f"idmapped mount on {os.fsdecode(at)}")


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


def read_single_pages():
    """madvise(MADV_RANDOM) for the program and the libraries that are loaded now: of a page of theirs that is not in memory the kernel reads that
    one, not 32 around it. Where memory is short those push out pages that are needed, which are read again with 32 around each."""
    kb_read_single_pages()
