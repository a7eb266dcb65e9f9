"""SIPp, over UDP or TCP, as PBX or as caller. Scenarios are in tests/e2e/sipp."""

import pathlib

from . import net
from .process import Process

SCENARIOS = pathlib.Path(__file__).parent.parent / "sipp"


class Sipp:
    def __init__(self, lab, scenario, target=None, calls=1, keys=None, port=None, timeout=40,
                 transport="u1"):
        """`target`: (address, port) to call; None: wait to be called. `keys`: [name] values.
        `transport`: as SIPp's -t: u1, t1 (one TCP connection), tn (one for each call)."""
        self.port = port or net.free_port()
        self.host = f"127.0.0.1:{self.port}"
        folder = lab.folder("sipp-files")
        words = [w for k, v in (keys or {}).items() for w in ("-key", k, v)]
        self.process = Process(
            lab,
            "sipp",
            ["sipp", *(["%s:%d" % target] if target else [])]
            + ["-sf", SCENARIOS / f"{scenario}.xml", "-i", "127.0.0.1", "-p", self.port]
            + ["-t", transport, "-max_socket", 100]
            + ["-mi", "127.0.0.1", "-mp", net.free_ports(4), "-m", calls, *words, "-nostdin"]
            + ["-timeout", timeout, "-timeout_error", "-recv_timeout", 20000]
            + ["-trace_msg", "-message_file", folder / "messages.log"]
            + ["-trace_err", "-error_file", folder / "errors.log"],
            cwd=folder,
            env={"TERM": "dumb"},
        )
        self.process.more_logs += [folder / "errors.log", folder / "messages.log"]
        if not target:
            kind = "udp" if transport == "u1" else "tcp"
            net.until(lambda: net.bound(self.port, kind), "sipp listens")

    def done(self, timeout=45):
        """It ended, and every call went as its scenario has it."""
        status = self.process.wait(timeout)
        assert status == 0, f"sipp ended with {status}"
