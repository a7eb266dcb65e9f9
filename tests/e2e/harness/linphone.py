"""linphonec, a softphone that verifies certificates, over TLS; driven by its standard input."""

import os

from . import media, net
from .process import Process

CONFIG = """[sip]
auto_net_state_mon=0
root_ca={ca}
verify_server_certs=1
verify_server_cn=1
sip_port=-1
sip_tcp_port=-1
sip_tls_port=-1
guess_hostname=1
contact="{user}" <sip:{user}@sip.test>
default_proxy=0
register_only_when_network_is_up=0
media_encryption=none
[net]
mtu=1300
stun_server=
firewall_policy=0
download_bw=0
[auth_info_0]
username={user}
userid={user}
passwd={password}
realm=sip.test
domain=sip.test
[proxy_0]
reg_proxy=<sip:{host}:{port};transport=tls>
reg_route=<sip:{host}:{port};transport=tls>
reg_identity=sip:{user}@sip.test
reg_expires=120
reg_sendregister=1
publish=0
[rtp]
audio_rtp_port={rtp}
[sound]
playback_dev_id=
ringer_dev_id=
capture_dev_id=
remote_ring=
[video]
automatically_initiate=0
automatically_accept=0
enabled=0
[misc]
uuid={uuid}
[app]
auto_answer=0
"""


class Linphone:
    def __init__(self, lab, port, user, ca_file, host="localhost", password=None, answer=False):
        self.user = user
        folder = lab.folder(f"linphone-{user}-conf")
        (folder / ".local/share/linphone").mkdir(parents=True)  # without it: nothing works
        config = folder / "linphonerc"
        config.write_text(
            CONFIG.format(
                ca=ca_file,
                user=user,
                password=password or f"pw-{user}",
                host=host,
                port=port,
                rtp=net.free_ports(2),
                uuid=f"00000000-0000-4000-8000-{os.urandom(6).hex()}",
            )
        )
        self.detail = folder / "detail.log"
        self.process = Process(
            lab,
            f"linphone-{user}",
            ["linphonec", *(["-a"] if answer else []), "-c", config, "-l", self.detail, "-d", "5"],
            env={"HOME": str(folder)},
            stdin=True,
        )
        self.process.more_logs.append(self.detail)
        self.say("soundcard use files")
        self.say(f"play {media.tone(folder / 'tone.wav')}")

    def say(self, line):
        self.process.write(line)

    def wait(self, pattern, timeout=20, count=1):
        return self.process.wait_output(pattern, timeout, count, log=self.detail)

    def wait_registered(self):
        self.wait(r"to \[LinphoneRegistrationOk\]")

    def quit(self):
        """Leave politely: unregisters. The program of Debian 13 then hangs, with nothing left to do."""
        self.say("quit")
        self.wait(r"stack \[\w+\] destroyed")
