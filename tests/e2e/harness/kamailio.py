"""A Kamailio registrar and proxy as the backend: digest, Path, strict about what it is sent.
The password of a user NAME is pw-NAME."""

import re
import subprocess

from . import net
from .process import Process

CONFIG = """#!KAMAILIO
debug=2
log_stderror=yes
children=2
disable_tcp={disable_tcp}
auto_aliases=no
{listen}
alias="sip.test"
loadmodule "kex.so"
loadmodule "corex.so"
loadmodule "tm.so"
loadmodule "tmx.so"
loadmodule "sl.so"
loadmodule "rr.so"
loadmodule "pv.so"
loadmodule "maxfwd.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "textops.so"
loadmodule "siputils.so"
loadmodule "xlog.so"
loadmodule "sanity.so"
loadmodule "ctl.so"
loadmodule "auth.so"
modparam("ctl", "binrpc", "tcp:127.0.0.1:{control}")
modparam("usrloc", "db_mode", 0)
modparam("registrar", "use_path", {path})
modparam("registrar", "path_mode", 1)
modparam("registrar", "path_use_received", 0)
modparam("registrar", "method_filtering", 1)
modparam("registrar", "min_expires", 5)
modparam("registrar", "max_expires", 3600)
modparam("registrar", "gruu_enabled", 1)
modparam("auth", "nonce_expire", 300)
modparam("rr", "enable_full_lr", 1)
request_route {{
    if (!mf_process_maxfwd_header("10")) {{ sl_send_reply("483", "Too Many Hops"); exit; }}
    # 17895: every check there is
    if (!sanity_check("17895", "7")) {{ xlog("L_ERR", "SANITY failed: $rm from $si:$sp\\n$mb\\n"); exit; }}
    if (is_method("CANCEL")) {{ if (t_check_trans()) t_relay(); exit; }}
    if (has_totag()) {{
        if (loose_route()) {{ t_relay(); exit; }}
        if (is_method("ACK")) {{ if (t_check_trans()) t_relay(); exit; }}
        sl_send_reply("404", "Not here"); exit;
    }}
    t_check_trans();
    if (is_method("OPTIONS") && (uri==myself || $rU==$null)) {{ sl_send_reply("200", "OK"); exit; }}
    if (is_method("REGISTER")) {{
        if (!pv_www_authenticate("sip.test", "pw-$fU", "0")) {{ www_challenge("sip.test", "1"); exit; }}
        if ($au != $tU) {{ sl_send_reply("403", "Forbidden"); exit; }}
        if (!save("location")) sl_reply_error();
        exit;
    }}
    if (is_method("INVITE|MESSAGE|SUBSCRIBE") && $fd == "sip.test") {{
        if (!pv_proxy_authenticate("sip.test", "pw-$fU", "0")) {{ proxy_challenge("sip.test", "1"); exit; }}
        consume_credentials();
    }}
    if (is_method("INVITE|SUBSCRIBE")) record_route();
    if (!lookup("location")) {{ sl_send_reply("404", "Not Found"); exit; }}
    t_relay();
}}
"""


class Kamailio:
    def __init__(self, lab, path, transports=("udp",)):
        """`path`: keep Path (RFC 3327), as a registrar does that was told to; else ignore it."""
        self.port, self.control = net.free_port(), net.free_port()
        self.host = f"127.0.0.1:{self.port}"
        folder = lab.folder("kamailio-conf")
        (folder / "kamailio.cfg").write_text(
            CONFIG.format(
                control=self.control,
                path=int(path),
                disable_tcp="no" if "tcp" in transports else "yes",
                listen="\n".join(f"listen={t}:{self.host}" for t in transports),
            )
        )
        self.process = Process(
            lab,
            "kamailio",
            ["kamailio", "-f", folder / "kamailio.cfg", "-P", folder / "pid", "-Y", folder]
            + ["-m", "64", "-M", "8", "-DD", "-E"],
        )
        net.until(self.ready, "kamailio answers", 20)

    def ready(self):
        assert self.process.child.poll() is None, self.process.output()
        bound = net.bound(self.port) or net.bound(self.port, "tcp")
        return bound and self.command("core.uptime") is not None

    def command(self, *words):
        done = subprocess.run(
            ["kamcmd", "-s", f"tcp:127.0.0.1:{self.control}", *words],
            capture_output=True, text=True, timeout=10, check=False,
        )
        return done.stdout if done.returncode == 0 else None

    def bindings(self, user):
        """[(Contact URI, Path or ''), ...] of a user."""
        text = self.command("ul.dump") or ""
        aors = re.split(r"^\s*AoR: ", text, flags=re.M)[1:]
        return [
            (address, re.sub(r"^\[not set\]$", "", path))
            for aor in aors
            if aor.split()[0] == user
            for address, path in re.findall(
                r"Address: (\S+).*?Path: (\S.*?)$", aor, re.M | re.S
            )
        ]

    def check(self):
        """It found nothing to complain of in what it was sent."""
        complaints = self.process.matches(r".*(?:SANITY failed|bad (?:message|uri)|parse error).*")
        assert not complaints, complaints
