"""Seccomp filters of containers, as the OCI runtime configuration has them (config-linux.md, "Seccomp"). Pure.

RuntimeDefault is the list that containerd and Docker agree on: what ordinary programs call is allowed, what needs a capability only with
it, everything else is EPERM. A name that an older libseccomp or another architecture does not know is passed over by the OCI runtimes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from kubeedge.appengine.runtime.base import StartError

_EPERM, _ENOSYS = 1, 38
_NAMESPACE_FLAGS = 0x7E020000  # CLONE_NEWNS | NEWCGROUP | NEWUTS | NEWIPC | NEWUSER | NEWPID | NEWNET
_AF_VSOCK = 40  # leads past the network namespace, to the hypervisor
_PERSONALITIES = (
    0x0,
    0x8,
    0x20000,
    0x20008,
    0xFFFFFFFF,
)  # Linux, Linux 32 bit, both with uname 2.6, and "which is it?"

#: what uname says -> the kernel's own system calls first, then those of programs for its smaller brothers
_ARCHITECTURES = {
    "x86_64": ("X86_64", "X86", "X32"),
    "i686": ("X86",),
    "aarch64": ("AARCH64", "ARM"),
    "armv7l": ("ARM",),
    "armv6l": ("ARM",),
    "riscv64": ("RISCV64",),
    "ppc64le": ("PPC64LE",),
    "s390x": ("S390X", "S390"),
}

_ALLOWED = """
accept accept4 access adjtimex alarm bind brk cachestat capget capset chdir chmod chown chown32 clock_adjtime clock_adjtime64
clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range connect
copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait
epoll_wait_old eventfd eventfd2 execve execveat exit exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fanotify_mark
fchdir fchmod fchmodat fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr flistxattr flock fork fremovexattr
fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait
futex_waitv futex_wake futimesat get_robust_list get_thread_area getcpu getcwd getdents getdents64 getegid getegid32 geteuid
geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpeername getpgid getpgrp getpid getppid getpriority getrandom getresgid
getresgid32 getresuid getresuid32 getrlimit getrusage getsid getsockname getsockopt gettid gettimeofday getuid getuid32 getxattr
getxattrat inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy io_getevents io_pgetevents
io_pgetevents_time64 io_setup io_submit ioctl ioprio_get ioprio_set ipc kill landlock_add_rule landlock_create_ruleset
landlock_restrict_self lchown lchown32 lgetxattr link linkat listen listmount listxattr listxattrat llistxattr _llseek lremovexattr
lseek lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mkdir mkdirat mknod mknodat
mlock mlock2 mlockall mmap mmap2 mprotect mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
mq_timedsend_time64 mq_unlink mremap mseal msgctl msgget msgrcv msgsnd msync munlock munlockall munmap name_to_handle_at nanosleep
newfstatat _newselect open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2 pkey_alloc pkey_free pkey_mprotect poll ppoll
ppoll_time64 prctl pread64 preadv preadv2 prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead
readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages removexattr removexattrat rename renameat
renameat2 restart_syscall rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend
rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr
sched_getparam sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam
sched_setscheduler sched_yield seccomp select semctl semget semop semtimedop semtimedop_time64 send sendfile sendfile64 sendmmsg
sendmsg sendto set_robust_list set_thread_area set_tid_address setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups
setgroups32 setitimer setpgid setpriority setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32
setrlimit setsid setsockopt setuid setuid32 setxattr setxattrat shmat shmctl shmdt shmget shutdown sigaltstack signalfd signalfd4
sigprocmask sigreturn socketcall socketpair splice stat stat64 statfs statfs64 statmount statx symlink symlinkat sync
sync_file_range syncfs sysinfo tee tgkill time timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime
timer_settime64 timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate truncate64
ugetrlimit umask uname unlink unlinkat uretprobe utime utimensat utimensat_time64 utimes vfork vmsplice wait4 waitid waitpid write
writev process_vm_readv process_vm_writev ptrace
"""
_BY_ARCHITECTURE = {
    "X86_64": "arch_prctl modify_ldt",
    "X86": "modify_ldt",
    "AARCH64": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    "ARM": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    "RISCV64": "riscv_flush_icache riscv_hwprobe",
    "PPC64LE": "sync_file_range2 swapcontext",
    "S390X": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
}
_BY_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie mount mount_setattr move_mount "
    "open_tree perf_event_open quotactl quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module init_module finit_module",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}


def runtime_default(machine: str, capabilities: Iterable[str]) -> dict[str, Any]:
    """`machine` as uname says it, `capabilities` of the bounding set. Raises StartError for an architecture without a list."""
    if machine not in _ARCHITECTURES:
        raise StartError("CreateContainerError", f"seccompProfile RuntimeDefault: no filter is known for {machine}")
    architectures, held = _ARCHITECTURES[machine], set(capabilities)
    names = set(_ALLOWED.split())
    names.update(name for a in architectures for name in _BY_ARCHITECTURE.get(a, "").split())
    names.update(name for c in sorted(held) for name in _BY_CAPABILITY.get(c, "").split())
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": _EPERM,
        "architectures": [f"SCMP_ARCH_{a}" for a in architectures],
        "syscalls": [{"names": sorted(names), "action": "SCMP_ACT_ALLOW"}, *_by_argument(machine, held)],
    }


def _by_argument(machine: str, held: set[str]) -> Iterator[dict[str, Any]]:
    yield _rule("socket", index=0, value=_AF_VSOCK, op="SCMP_CMP_NE")
    for persona in _PERSONALITIES:
        yield _rule("personality", index=0, value=persona, op="SCMP_CMP_EQ")
    if "CAP_SYS_ADMIN" not in held:
        # new processes and threads, but no namespaces; clone3 hides its flags behind a pointer, and libc falls back when it is not there
        flags = 1 if machine == "s390x" else 0
        yield _rule("clone", index=flags, value=_NAMESPACE_FLAGS, valueTwo=0, op="SCMP_CMP_MASKED_EQ")
        yield {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS}


def _rule(name: str, **argument: Any) -> dict[str, Any]:
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]}


def checked(profile: Any, machine: str) -> dict[str, Any]:
    """A profile of a file, with the machine's architectures if it names none. Raises ValueError: one that says less than it seems to (no
    default, rules that do not apply here) must not look like a filter."""
    if not isinstance(profile, dict) or not isinstance(profile.get("defaultAction"), str):
        raise ValueError("has no defaultAction")
    if not isinstance(rules := profile.get("syscalls", []), list) or not all(isinstance(rule, dict) for rule in rules):
        raise ValueError("syscalls is not a list of objects")
    if any(rule.get(key) for rule in rules for key in ("includes", "excludes")):
        raise ValueError(
            "has rules with includes or excludes: only the form of the OCI runtime configuration is understood"
        )
    known = ("defaultAction", "defaultErrnoRet", "architectures", "flags", "syscalls")
    if unknown := sorted(set(profile) - {*known, "archMap"}):
        raise ValueError(f"{unknown[0]!r:.60} is not understood")
    checked = {key: profile[key] for key in known if profile.get(key) is not None}
    if "architectures" not in checked and machine in _ARCHITECTURES:
        checked["architectures"] = [f"SCMP_ARCH_{a}" for a in _ARCHITECTURES[machine]]
    return checked


def runtime_filters(version: str) -> bool:
    """Whether the runtime can filter system calls, from what `crun --version` or `runc --version` prints."""
    return "+SECCOMP" in version or "libseccomp:" in version
