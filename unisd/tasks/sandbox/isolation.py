"""Layers of isolation, by system calls, standard library only. Entered by the judge, tightened by the worker.

Where the kernel allows it: own mount, process, network, IPC and (for ordinary users) user namespaces, a root that
holds the interpreter read-only and an empty scratch directory, and a user that owns nothing. Everywhere: no_new_privs,
resource limits, and a seccomp filter without sockets, namespaces, mounts or tracing. Where namespaces are refused:
Landlock.
"""

import contextlib
import ctypes
import os
import resource
import struct
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)
_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_SET_DUMPABLE = 1, 38, 22, 4
_SIGKILL = 9


def enter(scratch, uid, limits):
    """Isolates this process; returns the names of the layers in force. Returns in a child if there is a new
    process namespace, whose parent waits and exits."""
    layers = []
    root = os.geteuid() == 0
    if _unshare(root):
        layers.append("namespaces: mount, process, network, IPC" + ("" if root else ", user"))
        child = os.fork()
        if child:
            os.waitpid(child, 0)
            os._exit(0)
        _LIBC.prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
        _new_root(scratch, limits)
        layers.append("read-only root with nothing but the interpreter")
    elif _landlock(scratch):
        layers.append("Landlock")
        os.chdir(scratch)
    if root:
        _own_user(uid, scratch, layers)
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    layers += ["no_new_privs", "seccomp", "resource limits"]
    return layers


def bound_memory(limits):
    """The judge's own limit, since what it is told can be large."""
    memory = limits["memory_mib"] << 20
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def confine(limits):
    """The worker's own limits, which nothing in it can lift."""
    _LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    seconds, memory = int(limits["seconds"]) + 1, limits["memory_mib"] << 20
    for kind, value in (
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_FSIZE, limits["file_mib"] << 20),
        (resource.RLIMIT_NPROC, _processes(limits["processes"])),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (value, value))
    null = os.open("/dev/null", os.O_RDWR) if os.path.exists("/dev/null") else None
    for descriptor in (0, 1, 2):
        if null is not None:
            os.dup2(null, descriptor)
    _seccomp()


def _processes(wanted):
    """A limit under which so many more may start. The kernel counts those of this user on the whole machine, and other
    containers' users may be the same, which no list in here shows: what it lets start tells, to a power of two."""
    _, most = resource.getrlimit(resource.RLIMIT_NPROC)
    count = 1
    while count < 1 << 15 and not _may_start(count, most):
        count *= 2
    return count + wanted if most == resource.RLIM_INFINITY else min(count + wanted, most)


def _may_start(limit, most):
    try:
        resource.setrlimit(resource.RLIMIT_NPROC, (limit, most))
        child = os.fork()
    except (BlockingIOError, ValueError):  # ValueError: more than the hard limit
        return False
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True


def _unshare(root):
    flags = _NEWNS | _NEWPID | _NEWNET | _NEWIPC | _NEWUTS
    if root:
        return _LIBC.unshare(flags) == 0
    uid, gid = os.geteuid(), os.getegid()
    if _LIBC.unshare(flags | _NEWUSER) != 0:
        return False
    for name, text in (("setgroups", "deny"), ("uid_map", f"65534 {uid} 1"), ("gid_map", f"65534 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    return True


def _mount(source, target, kind, flags, data=""):
    arguments = [value.encode() if value else None for value in (source, target, kind)]
    if _LIBC.mount(*arguments, flags, data.encode()) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{os.strerror(code)}: mount {target}")


def _new_root(scratch, limits):
    """A root of its own: the interpreter and the system's libraries read-only, /tmp for the program, nothing else."""
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", scratch, "tmpfs", _MS_NOSUID | _MS_NODEV, f"size={limits['file_mib'] * 4}m,mode=755")
    for path in dict.fromkeys(("/usr", "/lib", "/lib64", sys.base_prefix)):
        if os.path.isdir(path):
            inside = scratch + os.path.abspath(path)
            os.makedirs(inside, exist_ok=True)
            _mount(path, inside, None, _MS_BIND | _MS_REC)
            with contextlib.suppress(OSError):  # refused to ordinary users where a flag is locked; they own none of it
                _mount(None, inside, None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    for name in ("dev", "tmp"):
        os.makedirs(f"{scratch}/{name}", exist_ok=True)
    with open(f"{scratch}/dev/null", "w"):
        pass
    _mount("/dev/null", f"{scratch}/dev/null", None, _MS_BIND)
    os.chmod(f"{scratch}/tmp", 0o777)
    os.chroot(scratch)
    os.chdir("/tmp")


def _own_user(uid, scratch, layers):
    if os.path.isdir(scratch):
        os.chown(scratch, uid, uid)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    layers.append("a user of its own")


# -- seccomp: a program for the kernel that refuses system calls by number (x86-64)

_ARCH_X86_64 = 0xC000003E
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # refused calls return EPERM
_REFUSED = (
    *range(41, 56),  # socket … getsockopt
    *range(29, 32), *range(64, 72), 220, *range(240, 246),  # System V and POSIX queues: what lies there outlives it
    62, 129, 200, 234, 297, 424, 434, 438,  # signals to others: kill … pidfd_getfd
    101,  # ptrace
    109, 112,  # setpgid setsid: what leaves the group would outlive it
    155, 161, 163, 165, 166, 167, 168, 169,  # pivot_root chroot acct mount umount swapon swapoff reboot
    175, 176, 246, 313, 320,  # modules and kexec
    248, 249, 250,  # keys
    272, 288, 299, 307, 308,  # unshare accept4 recvmmsg sendmmsg setns
    298, 303, 304, 310, 311, 321, 323,  # perf handles process_vm bpf userfaultfd
    425, 426, 427, 428, 429, 430, 431, 432, 442,  # io_uring and the new mount calls
)  # fmt: skip


def _seccomp():
    if os.uname().machine != "x86_64":
        return
    count = len(_REFUSED)
    lines = [
        (_LOAD, 0, 0, 4),
        (_JUMP_EQUAL, 0, count + 3, _ARCH_X86_64),
        (_LOAD, 0, 0, 0),
        (_JUMP_AT_LEAST, count + 1, 0, 0x40000000),
    ]
    lines += [(_JUMP_EQUAL, count - index, 0, number) for index, number in enumerate(_REFUSED)]
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in lines))
    program = struct.pack("HxxxxxxP", len(lines), ctypes.addressof(code))
    if _LIBC.prctl(_PR_SET_SECCOMP, 2, ctypes.c_char_p(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp was refused")


# -- Landlock: which files may be reached, for kernels that refuse namespaces

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_EXECUTE, _READ_FILE, _READ_DIR, _ALL = 1, 4, 8, (1 << 13) - 1


def _landlock(scratch):
    attribute = ctypes.create_string_buffer(struct.pack("Q", _ALL))
    ruleset = _LIBC.syscall(_CREATE_RULESET, attribute, 8, 0)
    if ruleset < 0:
        return False
    for path in ("/usr", "/lib", "/lib64", sys.base_prefix, "/dev/null", scratch):
        if not os.path.exists(path):
            continue
        descriptor = os.open(path, os.O_PATH)
        access = _ALL if path == scratch else _EXECUTE | _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
        if path == "/dev/null":
            access = _READ_FILE | 2
        rule = ctypes.create_string_buffer(struct.pack("=Qi", access, descriptor))
        _LIBC.syscall(_ADD_RULE, ruleset, 1, rule, 0)
        os.close(descriptor)
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    restricted = _LIBC.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return restricted
