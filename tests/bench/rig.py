"""The programs of the bench as Python has them: started on the cores they are to have, asked, and
ended by pid. What one of them finds wrong is Invalid."""

import ctypes
import json
import os
import pathlib
import select
import signal
import socket
import subprocess
import time

PR_SET_PDEATHSIG = 1
TICK = os.sysconf("SC_CLK_TCK")
libc = ctypes.CDLL(None)
programs = pathlib.Path("build/release/tests")  # where the compiled ones are
given_ports = set()


class Invalid(Exception):
    """A figure that is worth nothing: an answer was wrong, missing, or somebody died."""


def free_port():
    """A port free for TCP and UDP, never given twice."""
    while True:
        with socket.socket() as tcp, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in given_ports:
            given_ports.add(port)
            return port


def until(condition, what, timeout=20.0):
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise Invalid(f"not within {timeout:g} s: {what}")
        time.sleep(0.02)


def can_connect(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


class Process:
    """A running program; its standard error, and output where nobody reads that, is in `log`."""

    def __init__(self, argv, log, cores=None, pipes=False, nice=0):
        def prepare():
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if cores:
                os.sched_setaffinity(0, cores)
            if nice:
                os.setpriority(os.PRIO_PROCESS, 0, nice)

        self.argv, self.log = [str(a) for a in argv], pathlib.Path(log)
        with open(log, "wb") as out:
            self.child = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipes else out,
                stderr=out,
                start_new_session=True,
                preexec_fn=prepare,
            )

    @property
    def pid(self):
        return self.child.pid

    def text(self):
        return self.log.read_text(errors="replace")

    def check_alive(self):
        if self.child.poll() is not None:
            raise Invalid(f"{self.argv[0]} ended with {self.child.returncode}: {self.text()[-800:]}")

    def end(self, number=signal.SIGTERM, timeout=20):
        if self.child.poll() is None:
            self.child.send_signal(number)
        try:
            self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()
        try:  # what is left of its group, which it alone began
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe:
                pipe.close()
        return self.child.returncode


class Load(Process):
    """tests/bench/load.c, whose head says what it can be asked."""

    def __init__(self, kind, port, log, cores=None, nice=0, timeout=None):
        more = ["-t", timeout] if timeout else []
        super().__init__(
            [programs / "bench_load", *more, kind, "127.0.0.1", port], log, cores, True, nice
        )

    def tell(self, line):
        try:
            self.child.stdin.write(line.encode() + b"\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            self.child.wait()
            self.check_alive()

    def answer(self, timeout=120):
        if not select.select([self.child.stdout], [], [], timeout)[0]:
            raise Invalid(f"the load generator says nothing for {timeout} s")
        line = self.child.stdout.readline()
        if not line:
            self.child.wait()
            raise Invalid(f"the load generator ended with {self.child.returncode}: {self.text()}")
        said = json.loads(line)
        if "error" in said:
            raise Invalid(f"the load generator says: {said['error']}")
        if said.get("mistakes"):
            raise Invalid(f"{said['mistakes']} mistakes in `{said['command']}`: {said['mistake']}")
        return said

    def ask(self, line, timeout=120):
        """The answer to a command. Invalid if it had mistakes."""
        self.tell(line)
        return self.answer(timeout)

    def end(self, number=None, timeout=20):
        if self.child.poll() is None and number is None:
            self.child.stdin.close()
            self.child.stdin = None
            number = 0
        return super().end(number, timeout)


class Backend(Process):
    """tests/bench/backend.c, on UDP."""

    def __init__(self, log, cores=None, nice=0):
        self.port = free_port()
        super().__init__([programs / "bench_backend", "127.0.0.1", self.port], log, cores, False, nice)

    def end(self, number=signal.SIGTERM, timeout=20):
        super().end(number, timeout)
        lines = [line for line in self.text().splitlines() if line.startswith("{")]
        self.counts = json.loads(lines[-1]) if lines else {}

    def check(self):
        """After its end: it understood all that it was sent."""
        wrong = {k: v for k, v in self.counts.items() if v and k in ("unknown", "broken", "unsent")}
        if wrong or not self.counts:
            raise Invalid(f"the backend could not do with what it was sent: {wrong}")


class Floor(Process):
    """tests/bench/floor.c."""

    def __init__(self, kind, log, certificate=(), cores=None):
        self.port = free_port()
        super().__init__(
            [programs / "bench_floor", kind, "127.0.0.1", self.port, *certificate], log, cores
        )


def tree(pid):
    """A process and all that it began."""
    children = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as f:
                parent = int(f.read().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry))
        except OSError:
            pass
    pids, at = [pid], 0
    while at < len(pids):
        pids += children.get(pids[at], [])
        at += 1
    return pids


def cpu_seconds(pids):
    """User and system time of all their threads."""
    ticks = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as f:
            fields = f.read().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICK


def pss_bytes(pids):
    """Memory of all of them, what they share counted once."""
    kilobytes = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
            kilobytes += next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
    return kilobytes * 1024


def certificate_make(folder):
    """ECDSA P-256: (chain file, key file, both in one file). In a folder of their own: a server may watch
    it, and be woken by its own log there."""
    folder = pathlib.Path(folder) / "certificate"
    folder.mkdir()
    chain, key, both = (folder / n for n in ("chain.pem", "key.pem", "both.pem"))
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-days", "30", "-keyout", key, "-out", chain, "-subj", "/CN=bench.test"]
        + ["-addext", "subjectAltName=DNS:bench.test,IP:127.0.0.1"],
        check=True, capture_output=True,
    )
    both.write_bytes(chain.read_bytes() + key.read_bytes())
    return chain, key, both
