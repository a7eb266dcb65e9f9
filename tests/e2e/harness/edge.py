"""sipward itself, as the program under test."""

import os
import pathlib
import re
import signal

from . import net
from .process import Process

PROGRAM = os.environ.get("SIPWARD", "build/dev/sipward")
SANITIZER = re.compile(r"(ERROR|WARNING): \w+Sanitizer|runtime error:|SUMMARY: \w+Sanitizer")


class Edge:
    """A running sipward. `backends` are HOST:PORT, with udp:, tcp: or auto: in front or without; `users` are names, or whole YAML mappings; `listeners` more lines of
    `listen`; `contact` None leaves that key out; `certificate` (chain file, key file); `core` the address that sipward has
    to find by itself on the core side. stop() fails the test when the stop was not clean."""

    def __init__(self, lab, backends=(), users=(), contact="mask", more="", address="127.0.0.1",
                 workers=2, ca=None, level="debug", listeners=(), certificate=None,
                 asan="", core=None):
        self.lab, self.address, self.asan = lab, address, asan
        self.ca = ca or lab.ca
        bracketed = f"[{address}]" if ":" in address else address
        self.tls_port, self.wss_port = net.free_port(address), net.free_port(address)
        self.core = (core or address, net.free_port(address))
        local = "" if core else bracketed
        chain, key = certificate or self.ca.issue("edge")
        lines = [
            "domain: sip.test",
            "aliases: [localhost]",
            f"certificate: {{chain: {chain}, key: {key}}}",
            "listen:",
            f'  - tls: "{bracketed}:{self.tls_port}"',
            f'  - wss: "{bracketed}:{self.wss_port}"',
            *listeners,
            f'core: "{local}:{self.core[1]}"',
            *([f"contact: {contact}"] if contact else []),
            f"workers: {workers}",
            f"log_level: {level}",
            *([] if re.search("^admin:", more, re.M) else ["admin: 127.0.0.1:0"]),
        ]
        if backends:
            lines += ["backends:"] + [
                f'  - "{b}"' if b.split(":")[0] in ("udp", "tcp", "auto") else f'  - "udp:{b}"'
                for b in backends
            ]
        if users:
            lines += ["users:"] + [
                f"  - {u}" if "{" in u else f"  - {{name: {u}, password: pw-{u}}}" for u in users
            ]
        self.file = lab.folder("sipward") / "sipward.yaml"
        if backends and "probe:" not in more:
            lines.append("probe: {interval: 0}")  # scripted ends expect what the test sends
        self.file.write_text("\n".join(lines) + "\n" + more)
        self.start()

    def start(self):
        self.process = Process(
            self.lab,
            "sipward",
            [pathlib.Path(PROGRAM).resolve(), self.file],
            env={
                "ASAN_OPTIONS": f"detect_leaks=1:exitcode=99:{self.asan}",
                "UBSAN_OPTIONS": "print_stacktrace=1",
            },
        )
        self.lab.edges.append(self)

        def listening():
            assert self.process.child.poll() is None, f"sipward ended:\n{self.log()}"
            return net.can_connect(self.address, self.tls_port) and net.can_connect(
                self.address, self.wss_port
            )

        net.until(listening, "sipward listens", 15)

    @property
    def admin_port(self):
        """Of the admin side, as the log says it (at level info)."""
        return int(self.process.wait_output(r" admin listening address=\S+:(\d+)$")[-1])

    @property
    def pid(self):
        return self.process.child.pid

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self):
        """Resident, in bytes. ThreadSanitizer keeps four for each one that is used."""
        shadowed = "libtsan" in pathlib.Path(f"/proc/{self.pid}/maps").read_text(encoding="utf-8")
        with open(f"/proc/{self.pid}/statm", encoding="ascii") as f:
            resident = int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return resident // 5 if shadowed else resident

    def log(self):
        return self.process.output()

    def why_closed(self, peer):
        """What the log (at level info) says of the end of the connection from there."""
        ends = "TLS handshake failed|upgrade refused|flow closed"
        said = self.process.matches(rf' (?:{ends}) .*peer={re.escape(peer)} .*?reason="([^"]*)"')
        return said[-1] if said else "its log does not say why"

    def status(self):
        """What it says on SIGUSR1: {field: number}."""
        before = len(self.process.matches(r" status connections=.*$"))
        os.kill(self.process.child.pid, signal.SIGUSR1)
        line = self.process.wait_output(r" status (connections=.*)$", count=before + 1)[-1]
        return {name: int(number) for name, number in re.findall(r"([\w-]+)=(\d+)", line)}

    def rewrite(self, *changes):
        """Its file, with each (before, after) in place of what must be in it; ("", more) is added."""
        text = self.file.read_text()
        for before, after in changes:
            assert before in text, f"{before!r} is not in:\n{text}"
            text = text.replace(before, after, 1) if before else text + after + "\n"
        self.file.write_text(text)

    def reload(self, *changes, refused=False):
        """rewrite(), then SIGHUP, and what is said of it in the end: what has changed, or the lines of
        what is wrong."""
        done, no = r" configuration reloaded changed=(.*)$", r" (reload refused: .*)$"
        before = len(self.process.matches(f"{done}|{no}"))
        at = len(self.log())
        self.rewrite(*changes)
        os.kill(self.pid, signal.SIGHUP)
        changed, why = self.process.wait_output(f"{done}|{no}", count=before + 1)[-1]
        mistakes = re.findall(r" configuration mistake reason=\"(.*)\"$", self.log()[at:], re.M)
        assert bool(why) == refused, why or f"taken: {changed}"
        assert bool(mistakes) == refused
        return mistakes if refused else changed.strip('"').split(", ")

    @property
    def wss_url(self):
        return f"wss://localhost:{self.wss_port}/"

    def stop(self, number=signal.SIGINT):
        """Clean stop: exit status 0 in good time, and no word from a sanitizer."""
        if self not in self.lab.edges:
            return
        self.lab.edges.remove(self)
        died = self.process.child.poll()
        if died is None:
            os.kill(self.process.child.pid, number)
            died = self.process.wait(20)
        self.process.stopped = True
        report = SANITIZER.search(self.log())
        assert not report, f"a sanitizer speaks:\n{self.log()[report.start():][:6000]}"
        assert died == 0, f"sipward ended with {died}"
