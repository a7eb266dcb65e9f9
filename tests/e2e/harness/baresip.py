"""baresip, a softphone, over TLS; driven by its ctrl_tcp module (JSON in netstrings)."""

import json
import os
import re
import signal
import socket
import threading

from . import media, net
from .dns import NameServer
from .process import Process

CONFIG = """poll_method epoll
sip_listen 127.0.0.1:0
sip_certificate {certificate}
sip_cafile {ca}
call_local_timeout 120
call_max_calls 4
audio_path /usr/share/baresip
audio_player aubridge,nil
audio_source aufile,{tone}
audio_alert aubridge,nil
audio_buffer 20-160
rtp_ports {rtp}-{rtp_last}
jitter_buffer_type off
rtp_stats yes
module_path {modules}
module g711.so
module aubridge.so
module aufile.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen 127.0.0.1:{control}
net_interface 127.0.0.1
dns_server {dns}
"""
ACCOUNT = (
    '<sip:{user}@sip.test;transport=tls>;auth_user={user};auth_pass={password};'
    'outbound="sip:127.0.0.1:{port};transport=tls";regint={interval};answermode=manual;'
    "audio_codecs=PCMU{more}\n"
)
DTLS = "module dtls_srtp.so\n"


def modules():
    for folder in ("/usr/lib/baresip/modules", f"/usr/lib/{os.uname().machine}-linux-gnu/baresip/modules"):
        if os.path.isdir(folder):
            return folder
    raise FileNotFoundError("baresip's modules")


class Baresip:
    def __init__(self, lab, port, user, ca, password=None, interval=120, dtls=False, trust=None):
        """`ca` signs its certificate, and the edge's too, or `trust` has done that: versions above 1.0
        look. `dtls`: DTLS-SRTP, without which it refuses what a browser offers. No ICE: that finds no
        address where there is only loopback."""
        self.user, self.control = user, net.free_port()
        folder = lab.folder(f"baresip-{user}-conf")
        chain, key = ca.issue(f"baresip-{user}", names=(user,))
        (folder / "both.pem").write_bytes(key.read_bytes() + chain.read_bytes())
        self.rtp = net.free_ports(10)
        (folder / "config").write_text(
            (DTLS if dtls else "")
            + CONFIG.format(
                certificate=folder / "both.pem",
                ca=(trust or ca).file,
                tone=media.tone(folder / "tone.wav"),
                rtp=self.rtp,
                rtp_last=self.rtp + 9,
                control=self.control,
                dns=NameServer(lab).host,
                modules=modules(),
            )
        )
        (folder / "accounts").write_text(
            ACCOUNT.format(
                user=user,
                password=password or f"pw-{user}",
                port=port,
                interval=interval,
                more=";mediaenc=dtls_srtp" if dtls else "",
            )
        )
        self.process = Process(lab, f"baresip-{user}", ["baresip", "-f", folder, "-v", "-s"])
        self.process.wait_output("ctrl_tcp: TCP socket listening")
        self.events, self.answers = [], []
        self.socket = socket.create_connection(("127.0.0.1", self.control), 10)
        self.socket.settimeout(None)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        """Netstrings from the control port, in a thread of their own, until it closes."""
        buffer = b""
        while True:
            try:
                data = self.socket.recv(65536)
            except OSError:
                return
            if not data:
                return
            buffer += data
            while m := re.match(rb"(\d+):", buffer):
                size = int(m.group(1))
                if len(buffer) < m.end() + size + 1:
                    break
                item = json.loads(buffer[m.end() : m.end() + size])
                buffer = buffer[m.end() + size + 1 :]
                (self.events if item.get("event") else self.answers).append(item)

    def command(self, name, params=""):
        count = len(self.answers)
        text = json.dumps({"command": name, "params": params, "token": "t"}).encode()
        self.socket.sendall(b"%d:%s," % (len(text), text))
        net.until(lambda: len(self.answers) > count, f"baresip answers {name}")
        return self.answers[count].get("data", "")

    def count(self, kind):
        return sum(e.get("type") == kind for e in self.events)

    def wait(self, kind, count=1, timeout=15):
        """Wait for the count-th event of a kind, such as CALL_ESTABLISHED."""
        net.until(
            lambda: self.count(kind) >= count, f"baresip {self.user}: {kind} {count}", timeout
        )
        return [e for e in self.events if e.get("type") == kind][count - 1]

    def wait_registered(self, count=1, timeout=15):
        """Wait for the count-th 200 to a REGISTER; from the log, as the first one may come before
        the control connection stands."""
        self.process.wait_output(rf"^{self.user}@sip.test: .* 200 OK .*\[\d+ binding", timeout, count)

    FLOWING = r"audio=[1-9]\d*/[1-9]\d* "

    def flowing(self):
        """How often the status line has said that sound goes both ways: audio=RECEIVED/SENT."""
        return len(self.process.matches(self.FLOWING))

    def rtp_flows(self, before=0):
        """Wait until it has said so some times more than `before`, a flowing() before the call."""
        self.process.wait_output(self.FLOWING, count=before + 10)

    def packets(self, count=1):
        """(sent, received) RTP packets of the count-th call, once it is over."""
        lines = self.process.wait_output(r"^packets: +(\d+) +(\d+)", count=count)
        return tuple(map(int, lines[count - 1]))

    def quit(self):
        """Leave politely: unregisters."""
        self.process.signal(signal.SIGTERM)
        self.process.wait(15)

    def stop(self):
        self.socket.close()
        self.process.stop()
