"""A network of one's own: each pytest process runs in an anonymous network and mount namespace
with nothing but a loopback interface. Nothing outside can clash with a port in it, and it is gone
with the last process in it. Where the system forbids that, tests run on the machine's loopback."""

import ctypes
import fcntl
import os
import random
import socket
import struct
import subprocess
import time

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
PR_SET_CHILD_SUBREAPER = 36

NAMES = ("localhost", "sip.test", "edge.test")

libc = ctypes.CDLL(None, use_errno=True)
isolated = False
scratch = None  # a folder with a short path, for sockets; gone after the run


def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mount(source, target, kind=None, flags=MS_BIND):
    encode = lambda s: None if s is None else os.fsencode(s)
    check(libc.mount(encode(source), encode(target), encode(kind), ctypes.c_ulong(flags), None))


def unmount(target):
    check(libc.umount2(os.fsencode(target), 2))  # MNT_DETACH


def isolate(folder):
    """Move this process into its own namespaces. Call it once, before any thread is started."""
    global isolated, scratch
    scratch = folder
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what our children leave behind becomes ours
    uid, gid = os.getuid(), os.getgid()
    try:
        if uid == 0:
            check(libc.unshare(CLONE_NEWNS | CLONE_NEWNET))
        else:
            check(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET))
            write("/proc/self/setgroups", "deny")
            write("/proc/self/uid_map", f"0 {uid} 1")
            write("/proc/self/gid_map", f"0 {gid} 1")
        loopback_up()  # first: a chroot may not let us mount, and then this is all there is
        mount("none", "/", flags=MS_REC | MS_PRIVATE)
        # Names without DNS, and a resolver that fails at once.
        write(folder / "hosts", f"127.0.0.1 {' '.join(NAMES)} {socket.gethostname()}\n")
        write(folder / "resolv.conf", "")
        mount(folder / "hosts", "/etc/hosts")
        mount(folder / "resolv.conf", os.path.realpath("/etc/resolv.conf"))
    except OSError:
        return
    isolated = True


def write(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(s, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | IFF_UP))


def second_interface():
    """An interface with an address, beside lo, for programs that offer no loopback candidates."""
    if isolated and "edge0" not in (name for _, name in socket.if_nameindex()):
        for words in (
            "link add edge0 type veth peer name edge1",
            "addr add 192.0.2.1/24 dev edge0",
            "link set edge0 up",
            "link set edge1 up",
        ):
            subprocess.run(["ip", *words.split()], check=True)


given_ports = set()


def free_port(address="127.0.0.1"):
    """A port free for TCP and UDP, never given twice to this process's tests. Below those that the
    kernel gives to outgoing connections: one of these could take it before it is listened on."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    while True:
        with socket.socket(family, socket.SOCK_STREAM) as tcp, socket.socket(
            family, socket.SOCK_DGRAM
        ) as udp:
            port = random.randrange(10000, 32768)
            try:
                tcp.bind((address, port))
                udp.bind((address, port))
            except OSError:
                continue
        if port not in given_ports:
            given_ports.add(port)
            return port


def free_ports(count):
    """The first of `count` free ports in a row, for RTP."""
    while True:
        first = free_port() + 1 & ~1
        try:
            for port in range(first, first + count):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
                    udp.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            continue
        given_ports.update(range(first, first + count))
        return first


def until(condition, what, timeout=10.0, step=0.02):
    """Poll until `condition()` is true and return its value; AssertionError at the deadline."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout:g} s: {what}")
        time.sleep(step)


def can_connect(address, port):
    try:
        socket.create_connection((address, port), 1).close()
        return True
    except OSError:
        return False


LISTENING = ("0A", "07")  # of TCP, of UDP


def bound(port, kind="udp"):
    """Whether somebody listens on a local port, read from the kernel's table."""
    for table in (kind, kind + "6"):
        try:
            with open(f"/proc/net/{table}", encoding="ascii") as f:
                rows = [line.split() for line in list(f)[1:]]
                if any(r[1].endswith(f":{port:04X}") and r[3] in LISTENING for r in rows):
                    return True
        except FileNotFoundError:
            pass
    return False
