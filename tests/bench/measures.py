"""What is measured. Each measure starts a server afresh, loads it, and notes figures as samples of
`Notes`: name, server, transport, value. `@measure` has the name that --only takes."""

import collections
import os
import pathlib
import re
import signal
import subprocess
import time

import rig
from rig import Invalid, Load
from servers import Sipward

MEASURES = {}  # name: (function, for which servers)
TIMER_K = 6  # seconds after which what a request left behind is gone (RFC 3261 17.1.2.2)


class Settings:
    rounds = 3
    seconds = 2.0
    clients = 200
    rate = 1000
    calls_open = 20
    idle = 2000
    growth_connections = (100, 1000, 10000)
    growth_open = (10, 1000, 50000)
    growth_clients = 1000  # that have those requests open
    storm = 15000
    storm_others, storm_rate = 100, 200
    counted = (300, 1300)  # requests of two runs, of which the difference counts

    def quick(self):
        self.rounds, self.seconds, self.idle, self.storm = 1, 1.0, 500, 1000
        self.growth_connections, self.growth_open = (100, 1000), (10, 1000)
        self.growth_clients = 100
        self.counted = (100, 300)


class Notes:
    """Samples: {(figure, server, transport): [value, ...]}, and why some are missing."""

    def __init__(self):
        self.samples = collections.defaultdict(list)
        self.failed = {}
        self.tables = {}  # of text, by name: what is more than a number

    def add(self, figure, server, kind, value):
        self.samples[figure, server, kind].append(value)


class Place:
    """Where measuring is done: folder, cores, settings."""

    def __init__(self, folder, settings):
        self.folder, self.settings = pathlib.Path(folder), settings
        cores = sorted(os.sched_getaffinity(0))
        if len(cores) < 2:
            raise SystemExit("This needs two cores: one for the server, one for what loads it.")
        self.server_cores, self.load_cores = {cores[0]}, set(cores[1:])
        self.count = 0

    def server(self, cls, **options):
        self.count += 1
        folder = self.folder / f"{self.count:03}-{cls.name}"
        return cls(folder, options.pop("cores", self.server_cores), self.load_cores, **options)

    def load(self, kind, server, nice=0):
        self.count += 1
        log = self.folder / f"{self.count:03}-load.log"
        return Load(kind, server.ports[kind], log, self.load_cores, nice)


def measure(only=lambda cls: True):
    def keep(function):
        MEASURES[function.__name__.replace("_", "-")] = (function, only)
        return function

    return keep


def is_sip(cls):
    return "call" in cls.whats


class Loaded:
    """A server and a load generator that has clients on it."""

    def __init__(self, place, cls, kind, clients=0, register=True, **options):
        self.server = place.server(cls, **options)
        try:
            self.load = place.load(kind, self.server)
            if clients:
                self.load.ask(f"connect clients={clients} register={int(register)}", 600)
        except BaseException:
            self.__exit__(*[Invalid] * 3)
            raise

    def __enter__(self):
        return self.server, self.load

    def __exit__(self, kind, value, trace):
        if hasattr(self, "load"):
            self.load.end()
        self.server.__exit__(kind, value, trace)


def cpu_of(server, load, command):
    """(What the load says, CPU seconds of the server while it ran.)"""
    before = server.cpu()
    said = load.ask(command)
    return said, server.cpu() - before


# ---- load, latency, connections


@measure()
def load(place, cls, kind, notes):
    """As many requests as go: closed loop."""
    settings = place.settings
    with Loaded(place, cls, kind, settings.clients) as (server, generator):
        for what in cls.whats:
            parallel = settings.calls_open if what == "call" else settings.clients
            command = f"run what={what} parallel={parallel} seconds="
            generator.ask(f"{command}{settings.seconds / 5}")
            backends = server.backends_cpu()
            said, cpu = cpu_of(server, generator, f"{command}{settings.seconds}")
            load_cpu = said["generator_cpu"] + server.backends_cpu() - backends
            notes.add(f"cpu {what}", cls.name, kind, cpu / said["done"] * 1e6)
            notes.add(f"saturated {what}", cls.name, kind, said["per_second"])
            notes.add("load busy", cls.name, kind, load_cpu / said["seconds"] * 100)
            notes.add("server busy", cls.name, kind, cpu / said["seconds"] * 100)


