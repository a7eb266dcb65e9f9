"""Headless Chromium with JsSIP pages; web/driver.mjs does what is asked of it. Chromium trusts the
test CA and nothing else of ours: the edge's certificate is verified for real."""

import json
import os
import pathlib
import subprocess
import time

from . import net
from .process import Process

WEB = pathlib.Path(__file__).parent.parent / "web"
BUILT = pathlib.Path(os.environ.get("SIPWARD_E2E_WEB", "build/e2e-web")).resolve()


class Browser:
    def __init__(self, lab, ca_file=None):
        home = lab.folder("chromium-home")
        trust(home, ca_file or lab.ca.file)
        self.process = Process(
            lab,
            "chromium",
            ["node", WEB / "driver.mjs", BUILT, "/usr/bin/chromium"],
            env={"HOME": str(home), "XDG_CONFIG_HOME": str(home), "TMPDIR": str(net.scratch)},
            stdin=True,
        )
        self.ids = 0
        self.answers, self.read_to = {}, 0
        net.until(lambda: self.answer(0), "chromium starts", 60, 0.05)

    def answer(self, number):
        """The answer to a command, read from the driver's output; None: not there yet."""
        with open(self.process.log, "rb") as f:
            f.seek(self.read_to)
            new = f.read()
        whole = new[: new.rfind(b"\n") + 1]
        self.read_to += len(whole)
        for line in whole.split(b"\n"):
            if line.startswith(b"@"):
                item = json.loads(line[1:])
                self.answers[item["id"]] = item
        if number not in self.answers and self.process.child.poll() is not None:
            raise AssertionError("chromium's driver ended")
        return self.answers.get(number)

    def do(self, page, call, *args, timeout=30):
        self.ids += 1
        number = self.ids
        self.process.write(
            json.dumps({"id": number, "page": page, "call": call, "args": args})
        )
        item = net.until(lambda: self.answer(number), f"{page} does {call}", timeout)
        assert "error" not in item, f"{page}, {call}: {item['error']}"
        return item["value"]

    def phone(self, edge, user, password=None, register=True, url=None, domain="sip.test"):
        phone = Phone(self, user)
        if register:
            options = {
                "user": user,
                "password": password or f"pw-{user}",
                "url": url or edge.wss_url,
                "domain": domain,
            }
            phone.outcome = self.do(phone.page, "start", options)
        return phone

    def stop(self):
        self.process.stop()


class Phone:
    """A page of its own with a JsSIP user agent."""

    def __init__(self, browser, user):
        self.browser, self.user = browser, user
        self.page = f"{user}-{browser.ids}"
        self.failures = 0  # that a test waited for
        browser.do(self.page, "open")

    def __getattr__(self, name):  # call, answer, reject, hangup, hold, stats, stop
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *args: self.browser.do(self.page, name, *args)

    def seen(self, name):
        return [e for e in self.browser.do(self.page, "events") if e["name"] == name]

    def wait(self, name, count=1, timeout=20):
        """Wait for the count-th event of a name: session, progress, confirmed, ended, failed."""

        def come():
            events = self.browser.do(self.page, "events")
            found = [e for e in events if e["name"] == name]
            if len(found) >= count:
                if name == "failed":
                    self.failures = max(self.failures, count)
                return found[count - 1]
            failed = sum(e["name"] == "failed" and e["originator"] != "local" for e in events)
            assert name == "failed" or failed <= self.failures, (
                f"{self.user} waits for {name}: {events}"
            )
            return None

        return net.until(come, f"{self.user}: {name} {count}", timeout, 0.05)

    def wait_media(self, packets=50, timeout=20):
        """Wait for ICE and DTLS-SRTP to connect and for packets and sound to come. The stats."""
        last = {}
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            last = self.stats()
            if (
                last.get("received", 0) >= packets
                and last.get("sent", 0) >= packets
                and last.get("energy", 0) > 0
            ):
                assert last["ice"] in ("connected", "completed"), last
                assert last["dtls"] == "connected" and last["cipher"], last
                return last
            time.sleep(0.1)
        raise AssertionError(f"{self.user}: no media: {last}")

    def close(self):
        """Unregister, then close the page."""
        self.stop()
        self.browser.do(self.page, "close")


def trust(home, ca_file):
    """An NSS database in HOME, with the CA in it, is what Chromium asks."""
    database = f"sql:{home}/.pki/nssdb"
    (home / ".pki/nssdb").mkdir(parents=True)
    for words in (["-N", "--empty-password"], ["-A", "-t", "C,,", "-n", "test-ca", "-i", ca_file]):
        subprocess.run(["certutil", "-d", database, *map(str, words)], check=True)
