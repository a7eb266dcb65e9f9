"""The servers that are measured. Each is started afresh for a measurement, with its configuration in
servers/, before a stand-in backend of its own."""

import os
import pathlib
import re
import resource
import signal
import subprocess
import urllib.request

import rig
from rig import Backend, Floor, Process, free_port

TEMPLATES = pathlib.Path(__file__).parent / "servers"
FILES = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
SPARE_FILES = 200


class Server:
    """One that runs. `ports` by transport; `whats` are the loads it can be given."""

    name = ""
    whats = ("register", "options", "call", "mixed")
    files_each = 1  # open files for a connection
    program = None
    stop_signal = signal.SIGTERM

    def __init__(self, folder, cores, backend_cores, workers=1, wrap=()):
        self.folder, self.cores, self.backend_cores = pathlib.Path(folder).resolve(), cores, backend_cores
        self.folder.mkdir(parents=True, exist_ok=True)
        self.workers, self.wrap = workers, list(wrap)
        self.ports = {"tls": free_port(), "wss": free_port()}
        self.backends = []
        self.process = None
        chain, key, both = rig.certificate_make(self.folder)
        self.values = {
            "FOLDER": self.folder, "CHAIN": chain, "KEY": key, "BOTH": both,
            "TLS": self.ports["tls"], "WSS": self.ports["wss"],
            "CORE": free_port(), "ADMIN": free_port(), "WORKERS": workers,
            "CONNECTIONS": self.connections_max(),
        }
        self.open()
        for kind in self.ports:
            rig.until(lambda: self.alive() and rig.can_connect(self.ports[kind]),
                      f"{self.name} listens for {kind}", 60)

    @classmethod
    def connections_max(cls):
        """That the limit of open files allows it; and the load generator."""
        return min((FILES - SPARE_FILES) // cls.files_each, FILES - SPARE_FILES)

    @classmethod
    def installed(cls):
        return cls.program is None or any(
            os.access(f"{folder}/{cls.program}", os.X_OK)
            for folder in (*os.environ["PATH"].split(":"), "/usr/sbin")
        )

    def file(self, template, name=None):
        text = (TEMPLATES / template).read_text()
        for key, value in self.values.items():
            text = text.replace(f"@{key}@", str(value))
        file = self.folder / (name or template)
        file.write_text(text)
        return file

    def backend(self, cls, *words):
        number = len(self.backends)
        backend = cls(*words, self.folder / f"backend{number}.log", cores=self.backend_cores)
        self.backends.append(backend)
        return backend.port

    def run(self, *argv):
        self.process = Process(
            [*self.wrap, *argv], self.folder / f"{self.name}.log", cores=self.cores
        )

    def alive(self):
        self.process.check_alive()
        return True

    def pids(self):
        return rig.tree(self.process.pid)

    def cpu(self):
        return rig.cpu_seconds(self.pids())

    def backends_cpu(self):
        return rig.cpu_seconds([b.pid for b in self.backends])

    def pss(self):
        return rig.pss_bytes(self.pids())

    def counts(self):
        """What it counts itself: {name: number}."""
        return {}

    def end(self):
        """Everything, in any case; then Invalid if the backend was not understood."""
        if self.process:
            # under valgrind Kamailio's first process waits for nobody; the others have ended
            self.process.end(self.stop_signal, 8 if self.wrap else 20)
        for backend in self.backends:
            backend.end()
        for backend in self.backends:
            if isinstance(backend, Backend):
                backend.check()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        try:
            self.end()
        except rig.Invalid:
            if kind is None:
                raise


class Sipward(Server):
    name = "sipward"
    stop_signal = signal.SIGINT  # at once, not after all clients
    binary = pathlib.Path("build/release/sipward")

    def open(self):
        self.values["BACKEND"] = self.backend(Backend)
        self.run(self.binary.resolve(), self.file("sipward.yaml"))

    def counts(self):
        url = f"http://127.0.0.1:{self.values['ADMIN']}/metrics"
        with urllib.request.urlopen(url, timeout=5) as answer:
            text = answer.read().decode()
        return {m[0]: float(m[1]) for m in re.findall(r"^(\w+(?:\{.*?\})?) ([0-9.e+]+)$", text, re.M)}

    @classmethod
    def version(cls):
        said = subprocess.run([cls.binary, "--version"], capture_output=True, text=True, check=False)
        return said.stdout.strip()


class Kamailio(Server):
    name = "kamailio"
    program = "kamailio"

    def open(self):
        self.values["BACKEND"] = self.backend(Backend)
        self.file("kamailio-tls.cfg", "tls.cfg")
        self.run(
            "kamailio", "-f", self.file("kamailio.cfg"), "-P", self.folder / "pid", "-Y", self.folder,
            "-m", "3072", "-M", "64", "-x", "tlsf", "-X", "tlsf", "-DD", "-E",
        )

    @staticmethod
    def version():
        said = subprocess.run(["kamailio", "-v"], capture_output=True, text=True, check=False)
        return said.stdout.splitlines()[0].replace("version: ", "").strip()


class HaProxy(Server):
    name = "haproxy"
    program = "haproxy"
    whats = ("register", "options")
    files_each = 2

    def open(self):
        self.values["BACKEND_TCP"] = self.backend(Floor, "tcp")
        self.values["BACKEND_WS"] = self.backend(Floor, "ws")
        self.run("haproxy", "-f", self.file("haproxy.cfg"))

    def backend(self, cls, *words):
        number = len(self.backends)
        backend = cls(*words, self.folder / f"backend{number}.log", (), self.backend_cores)
        self.backends.append(backend)
        return backend.port

    @staticmethod
    def version():
        said = subprocess.run(["haproxy", "-v"], capture_output=True, text=True, check=False)
        return " ".join(said.stdout.split()[:3])


class TheFloor(Server):
    """One process for each transport; of which only one is at work at a time."""

    name = "floor"
    whats = ("register", "options")

    def open(self):
        argv = {kind: [rig.programs / "bench_floor", kind, "127.0.0.1", port, self.values["CHAIN"],
                       self.values["KEY"]] for kind, port in self.ports.items()}
        self.run(*argv["tls"])
        self.other = Process([*self.wrap, *argv["wss"]], self.folder / "floor-wss.log", self.cores)

    def pids(self):
        return [self.process.pid, self.other.pid]

    def end(self):
        super().end()
        if hasattr(self, "other"):
            self.other.end()

    @staticmethod
    def version():
        return "tests/bench/floor.c"


ALL = {cls.name: cls for cls in (Sipward, Kamailio, HaProxy, TheFloor)}
