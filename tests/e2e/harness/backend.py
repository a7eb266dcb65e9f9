"""A PBX of one's own process, so that it can be killed, stopped and go on: it takes whatever it is asked over UDP, and writes down each request that was
new to it, when it came (by the kernel's clock, however late it is read), and what became of it. SIGUSR1: from now on 503 to all; SIGUSR2: no more."""

import asyncio
import json
import pathlib
import signal
import socket
import struct
import sys
import time

if __package__:
    from . import net
    from .process import Process
else:
    sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from harness import sip  # noqa: E402

SO_TIMESTAMPNS = 35  # asm-generic/socket.h


class Backend:
    """Such a process: udp:HOST. start() again after kill()."""

    def __init__(self, lab, address):
        self.lab, self.address, self.port = lab, address, net.free_port(address)
        self.host = f"{address}:{self.port}"
        self.runs = []

    def start(self):
        argv = [sys.executable, pathlib.Path(__file__).resolve(), self.address, self.port]
        self.process = Process(self.lab, f"backend-{self.address}", argv, expect="^ready")
        self.runs.append(self.process)
        return self

    def signal(self, number):
        self.process.signal(number)

    def kill(self):
        self.process.stopped = True
        self.process.signal(signal.SIGKILL)
        self.process.wait()

    def events(self, last=False):
        """[{what, method, call, ...}] of all runs, or of the last one."""
        for process in self.runs[-1:] if last else self.runs:
            for line in process.output().splitlines(keepends=True):
                if line.startswith("{") and line.endswith("\n"):
                    yield json.loads(line)


class Scripted:
    def __init__(self, address, port):
        self.host, self.answers, self.invites, self.dialogs, self.overloaded = f"{address}:{port}", {}, {}, {}, False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setblocking(False)
        self.socket.bind((address, port))

    def readable(self):
        try:
            raw, more, _, source = self.socket.recvmsg(65536, 64)
        except (BlockingIOError, ConnectionError):
            return
        seconds, nanoseconds = struct.unpack("qq", more[0][2])
        self.received(raw, source, seconds + nanoseconds / 1e9)

    def note(self, what, message, **more):
        print(json.dumps({"what": what, "method": message.method, "call": message.get("Call-ID"),
                          "cseq": message.cseq, "at": time.monotonic(), **more}), flush=True)

    def put(self, raw, source):
        try:
            self.socket.sendto(raw, source)
        except OSError:
            pass  # as on a network: it is lost

    def respond(self, request, status, source, more=()):
        answer = sip.Message(f"SIP/2.0 {status} Because")
        for name, value in request.headers:
            if name in ("Via", "From", "Call-ID", "CSeq", "Record-Route"):
                answer.headers.append((name, value))
            elif name == "To":
                tagged = "tag=" in value or status == 100
                answer.headers.append((name, value if tagged else f"{value};tag={self.host[-6:]}"))
        answer.headers += more
        self.answers[request.branch, request.method] = answer.bytes()
        self.put(answer.bytes(), source)

    def received(self, raw, source, came):
        message = sip.parse(raw)
        if not message.is_request:
            return
        key = (message.branch, message.method)
        if message.method == "ACK":
            self.dialogs.pop(message.get("Call-ID"), None)
            return
        if key in self.answers:
            self.put(self.answers[key], source)
            return
        self.note("got", message, came=came)
        if self.overloaded:
            self.respond(message, 503, source, [("Retry-After", "2")])
            self.note("refused", message)
        elif message.method == "INVITE":
            self.invites[message.branch] = message
            self.respond(message, 100, source)
            self.respond(message, 180, source, [("Contact", f"<sip:pbx@{self.host}>")])
            asyncio.get_running_loop().call_later(0.05, self.answer, message, source)
        elif message.method == "CANCEL":
            self.respond(message, 200, source)
            invite = self.invites.pop(message.branch, None)
            if invite:
                self.note("cancelled", invite)
                self.respond(invite, 487, source)
        else:
            headers = [("Contact", message.get("Contact"))] if message.get("Contact") else []
            self.respond(message, 200, source, headers)
            self.note("answered", message)

    def answer(self, invite, source, after=0.5):
        call = invite.get("Call-ID")
        if self.invites.pop(invite.branch, None):
            self.note("answered", invite)
            self.dialogs[call] = invite.branch
            self.respond(invite, 200, source, [("Contact", f"<sip:pbx@{self.host}>")])
        elif self.dialogs.get(call) == invite.branch and after < 32:
            self.put(self.answers[invite.branch, "INVITE"], source)
        else:
            return
        asyncio.get_running_loop().call_later(after, self.answer, invite, source, min(after * 2, 4))


async def main(address, port):
    loop = asyncio.get_running_loop()
    scripted = Scripted(address, port)
    loop.add_reader(scripted.socket, scripted.readable)
    loop.add_signal_handler(signal.SIGUSR1, setattr, scripted, "overloaded", True)
    loop.add_signal_handler(signal.SIGUSR2, setattr, scripted, "overloaded", False)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
