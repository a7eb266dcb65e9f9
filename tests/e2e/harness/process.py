"""Processes that a test starts: logs in files, ended by pid whatever happens."""

import ctypes
import os
import re
import signal
import subprocess

from .net import until

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


def die_with_parent():
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


class Process:
    """A running program. Its output, both streams, is in the file `log`."""

    def __init__(self, lab, name, argv, env=None, stdin=False, cwd=None, expect=None, timeout=20):
        self.name, self.argv = name, [str(a) for a in argv]
        self.folder = lab.folder(name)
        self.log = self.folder / "output.log"
        self.more_logs = []
        self.stopped = False
        with open(self.log, "wb") as out:
            self.child = subprocess.Popen(
                self.argv,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=cwd or self.folder,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        lab.processes.append(self)
        if expect:
            self.wait_output(expect, timeout)

    def output(self):
        return self.log.read_text(errors="replace")

    def matches(self, pattern, log=None):
        if log and not log.exists():
            return []
        text = log.read_text(errors="replace") if log else self.output()
        return re.findall(pattern, text, re.M)

    def wait_output(self, pattern, timeout=20, count=1, log=None):
        """Wait until the output has `count` matches of `pattern`; returns them."""

        def found():
            matches = self.matches(pattern, log)
            if len(matches) >= count:
                return matches
            if self.child.poll() is not None and len(self.matches(pattern, log)) < count:
                raise AssertionError(
                    f"{self.name} ended ({self.child.returncode}) before it said /{pattern}/"
                )
            return None

        return until(found, f"{self.name} says /{pattern}/ {count} times", timeout, 0.05)

    def write(self, line):
        self.child.stdin.write(line.encode() + b"\n")
        self.child.stdin.flush()

    def wait(self, timeout=30):
        try:
            return self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.name} did not end within {timeout} s") from None

    def signal(self, number):
        if self.child.poll() is None:
            os.killpg(self.child.pid, number)

    def stop(self, timeout=5):
        """End it politely, then not. Returns the exit status; raises nothing."""
        self.stopped = True
        if self.child.stdin:
            try:
                self.child.stdin.close()
            except OSError:
                pass
        self.signal(signal.SIGTERM)
        try:
            self.child.wait(timeout)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            self.child.wait()
        try:  # what is left of its group
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        return self.child.returncode


def end_orphans():
    """End what became ours by the death of a child (we are their subreaper)."""
    me = os.getpid()
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/stat", encoding="ascii", errors="replace") as f:
                parent = int(f.read().rpartition(")")[2].split()[1])
            if parent == me:
                os.kill(int(entry), signal.SIGKILL)
                os.waitpid(int(entry), 0)
        except (OSError, ValueError):
            pass
