"""BENCHMARKS.md: the samples as tables, and what a reader needs to judge or repeat them."""

import datetime
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess

from servers import ALL

SHOWN = {"sipward": "sipward", "kamailio": "Kamailio", "haproxy": "HAProxy (no SIP)", "floor": "floor"}
KINDS = {"tls": "TLS", "wss": "WSS"}

# figure, words, digits
ROWS = [
    ("cpu register", "server CPU per REGISTER, saturated (µs)", 1),
    ("cpu options", "server CPU per OPTIONS, saturated (µs)", 1),
    ("cpu call", "server CPU per call, saturated (µs)", 0),
    ("cpu mixed", "server CPU per step of the mix (µs)", 1),
    ("cpu at rate", "server CPU per REGISTER at the fixed rate (µs)", 1),
    ("saturated register", "REGISTER per second, one core", 0),
    ("saturated options", "OPTIONS per second, one core", 0),
    ("saturated call", "calls per second, one core", 0),
    ("saturated mixed", "steps of the mix per second, one core", 0),
    ("latency p50", "latency at the fixed rate, p50 (ms)", 2),
    ("latency p99", "latency at the fixed rate, p99 (ms)", 2),
    ("latency p999", "latency at the fixed rate, p99.9 (ms)", 2),
    ("latency max", "latency at the fixed rate, longest (ms)", 2),
    ("handshake full", "server CPU per full handshake, WSS: with upgrade (ms)", 3),
    ("handshake resumed", "server CPU per resumed handshake (ms)", 3),
    ("handshakes full", "full handshakes per CPU second", 0),
    ("handshakes resumed", "resumed handshakes per CPU second", 0),
    ("really resumed", "handshakes that were really resumed (%)", 0),
    ("memory idle", "PSS per idle connection (kB)", 1),
    ("memory registered", "PSS per registered connection (kB)", 1),
    ("connections most", "most connections that open files allow", 0),
    ("memory idle most", "PSS per idle connection, with that many (kB)", 1),
    ("memory registered most", "PSS per registered connection, with that many (kB)", 1),
    ("instructions register", "user instructions per REGISTER", 0),
    ("instructions options", "user instructions per OPTIONS", 0),
    ("instructions call", "user instructions per call", 0),
    ("system calls one", "system calls per REGISTER, one at a time", 2),
    ("system calls many", "system calls per REGISTER, 100 at a time", 2),
    ("server busy", "use of the server's core while saturated (%)", 0),
    ("load busy", "use of the core of load generator and stand-in PBX (%)", 0),
]
STORM = [
    ("storm clients", "clients cut off at once", 0),
    ("storm seconds", "until all are back and registered (s)", 2),
    ("storm failures", "attempts that failed", 0),
    ("storm cpu", "server CPU per client that came back (ms)", 3),
    ("storm p99", "others' REGISTER meanwhile, p99 (ms)", 1),
    ("storm max", "others' REGISTER meanwhile, longest (ms)", 1),
    ("storm memory", "memory after it, against before (%)", 1),
]
WORKERS = [
    ("workers cpu 1", "server CPU per REGISTER, one worker on one core (µs)", 1),
    ("workers cpu 2", "server CPU per REGISTER, two workers on two cores (µs)", 1),
    ("workers gain", "throughput of two by CPU time, against one", 2),
    ("workers lost", "CPU that a REGISTER costs more with two, the hand-over in it (%)", 1),
    ("workers handed 2", "messages handed over between threads, of 100 requests", 0),
    ("workers resumed", "handshakes that were really resumed, with two (%)", 0),
]
HOW = """The server has one core ({server}), the load generator and the stand-in PBX have the other ({load}). Each
figure is the median of {rounds} (lowest to highest), in which the servers take turns and are started
afresh for each measurement. CPU time is that of all processes of the server, user and system, from
`/proc`. TLS 1.3, ECDSA P-256, one ticket where the server lets us say so. {clients} clients; saturated: each has
a request open all the time (calls: {calls} at once); the fixed rate is {rate} requests a second, and times
count from when a request should have been sent. A call is INVITE with 3 kB of SDP, 180, 200, ACK, BYE, 200,
both ends behind the edge, so that each message crosses it twice. The mix: 7 REGISTER, 2 OPTIONS, 1 call. Every
response was checked (Via, branch, Call-ID, CSeq, tags, Contact, body); a figure with one mistake is not shown.
Instructions (callgrind) and system calls (strace) are exact, all else is as good as the machine is quiet: compare
within this file only.

The servers' configurations are in `tests/bench/servers`. *floor* answers SIP by itself and forwards nothing:
what OpenSSL, the sockets and a minimal reading cost. HAProxy passes bytes on, so it routes no calls; it takes two
open files for a client. With more connections a message costs more in each server, as what the kernel and OpenSSL
hold of a connection no longer fits the caches: what is left without the floor's is the server's own. With two
workers the load generator is on the same two cores, and takes its share of their caches."""


