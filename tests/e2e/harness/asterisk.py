"""Asterisk, from the root folder that tests/e2e/asterisk-root makes, as the PBX behind the edge:
chan_pjsip over UDP, or TCP, with its defaults, so no Path. The password of a user NAME is pw-NAME."""

import os
import pathlib
import re
import subprocess

from . import net
from .process import Process

ROOT = pathlib.Path(os.environ.get("SIPWARD_E2E_ASTERISK", "build/asterisk-root")).resolve()

FILES = {
    "asterisk.conf": """[directories]
astetcdir => /mnt
astdbdir => /mnt
astkeydir => /mnt
astrundir => /mnt
astspooldir => /mnt/spool
astlogdir => /mnt
astdatadir => /usr/share/asterisk
[options]
documentation_language = en_US
""",
    "modules.conf": """[modules]
autoload=yes
noload=chan_iax2.so
noload=pbx_dundi.so
noload=res_snmp.so
noload=cdr_radius.so
noload=cel_radius.so
""",
    "logger.conf": "[general]\n[logfiles]\nconsole => notice,warning,error,verbose(3)\n",
    "rtp.conf": "[general]\nrtpstart={rtp}\nrtpend={rtp_last}\n",
    "extensions.conf": """[default]
exten => echo,1,Answer()
same => n,Echo()
exten => _[a-z].,1,Dial(PJSIP/${EXTEN},20)
same => n,Verbose(1,DIALSTATUS ${DIALSTATUS} HANGUPCAUSE ${HANGUPCAUSE})
same => n,Hangup()
exten => _all-.,1,Dial(${PJSIP_DIAL_CONTACTS(${EXTEN:4})},20)
same => n,Verbose(1,DIALSTATUS ${DIALSTATUS} HANGUPCAUSE ${HANGUPCAUSE})
same => n,Hangup()
""",
}
TRANSPORT = """[{kind}]
type=transport
protocol={kind}
bind=127.0.0.1:{port}
"""
ENDPOINT = """[{user}]
type=endpoint
context=default
disallow=all
allow=ulaw,opus
aors={user}
auth={user}
{more}
[{user}]
type=aor
max_contacts=5
qualify_frequency={qualify}
{aor}
[{user}]
type=auth
auth_type=userpass
username={user}
password=pw-{user}
"""


def why_absent():
    """Why Asterisk can't run here, or None."""
    if not (ROOT / ".made-by-asterisk-root").exists():
        log = ROOT.with_suffix(".log")
        end = log.read_text(errors="replace")[-2000:] if log.exists() else "never tried"
        return f"no Asterisk in {ROOT}: run tests/run, or tests/e2e/asterisk-root: {end}"
    if not net.isolated:
        return "Asterisk runs in a root folder of its own, which needs a mount namespace"
    return None


class Asterisk:
    def __init__(self, lab, browsers=(), phones=(), qualify=0, options="", aor="", aors={},
                 transports=("udp",)):
        """More lines of pjsip.conf: `options` for every endpoint, `aor` for every AOR, `aors` for that
        of a user."""
        net.second_interface()  # else it has no ICE candidate
        self.port = net.free_port()
        self.host = f"127.0.0.1:{self.port}"
        rtp = net.free_ports(40)
        folder = lab.folder("asterisk-conf")
        (folder / "spool").mkdir()
        for name, text in FILES.items():
            text = text.replace("{rtp}", str(rtp)).replace("{rtp_last}", str(rtp + 39))
            (folder / name).write_text(text)
        users = [(u, "webrtc=yes\n" + options) for u in browsers] + [(u, options) for u in phones]
        (folder / "pjsip.conf").write_text(
            "".join(TRANSPORT.format(kind=k, port=self.port) for k in transports)
            + "".join(
                ENDPOINT.format(user=u, more=m, qualify=qualify, aor=aor + aors.get(u, ""))
                for u, m in users
            )
        )
        for source, target in ((folder, "mnt"), ("/dev", "dev"), ("/proc", "proc")):
            net.mount(source, ROOT / target, flags=net.MS_BIND | net.MS_REC)
            lab.cleanups.append(lambda target=target: net.unmount(ROOT / target))
        self.process = Process(
            lab,
            "asterisk",
            ["chroot", ROOT, "asterisk", "-f", "-n", "-C", "/mnt/asterisk.conf"]
            + ["-U", "root", "-G", "root", "-vvv"],
        )
        net.until(self.ready, "asterisk is up", 60, 0.2)

    def ready(self):
        assert self.process.child.poll() is None, self.process.output()
        bound = net.bound(self.port) or net.bound(self.port, "tcp")
        return bound and "fully booted" in self.command("core waitfullybooted")

    def command(self, words):
        done = subprocess.run(
            ["chroot", ROOT, "asterisk", "-C", "/mnt/asterisk.conf", "-rx", words],
            capture_output=True, text=True, timeout=20, check=False,
        )
        return done.stdout

    def contacts(self):
        """Its table of contacts: AOR, URI, and whether qualify reaches them."""
        return self.command("pjsip show contacts")

    def dialled(self):
        """What came of the last Dial(): DIALSTATUS, HANGUPCAUSE."""
        return re.findall(r"DIALSTATUS (\w*) HANGUPCAUSE (\d*)", self.process.output())[-1:]

    def stop(self):
        self.process.stop()
