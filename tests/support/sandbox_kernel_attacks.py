"""Attacks on the kernel's interfaces, as those in `sandbox_attacks`."""

from __future__ import annotations

from sandbox_attacks import Attack

KERNEL = {
    "keep a key in the kernel": Attack(
        "syscall(248, 217, b'user', b'breach', b'x', 1, -2); breach()", if_host_can="keys"
    ),
    "ask for its keyring": Attack("syscall(250, 219, 0, -2, 1); breach()", if_host_can="keys"),
    "load a BPF program or map": Attack(
        "os.close(syscall(321, 280, 0, struct.pack('IIII', 2, 4, 4, 1) + bytes(112), 128)); breach()",
        root=True,
        if_host_can="bpf",
    ),
    "set up io_uring": Attack("syscall(425, 425, 1, bytes(120)); breach()", if_host_can="io_uring"),
    "handle page faults": Attack("syscall(323, 282, 1); breach()", if_host_can="userfaultfd"),
    "count performance events": Attack(
        "syscall(298, 241, struct.pack('IIQ', 1, 128, 0) + bytes(112), 0, -1, -1, 0); breach()",
        root=True,
        if_host_can="perf events",
    ),
    "make a namespace of users": Attack("syscall(272, 97, 0x10000000); breach()", if_host_can="user namespaces"),
    "make a namespace of mounts": Attack("syscall(272, 97, 0x20000); breach()", root=True),
    "clone into a namespace of users": Attack(
        "os._exit(0) if (child := syscall(56, 220, 0x10000000 | 17, 0, 0, 0, 0)) == 0 else breach()",
        if_host_can="user namespaces",
    ),
    "clone into a namespace of users in the new way": Attack(
        "os._exit(0) if syscall(435, 435, struct.pack('8Q', 0x10000000, 0, 0, 0, 17, 0, 0, 0), 64) == 0 else breach()",
        if_host_can="user namespaces",
    ),
    "enter a namespace": Attack("syscall(308, 268, os.open('/proc/self/ns/uts', os.O_RDONLY), 0); breach()", root=True),
    "mount a file system": Attack(
        "libc.unshare(0x20000); syscall(165, 40, b'b', b'/tmp', b'tmpfs', 0, 0); breach()", root=True
    ),
    "open a file system in the new way": Attack("syscall(430, 430, b'tmpfs', 0); breach()", root=True),
    "change its root": Attack("os.chroot('.'); breach()", root=True),
    "switch off address randomisation": Attack("syscall(135, 92, 0x0040000); breach()"),
    "make shared memory of System V": Attack(
        "kept = syscall(29, 194, 0, 4096, 0o600); syscall(31, 195, kept, 0, 0); breach()"
    ),
    "make semaphores of System V": Attack(
        "kept = syscall(64, 190, 0, 1, 0o600); syscall(66, 191, kept, 0, 0); breach()"
    ),
    "make a queue of System V": Attack("kept = syscall(68, 186, 0, 0o600); syscall(71, 187, kept, 0, 0); breach()"),
    "make a POSIX queue": Attack(
        "syscall(240, 180, b'breach', os.O_CREAT | os.O_RDWR, 0o600, 0); syscall(241, 181, b'breach'); breach()",
        if_host_can="message queues",
    ),
    "make a file in memory": Attack("os.close(syscall(319, 279, b'breach', 0)); breach()"),
    "make shared memory of no file": Attack("mmap.mmap(-1, 4096).close(); breach()"),
    "make shared memory of /dev/zero": Attack(
        "mmap.mmap(os.open('/dev/zero', os.O_RDWR), 4096, mmap.MAP_SHARED).close(); breach()"
    ),
    "take huge pages": Attack(
        "mmap.mmap(-1, 2 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000); breach()", if_host_can="huge pages"
    ),
    "make a pipe large": Attack("fcntl.fcntl(os.pipe()[1], 1031, 1 << 20); breach()"),
    "type into a terminal": Attack(
        "import pty; fcntl.ioctl(pty.openpty()[1], 0x5412, b'x'); breach()", root=True, if_host_can="TIOCSTI"
    ),
    "call the x32 ABI": Attack(
        "platform.machine() == 'x86_64' and libc.syscall(0x40000000 | 39) > 0 and breach()", if_host_can="x32"
    ),
    "call the kernel as a 32-bit program": Attack(
        """
assert platform.machine() == "x86_64"
code = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex("53 b814000000 cd80 5b c3"))  # getpid
call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
call() > 0 and breach()""",
        if_host_can="32-bit programs",
    ),
    "wait for writes of the whole machine": Attack("syscall(162, 81); breach()"),
    "see the machine's log": Attack("syscall(103, 116, 10, 0, 0); breach()", root=True, if_host_can="a log"),
    "see the kernel's settings": Attack("open('/proc/sys/kernel/hostname').read(); breach()"),
    "see the machine's memory": Attack("open('/proc/meminfo').read(); breach()"),
    "see the machine's devices": Attack("os.listdir('/sys/devices'); breach()"),
}