@measure()
def latency(place, cls, kind, notes):
    """At a moderate fixed rate, from when a request should have been sent."""
    settings = place.settings
    with Loaded(place, cls, kind, settings.clients) as (server, generator):
        command = f"run what=register rate={settings.rate} seconds="
        generator.ask(f"{command}{settings.seconds / 5}")
        said, cpu = cpu_of(server, generator, f"{command}{settings.seconds * 2}")  # p99 is of few
        for name in ("p50", "p99", "p999", "max"):
            notes.add(f"latency {name}", cls.name, kind, said["latency_us"]["REGISTER"][name] / 1e3)
        notes.add("cpu at rate", cls.name, kind, cpu / said["done"] * 1e6)


@measure()
def handshakes(place, cls, kind, notes):
    """Connect, handshake (WSS: and upgrade), close."""
    with Loaded(place, cls, kind) as (server, generator):
        generator.ask("handshake count=100")
        for name, more in (("full", ""), ("resumed", " resume=1")):
            said, cpu = cpu_of(server, generator, f"handshake seconds={place.settings.seconds}{more}")
            notes.add(f"handshake {name}", cls.name, kind, cpu / said["done"] * 1e3)
            notes.add(f"handshakes {name}", cls.name, kind, said["done"] / cpu if cpu else 0)
            if more:
                notes.add("really resumed", cls.name, kind, said["resumed"] / said["done"] * 100)


def memory_of(place, cls, kind, notes, count, label):
    few = 50  # what the first ones bring with them is not a connection's
    with Loaded(place, cls, kind, few, register=False) as (server, generator):
        before = server.pss()
        generator.ask(f"connect clients={count}", 600)
        idle = (server.pss() - before) / (count - few)
        connected = server.pss()
        generator.ask(f"run what=register count={count} parallel=50", 600)
        time.sleep(TIMER_K)
        registered = idle + (server.pss() - connected) / count
        if generator.ask("state")["open"] != count:
            raise Invalid("not all idle connections stayed")
    notes.add(f"memory idle{label}", cls.name, kind, idle / 1024)
    notes.add(f"memory registered{label}", cls.name, kind, registered / 1024)
    notes.add(f"connections{label}", cls.name, kind, count)


@measure()
def memory(place, cls, kind, notes):
    memory_of(place, cls, kind, notes, place.settings.idle, "")


@measure()
def memory_most(place, cls, kind, notes):
    """With as many connections as the limit of open files allows."""
    memory_of(place, cls, kind, notes, cls.connections_max(), " most")


# ---- what one message costs, exactly


def callgrind_run(place, cls, kind, what, count):
    """The output files of a server that served `count` requests and ended."""
    folder = place.folder / f"callgrind-{cls.name}-{kind}-{what}-{count}"
    folder.mkdir(parents=True, exist_ok=True)
    wrap = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder.resolve()}/out.%p"]
    with Loaded(place, cls, kind, 10, wrap=wrap) as (_, generator):
        generator.ask(f"run what={what} count={count} parallel=5", 600)
    return [f for f in sorted(folder.iterdir()) if f.name.startswith("out.")]


def callgrind_total(files):
    texts = (f.read_text(errors="replace") for f in files)
    return sum(int(n) for t in texts for n in re.findall(r"^(?:totals|summary): (\d+)", t, re.M)[-1:])