def command_output(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:
        return ""


def machine():
    cpu = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text(), re.M)
    system = platform.freedesktop_os_release()["PRETTY_NAME"]
    return [
        ("Machine", f"{cpu[1] if cpu else platform.machine()}, {os.cpu_count()} cores, "
                    f"{int(memory[1]) >> 20} GB; {system}, Linux {platform.release()}"),
        ("Open files", str(resource.getrlimit(resource.RLIMIT_NOFILE)[1])),
        ("OpenSSL", command_output("openssl", "version")),
    ]


def versions(names):
    commit = command_output("git", "describe", "--always", "--dirty")
    said = [(SHOWN[name], ALL[name].version()) for name in names]
    return [(n, f"{v}, commit {commit}" if n == "sipward" else v) for n, v in said]


def number(value, digits):
    return f"{value:,.{digits}f}"


def cell(notes, figure, server, kind, digits):
    values = notes.samples.get((figure, server, kind))
    if not values:
        return "-"
    middle = number(statistics.median(values), digits)
    if len(values) == 1 or min(values) == max(values):
        return middle
    return f"{middle} ({number(min(values), digits)} to {number(max(values), digits)})"


def table(notes, rows, names, kind):
    """Rows with nothing in them are left out; "" where all are."""
    lines = []
    for figure, words, digits in rows:
        cells = [cell(notes, figure, name, kind, digits) for name in names]
        if any(c != "-" for c in cells):
            lines.append(f"| {words} | {' | '.join(cells)} |")
    if not lines:
        return ""
    head = f"| {KINDS[kind]} | {' | '.join(SHOWN[n] for n in names)} |\n|{' --- |' * (len(names) + 1)}"
    return "\n".join([head, *lines]) + "\n"


def growth_rows(notes, what, words):
    counts = {int(f.split()[-1]) for f, _, _ in notes.samples if f.startswith(f"growth {what} ")}
    return [(f"growth {what} {n}", words.format(n=f"{n:,}"), 1) for n in sorted(counts)]


def less_floor(notes):
    """What of growth is a server's own: sockets, caches and OpenSSL grow in the floor as well."""
    for (figure, name, kind), values in list(notes.samples.items()):
        floor = notes.samples.get((figure, "floor", kind))
        if figure.startswith("growth connections ") and name != "floor" and floor:
            own = statistics.median(values) - statistics.median(floor)
            notes.samples[figure.replace("connections", "own"), name, kind] = [own]


def sections(notes, names, kinds):
    less_floor(notes)
    growth = growth_rows(notes, "connections", "{n} connections")
    growth += growth_rows(notes, "own", "{n} connections, less the floor's")
    growth += growth_rows(notes, "open", "{n} open INVITEs")
    for title, rows in (
        ("Cost of a message, a connection, a handshake", ROWS),
        ("Growth: server CPU per REGISTER (µs)", growth),
        ("Reconnect storm", STORM),
        ("Two workers", WORKERS),
    ):
        tables = [table(notes, rows, [n for n in names if has(notes, rows, n)], k) for k in kinds]
        tables = [t for t in tables if t]
        if tables:
            yield f"## {title}\n\n" + "\n".join(tables)
    calls = [f"- {SHOWN[n]}, {KINDS[k]}, {f.split()[-1]} at a time: {text}"
             for (f, n, k), text in notes.tables.items()]
    if calls:
        yield "## System calls of a REGISTER\n\n" + "\n".join(calls) + "\n"
    if notes.failed:
        yield "## What could not be measured\n\n" + "\n".join(
            f"- {m}, {SHOWN[n]}, {KINDS[k]}: {why}" for (m, n, k), why in notes.failed.items()
        ) + "\n"


def has(notes, rows, name):
    return any(notes.samples.get((f, name, k)) for f, _, _ in rows for k in KINDS)


def text(notes, place, names, kinds, command, plots=()):
    settings = place.settings
    facts = [("Date", datetime.date.today().isoformat()), *machine(), *versions(names),
             ("Command", f"`{command}`")]
    how = HOW.format(
        server=",".join(map(str, place.server_cores)), load=",".join(map(str, place.load_cores)),
        rounds=f"{settings.rounds} rounds" if settings.rounds > 1 else "one round", clients=settings.clients, calls=settings.calls_open,
        rate=f"{settings.rate:,}",
    )
    parts = ["# What sipward costs, beside others\n",
             "| | |\n| --- | --- |\n" + "\n".join(f"| {a} | {b} |" for a, b in facts) + "\n", how + "\n"]
    parts += [f"![{title}]({file})\n" for title, file in plots]
    parts += sections(notes, names, kinds)
    return "\n".join(parts)
