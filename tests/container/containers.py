"""Containers of the images that tests/container/images made, run by podman in the network of the test."""

import json
import os
import pathlib
import subprocess

from harness import net
from harness.process import Process

FOLDER = pathlib.Path(os.environ.get("SIPWARD_CONTAINER", "build/container")).resolve()
COMPOSE = pathlib.Path(__file__).parents[2] / "deploy/compose.yaml"
ENVIRONMENT = {
    "CONTAINERS_STORAGE_CONF": str(FOLDER / "storage.conf"),
    "CONTAINERS_CONF": str(FOLDER / "containers.conf"),
}
HARDENED = ("--read-only", "--cap-drop", "all", "--security-opt", "no-new-privileges")


def podman(*words, check=True, timeout=60):
    """The output, both streams, of a podman command, and its exit status."""
    done = subprocess.run(
        ["podman", *map(str, words)], env={**os.environ, **ENVIRONMENT}, timeout=timeout,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )
    assert not check or done.returncode == 0, f"podman {words}: {done.stdout}"
    return done


def network_prepare():
    """What podman knows of running containers and networks is known here alone. Ports under 1024 need no
    capability, as in a network that Docker makes."""
    for folder in ("/run/containers", "/run/libpod", "/run/netns", "/dev/shm"):
        os.makedirs(folder, exist_ok=True)
        net.mount("tmpfs", folder, "tmpfs", 0)
    net.write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")


class Container:
    """An edge in a container, hardened as README.md has it. It has the test's network, and is by that an edge
    as the clients of the harness want one."""

    address, tls_port, wss_port = "127.0.0.1", 5061, 443
    wss_url = "wss://localhost/"

    def __init__(self, lab, image, tls, *options, **environment):
        self.ca = lab.ca
        self.name = f"sipward-test-{os.getpid()}-{image}"
        variables = [w for name, value in environment.items() for w in ("-e", f"{name}={value}")]
        self.process = Process(
            lab, self.name,
            ["podman", "run", "--pull=never", "--name", self.name, "--network", "host", "--no-healthcheck",
             *HARDENED, "-v", f"{tls}:/etc/sipward/tls:ro", *variables, *options, f"localhost/{image}"],
            env=ENVIRONMENT,
        )
        lab.cleanups.append(lambda: podman("rm", "-f", "-i", "-t", "1", self.name))
        net.until(self.listening, f"{self.name} listens", 30)

    def listening(self):
        assert self.process.child.poll() is None, self.process.output()
        return all(net.can_connect(self.address, port) for port in (self.tls_port, self.wss_port))

    def execute(self, *words):
        """Run sipward once more in the container."""
        return podman("exec", self.name, "/usr/sbin/sipward", *words, check=False)

    def inspect(self, template):
        return podman("inspect", "-f", template, self.name).stdout.strip()

    def status(self):
        """{field: value} of what the kernel says of its process."""
        text = pathlib.Path(f"/proc/{self.inspect('{{.State.Pid}}')}/status").read_text()
        return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def layers(image):
    return json.loads(podman("image", "inspect", "-f", "{{json .RootFS.Layers}}", image).stdout)


class Compose:
    """deploy/compose.yaml, up, by podman-compose, with no image built."""

    def __init__(self, lab, **environment):
        self.project = f"sipward-test-{os.getpid()}"
        self.words = ["podman-compose", "-f", str(COMPOSE), "-p", self.project]
        self.environment = {**os.environ, **ENVIRONMENT, **environment}
        lab.cleanups.append(self.down)
        self.run("up", "-d", "--no-build")

    def run(self, *words, check=True):
        done = subprocess.run(
            [*self.words, *words], env=self.environment, timeout=120,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )
        assert not check or done.returncode == 0, done.stdout
        return done.stdout

    def name(self, service):
        return f"{self.project}_{service}_1"

    def logs(self, service):
        return podman("logs", self.name(service), check=False).stdout

    def down(self):
        """Not by podman-compose, which leaves what doesn't end in time."""
        podman("rm", "-f", "-i", "-v", "-t", "1", *map(self.name, ("sipward", "certificate", "kamailio")))
        podman("network", "rm", "-f", f"{self.project}_default")
        podman("volume", "rm", "-f", f"{self.project}_tls")