def annotate(files, inclusive):
    """{function: instructions}. callgrind_annotate has some functions twice, with their object and
    without: parts of the one number, or, where that is inclusive, the number again."""
    counts = collections.Counter()
    for file in files:
        said = subprocess.run(
            ["callgrind_annotate", "--threshold=100", f"--inclusive={'yes' if inclusive else 'no'}",
             "--auto=no", "--show-percs=no", file],
            capture_output=True, text=True, check=False, errors="replace",
        ).stdout
        for number, name in re.findall(r"^\s*([\d,]+)\s+(\S.*)$", said, re.M):
            if ":" not in name or "PROGRAM TOTALS" in name:
                continue
            name = re.sub(r"^\S*?([^/\s:]+):", r"\1:", name).replace("???:", "")
            name = re.sub(r" \[\S*?([^/\]]+)\]$", r" [\1]", name)
            if name.split(":")[0].endswith((".c", ".S")):
                name = name.split(" [")[0]
            cost = int(number.replace(",", ""))
            counts[name] = max(counts[name], cost) if inclusive else counts[name] + cost
    return counts


def profile(place, cls, kind, what, short, long, requests):
    """Where the instructions of a message go, as a text file."""
    lines = []
    for inclusive in (False, True):
        counts = annotate(long, inclusive)
        counts.subtract(annotate(short, inclusive))
        lines += ["", f"{'inclusive' if inclusive else 'exclusive'}, instructions per message:"]
        lines += [f"{n / requests:12.1f}  {name}" for name, n in counts.most_common(40)]
    file = place.folder / f"profile-{cls.name}-{kind}-{what}.txt"
    file.write_text("\n".join(lines[1:]) + "\n")
    return file


@measure()
def instructions(place, cls, kind, notes):
    """Of user space, by callgrind: the difference of two runs."""
    few, many = place.settings.counted
    for what in [w for w in cls.whats if w != "mixed"]:
        scale = 10 if what == "call" else 1  # a call is many messages
        short = callgrind_run(place, cls, kind, what, few // scale)
        long = callgrind_run(place, cls, kind, what, many // scale)
        requests = many // scale - few // scale
        each = (callgrind_total(long) - callgrind_total(short)) / requests
        notes.add(f"instructions {what}", cls.name, kind, each)
        file = profile(place, cls, kind, what, short, long, requests)
        print(f"    {cls.name} {kind} {what}: {each:,.0f} instructions, see {file}")


def strace_run(place, server, generator, command):
    """{system call: times} of the server while the command runs."""
    file = place.folder / "strace.txt"
    pids = [word for pid in server.pids() for word in ("-p", str(pid))]
    tracer = rig.Process(["strace", "-c", "-f", "-o", file, *pids], place.folder / "strace.log")
    try:
        wanted = len(server.pids())
        rig.until(lambda: tracer.text().count("attached") >= wanted, "strace is attached")
        generator.ask(command, 300)
    finally:
        tracer.end(signal.SIGINT)
    rows = re.findall(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", file.read_text(), re.M)
    return collections.Counter({name: int(calls) for calls, name in rows if name != "total"})


@measure()
def system_calls(place, cls, kind, notes):
    """By strace: the difference of two runs; one request at a time, and many at once."""
    few, many = place.settings.counted
    with Loaded(place, cls, kind, 100) as (server, generator):
        for label, parallel in (("one", 1), ("many", 100)):
            command = f"run what=register parallel={parallel} count="
            counts = strace_run(place, server, generator, f"{command}{many}")
            counts.subtract(strace_run(place, server, generator, f"{command}{few}"))
            each = {name: n / (many - few) for name, n in counts.most_common()}
            notes.add(f"system calls {label}", cls.name, kind, sum(each.values()))
            text = ", ".join(f"{name} {n:.2f}" for name, n in each.items() if n >= 0.005)
            notes.tables[f"system calls {label}", cls.name, kind] = text
            print(f"    {cls.name} {kind}, {label} at a time: {sum(each.values()):.2f} calls: {text}")


# ---- growth, storm, workers


@measure()
def growth_connections(place, cls, kind, notes):
    """The cost of a REGISTER, 100 at a time, where so many clients are connected."""
    settings = place.settings
    for count in settings.growth_connections:
        if count > cls.connections_max():
            continue
        with Loaded(place, cls, kind, count) as (server, generator):
            command = "run what=register parallel=100 seconds="
            generator.ask(f"{command}{settings.seconds / 5}")
            said, cpu = cpu_of(server, generator, f"{command}{settings.seconds}")
            notes.add(f"growth connections {count}", cls.name, kind, cpu / said["done"] * 1e6)


@measure(only=is_sip)
def growth_open(place, cls, kind, notes):
    """The cost of a REGISTER where so many INVITEs are open."""
    settings = place.settings
    for count in settings.growth_open:
        with Loaded(place, cls, kind, settings.growth_clients) as (server, generator):
            generator.ask(f"hold count={count}", 600)
            command = "run what=register parallel=100 seconds="
            generator.ask(f"{command}{settings.seconds / 5}")
            said, cpu = cpu_of(server, generator, f"{command}{settings.seconds}")
            notes.add(f"growth open {count}", cls.name, kind, cpu / said["done"] * 1e6)
            generator.ask("release", 600)


@measure()
def storm(place, cls, kind, notes):
    """All clients are cut off at once, come back and register, while others go on asking."""
    settings = place.settings
    count = min(settings.storm, cls.connections_max() - settings.storm_others - 100)
    with Loaded(place, cls, kind, count) as (server, generator):
        others = place.load(kind, server, nice=-10 if os.geteuid() == 0 else 0)
        try:
            others.ask(f"connect clients={settings.storm_others} register=1")
            time.sleep(TIMER_K)
            before = server.pss()
            others.tell(f"run what=register rate={settings.storm_rate} seconds=600")
            time.sleep(0.5)
            cpu = server.cpu()
            said = generator.ask("storm", 600)
            cpu = server.cpu() - cpu
            others.tell("stop")
            meanwhile = others.answer()
            time.sleep(TIMER_K)
            after = server.pss()
        finally:
            others.end()
    notes.add("storm clients", cls.name, kind, count)
    notes.add("storm seconds", cls.name, kind, said["seconds"])
    notes.add("storm failures", cls.name, kind, said["failures"])
    notes.add("storm cpu", cls.name, kind, cpu / count * 1e3)
    notes.add("storm p99", cls.name, kind, meanwhile["latency_us"]["REGISTER"]["p99"] / 1e3)
    notes.add("storm max", cls.name, kind, meanwhile["latency_us"]["REGISTER"]["max"] / 1e3)
    notes.add("storm memory", cls.name, kind, (after / before - 1) * 100)


@measure(only=lambda cls: cls is Sipward)
def workers(place, cls, kind, notes):
    """Two workers on two cores beside one on one. The load is on the same cores, so what counts is
    the CPU time that a message takes: two cores do 2 / it."""
    settings = place.settings
    each = {}
    for count in (1, 2):
        cores = place.server_cores | (place.load_cores if count == 2 else set())
        with Loaded(place, cls, kind, settings.clients, workers=count, cores=cores) as (server, generator):
            generator.ask(f"run what=register seconds={settings.seconds / 5}")
            before = server.counts()
            said, cpu = cpu_of(server, generator, f"run what=register seconds={settings.seconds}")
            moved = {name: n - before.get(name, 0) for name, n in server.counts().items()}
            resumed = generator.ask(f"handshake seconds={settings.seconds / 5} resume=1")
        each[count] = cpu / said["done"]
        notes.add(f"workers cpu {count}", cls.name, kind, each[count] * 1e6)
        handed = sum(n for name, n in moved.items() if name.startswith("sipward_mailbox_messages_total"))
        notes.add(f"workers handed {count}", cls.name, kind, handed / said["done"] * 100)
    notes.add("workers resumed", cls.name, kind, resumed["resumed"] / resumed["done"] * 100)
    notes.add("workers gain", cls.name, kind, 2 * each[1] / each[2])
    notes.add("workers lost", cls.name, kind, (each[2] / each[1] - 1) * 100)
