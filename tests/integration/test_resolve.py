"""Names of backends by RFC 3263, against real name servers and one that misbehaves.

resolve_cli follows names and prints what they come to, each time that it changes."""

import os
import pathlib
import re
import select
import subprocess
import sys
import tempfile
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "e2e"))

from harness import net  # noqa: E402

scratch = tempfile.TemporaryDirectory(prefix="sipward-resolve-")
net.isolate(pathlib.Path(scratch.name))

from harness.name_server import NXDOMAIN, REFUSED, SERVFAIL, Dnsmasq, Faulty  # noqa: E402

CLI = os.environ["RESOLVE_CLI"]
ONE, TWO = "127.0.1.1", "127.0.1.2"  # name servers
WAIT_S = 20
TTL_MIN_MS, GONE_KEEP_MS, TIMEOUT_MS = 300, 2000, 400  # a TTL of 0 is TTL_MIN_MS then

if not net.isolated:
    reason = "needs a network namespace of its own, and mounts"
    if os.environ.get("CI"):
        pytest.exit(reason, 1)
    pytest.skip(reason, allow_module_level=True)


def resolv_conf(*lines):
    net.write("/etc/resolv.conf", "".join(line + "\n" for line in lines))


def hosts(*lines):
    net.write("/etc/hosts", "".join(line + "\n" for line in ("127.0.0.1 localhost", *lines)))


class Resolver:
    """resolve_cli with some targets."""

    def __init__(self, folder, targets, ttl_min_ms, gone_keep_ms, fail_at=0):
        self.log = folder / f"resolve{fail_at or ''}.log"
        self.process = subprocess.Popen(
            [CLI, str(ttl_min_ms), str(gone_keep_ms), str(TIMEOUT_MS), *targets],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log.open("wb"),
            env={**os.environ, "RESOLVE_FAIL": str(fail_at)},
        )
        self.unread = b""
        self.told = {target: [] for target in targets}  # every result of a name, in order
        self.ended = False

    def line(self, deadline):
        while b"\n" not in self.unread:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self.process.stdout], [], [], left)[0]:
                raise AssertionError(f"nothing more is said; {self.told}\n{self.log.read_text()}")
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, f"it has ended; {self.log.read_text()}"
            self.unread += more
        line, self.unread = self.unread.split(b"\n", 1)
        return line.decode()

    def read(self, deadline):
        """One line. What is no result of a name is returned."""
        target, _, text = (line := self.line(deadline)).partition(" ")
        if target not in self.told:
            return line
        # "udp 10.0.0.1:5060 [priority 0 weight 10] pbx.test": the name is told apart below
        self.told[target].append(text.split("; ") if text else [])
        return None

    def until(self, target, *addresses):
        """Wait until a name comes to this: "udp 10.0.0.1:5060 pbx.test"."""
        deadline = time.monotonic() + WAIT_S
        while not self.told[target] or self.told[target][-1] != list(addresses):
            self.read(deadline)

    def first(self, target):
        """The first result of a name."""
        deadline = time.monotonic() + WAIT_S
        while not self.told[target]:
            self.read(deadline)
        return self.told[target][0]

    def say(self, text):
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()
        deadline = time.monotonic() + WAIT_S
        while (line := self.read(deadline)) is None:
            pass
        return line

    def good_ms(self, number):
        return int(self.say(f"good {number}").split()[1])

    def all(self, target):
        """Every result of a name so far."""
        self.say("good 0")
        return self.told[target]

    def logged(self, pattern):
        return len(re.findall(pattern, self.log.read_text(), re.M))

    def end(self):
        """All questions are cancelled, all is given back, and no sanitizer has anything to say."""
        if self.ended:
            return
        self.ended = True
        self.process.stdin.close()
        deadline = time.monotonic() + WAIT_S
        while (line := self.read(deadline)) is None:
            pass
        code = self.process.wait(WAIT_S)
        log = self.log.read_text()
        assert (line, code) == ("end loop=0 descriptors=0", 0), log
        assert "Sanitizer" not in log and "runtime error" not in log, log


@pytest.fixture
def lab(tmp_path):
    class Lab:
        ends = []

        def follow(self, *targets, ttl_min_ms=TTL_MIN_MS, gone_keep_ms=GONE_KEEP_MS, fail_at=0):
            resolver = Resolver(tmp_path, targets, ttl_min_ms, gone_keep_ms, fail_at)
            self.ends.append(resolver.end)
            return resolver

        def faulty(self, zone=(), address=ONE, ttl=0):
            server = Faulty(address, zone, ttl)
            self.ends.insert(0, server.stop)
            return server

        def dnsmasq(self, *lines, ttl=1):
            server = Dnsmasq(ONE, tmp_path)
            self.ends.insert(0, server.stop)
            server.start(*lines, ttl=ttl)
            net.until(server.ready, "dnsmasq answers")
            return server

    lab = Lab()
    Lab.ends = []
    resolv_conf(f"nameserver {ONE}")
    hosts()
    yield lab
    for end in reversed(lab.ends):
        end()


def restart(server, *lines):
    server.stop()
    server.start(*lines)
    net.until(server.ready, "dnsmasq answers")


# ---- what a name comes to ----


def test_an_address_is_itself(lab):  # B1
    r = lab.follow("192.0.2.1", "192.0.2.1,5070,tcp", "2001:db8::1,5062")
    assert r.first("192.0.2.1") == ["udp 192.0.2.1:5060 192.0.2.1"]
    assert r.first("192.0.2.1,5070,tcp") == ["tcp 192.0.2.1:5070 192.0.2.1"]
    assert r.first("2001:db8::1,5062") == ["udp [2001:db8::1]:5062 2001:db8::1"]
    assert r.good_ms(0) == -1


def test_a_name_with_a_port_has_addresses_alone(lab):  # B1
    lab.dnsmasq(
        "host-record=four.test,10.0.0.1",
        "host-record=six.test,fd00::1",
        "host-record=both.test,10.0.0.2,fd00::2",
        "srv-host=_sip._udp.both.test,four.test,5070",
    )
    r = lab.follow("four.test,5061", "six.test,5062,tcp", "both.test,5063")
    assert r.first("four.test,5061") == ["udp 10.0.0.1:5061 four.test"]
    assert r.first("six.test,5062,tcp") == ["tcp [fd00::1]:5062 six.test"]
    both = ["udp 10.0.0.2:5063 both.test", "udp [fd00::2]:5063 both.test"]
    assert r.first("both.test,5063") == both


def test_without_srv_records_the_port_is_5060(lab):  # B1
    lab.dnsmasq("host-record=plain.test,10.0.0.1")
    r = lab.follow("plain.test", "plain.test,0,tcp")
    assert r.first("plain.test") == ["udp 10.0.0.1:5060 plain.test"]
    assert r.first("plain.test,0,tcp") == ["tcp 10.0.0.1:5060 plain.test"]


ZONE = (
    "host-record=a.test,10.0.0.1",
    "host-record=b.test,10.0.0.2,fd00::2",
    "host-record=c.test,10.0.0.3",
    "srv-host=_sip._udp.sip.test,c.test,5073,20,5",
    "srv-host=_sip._udp.sip.test,a.test,5071,10,1",
    "srv-host=_sip._udp.sip.test,b.test,5072,10,60",
    "srv-host=_sip._tcp.sip.test,c.test,5074,7,0",
)
UDP = [
    "udp 10.0.0.2:5072 priority 0 weight 60 b.test",
    "udp [fd00::2]:5072 priority 0 weight 60 b.test",
    "udp 10.0.0.1:5071 priority 0 weight 1 a.test",
    "udp 10.0.0.3:5073 priority 1 weight 5 c.test",
]


def test_srv_records_give_order_weight_and_port(lab):  # B1
    lab.dnsmasq(*ZONE)
    r = lab.follow("sip.test,0,udp", "sip.test,0,tcp", "sip.test")
    assert r.first("sip.test,0,udp") == UDP
    assert r.first("sip.test,0,tcp") == ["tcp 10.0.0.3:5074 c.test"]
    assert r.first("sip.test") == [*UDP, "tcp 10.0.0.3:5074 priority 2 weight 0 c.test"]


def test_naptr_records_choose_the_transport(lab):  # B1
    lab.dnsmasq(
        *ZONE,
        "naptr-record=sip.test,30,1,s,SIPS+D2T,,_sips._tcp.sip.test",
        "naptr-record=sip.test,20,1,s,SIP+D2U,,_sip._udp.other.test",
        "naptr-record=sip.test,20,0,S,sip+d2t,,_sip._tcp.sip.test",
        "naptr-record=sip.test,10,0,u,E2U+sip,!^.*$!sip:x@y!",
        "srv-host=_sip._udp.other.test,a.test,5081,10,1",
    )
    r = lab.follow("sip.test", "sip.test,0,udp")
    assert r.first("sip.test") == [
        "tcp 10.0.0.3:5074 c.test",
        "udp 10.0.0.1:5081 priority 1 weight 1 a.test",
    ]
    assert r.first("sip.test,0,udp") == UDP  # RFC 3263 4.1: a transport that is given is the one


def test_naptr_records_of_no_use_count_as_none(lab):  # B1
    lab.dnsmasq(*ZONE, "naptr-record=sip.test,30,1,s,SIPS+D2T,,_sips._tcp.sip.test")
    r = lab.follow("sip.test")
    assert r.first("sip.test") == [*UDP, "tcp 10.0.0.3:5074 priority 2 weight 0 c.test"]


def test_a_service_that_is_not_there_is_not_looked_for_elsewhere(lab):  # B1 refused
    lab.faulty(
        {
            "_sip._udp.sip.test SRV": ["0 0 0 ."],
            "_sip._tcp.sip.test SRV": ["0 0 5060 a.test"],
            "sip.test A": ["10.0.0.9"],
            "a.test A": ["10.0.0.1"],
        }
    )
    r = lab.follow("sip.test,0,udp", "sip.test")
    assert r.first("sip.test,0,udp") == []
    assert r.first("sip.test") == ["tcp 10.0.0.1:5060 priority 1 weight 0 a.test"]


def test_aliases_are_followed(lab):  # B1
    lab.dnsmasq(
        "host-record=real.test,10.0.0.1", "cname=alias.test,other.test", "cname=other.test,real.test"
    )
    r = lab.follow("alias.test,5060")
    assert r.first("alias.test,5060") == ["udp 10.0.0.1:5060 alias.test"]


def test_a_large_answer_comes_by_tcp(lab):  # B1
    long = "a-host-with-a-rather-long-name-in-a-rather-deep-domain"
    lab.dnsmasq(
        *(f"host-record={long}-{i}.test,10.0.1.{i}" for i in range(12)),
        *(f"srv-host=_sip._udp.sip.test,{long}-{i}.test,5060,{i},0" for i in range(12)),
    )
    r = lab.follow("sip.test,0,udp")
    assert [line.split()[1] for line in r.first("sip.test,0,udp")] == [
        f"10.0.1.{i}:5060" for i in range(12)
    ]


def test_the_hosts_file_goes_first(lab):  # B1
    hosts("10.0.0.7 pbx", "fd00::7 pbx", "10.0.0.8 pbx.test")
    server = lab.faulty({"pbx.test A": ["10.0.0.1"], "_sip._udp.pbx.test SRV": ["0 0 5070 pbx.test"]})
    r = lab.follow("pbx", "pbx.test", "localhost,5070")
    assert r.first("pbx") == ["udp 10.0.0.7:5060 pbx", "udp [fd00::7]:5060 pbx"]
    assert r.first("pbx.test") == ["udp 10.0.0.8:5060 pbx.test"]
    assert r.first("localhost,5070")[0] == "udp 127.0.0.1:5070 localhost"  # c-ares may add ::1
    assert server.queries == []


def test_a_name_without_dots_is_asked_for_as_it_is(lab):  # B1: Docker's name server
    failing = {f"{name} {kind}": SERVFAIL for name, kind in (
        ("pbx", "NAPTR"), ("_sip._udp.pbx", "SRV"), ("_sip._tcp.pbx", "SRV"))}
    lab.faulty({"pbx A": ["172.18.0.2"], **failing})
    resolv_conf(f"nameserver {ONE}", "options ndots:0")
    r = lab.follow("pbx", "pbx,5070")
    assert r.first("pbx,5070") == ["udp 172.18.0.2:5070 pbx"]
    assert r.first("pbx") == ["udp 172.18.0.2:5060 pbx"]


def test_search_domains_apply(lab):  # B1
    server = lab.faulty(
        {
            "pbx.two.test A": ["10.0.0.2"],
            "_sip._udp.pbx.two.test SRV": ["1 0 5071 host"],
            "host A": ["10.0.0.3"],
            "host.one.test A": ["10.0.0.9"],
        }
    )
    resolv_conf(f"nameserver {ONE}", "search one.test two.test")
    r = lab.follow("pbx,5060", "pbx,0,udp")
    assert r.first("pbx,5060") == ["udp 10.0.0.2:5060 pbx.two.test"]
    r.until("pbx,0,udp", "udp 10.0.0.3:5071 host")  # absolute: no search
    assert server.asked("host.one.test A") == 0
    # A failure is not taken for the answer to the name as it is.
    server.set({"pbx.two.test A": SERVFAIL})
    net.until(lambda: r.logged("look-ups of a backend's name fail name=pbx asked=\"A pbx.two"), "fails")
    net.until(lambda: server.asked("pbx.two.test A") > 5, "asked for longer than gone names are kept")
    assert r.all("pbx,5060") == [["udp 10.0.0.2:5060 pbx.two.test"]]


def test_as_many_names_as_a_configuration_can_have(lab):  # B1
    lab.faulty({f"n{i}.test A": [f"10.0.0.{i}"] for i in range(32)})
    targets = [f"n{i}.test" for i in range(32)]
    r = lab.follow(*targets)
    for i, target in enumerate(targets):
        assert r.first(target) == [f"udp 10.0.0.{i}:5060 {target}"]


# ---- and again ----


def test_new_records_are_seen_when_the_old_have_expired(lab):  # B1
    server = lab.dnsmasq("host-record=pbx.test,10.0.0.1,1", "host-record=other.test,10.0.0.5,1")
    r = lab.follow("pbx.test,5060", "other.test,5060")
    r.until("pbx.test,5060", "udp 10.0.0.1:5060 pbx.test")
    restart(server, "host-record=pbx.test,10.0.0.2,fd00::2,1", "host-record=other.test,10.0.0.5,1")
    r.until("pbx.test,5060", "udp 10.0.0.2:5060 pbx.test", "udp [fd00::2]:5060 pbx.test")
    restart(server, "host-record=pbx.test,fd00::2,1", "host-record=other.test,10.0.0.5,1")
    r.until("pbx.test,5060", "udp [fd00::2]:5060 pbx.test")
    told = r.told["pbx.test,5060"]  # A and AAAA are two questions: each may be a change of its own
    assert all(before != after for before, after in zip(told, told[1:]))
    assert len(r.all("other.test,5060")) == 1
    assert r.logged("backend's addresses name=pbx.test") == len(told)
    assert r.logged('removed="udp 10.0.0.2:5060" reason="A pbx.test"') == 1


def test_a_ttl_is_honoured_and_refreshed_ahead(lab):  # B1
    server = lab.faulty({"pbx.test A": ["10.0.0.1"]}, ttl=4)
    r = lab.follow("pbx.test,5060")
    assert r.first("pbx.test,5060") == ["udp 10.0.0.1:5060 pbx.test"]
    assert 0 < r.good_ms(0) <= 4000
    net.until(lambda: server.asked("pbx.test A") == 2, "asked again")
    first, second = (when for when, question, _ in server.queries if question == "pbx.test A")
    assert 3 <= second - first < 4


def test_srv_weights_that_change_are_told(lab):  # B1
    server = lab.faulty({"_sip._udp.s.test SRV": ["1 10 5060 a.test"], "a.test A": ["10.0.0.1"]})
    r = lab.follow("s.test,0,udp")
    r.until("s.test,0,udp", "udp 10.0.0.1:5060 priority 0 weight 10 a.test")
    server.set({"_sip._udp.s.test SRV": ["1 20 5060 a.test"]})
    r.until("s.test,0,udp", "udp 10.0.0.1:5060 priority 0 weight 20 a.test")
    assert r.logged('reason="SRV _sip._udp.s.test"') == 1


def test_another_order_is_no_change(lab):  # B1 refused
    server = lab.faulty({"pbx.test A": ["10.0.0.1", "10.0.0.2", "10.0.0.3"]})
    r = lab.follow("pbx.test,5060")
    three = [f"udp 10.0.0.{i}:5060 pbx.test" for i in (1, 2, 3)]
    assert r.first("pbx.test,5060") == three
    for turn in (["10.0.0.2", "10.0.0.3", "10.0.0.1"], ["10.0.0.3", "10.0.0.1", "10.0.0.2"]):
        server.set({"pbx.test A": turn})
        seen = server.asked("pbx.test A")
        net.until(lambda: server.asked("pbx.test A") > seen + 1, "asked again")
    server.set({"pbx.test A": ["10.0.0.4"]})
    r.until("pbx.test,5060", "udp 10.0.0.4:5060 pbx.test")
    assert len(r.all("pbx.test,5060")) == 2


def test_what_was_known_is_kept_while_no_server_answers(lab):  # B1
    server = lab.dnsmasq(*ZONE)
    r = lab.follow("sip.test")
    known = [*UDP, "tcp 10.0.0.3:5074 priority 2 weight 0 c.test"]
    r.until("sip.test", *known)
    server.stop()
    net.until(lambda: r.logged("look-ups of a backend's name fail"), "said that it fails")
    # ... and with a server that does not answer at all, for longer than gone names are kept
    silent = Faulty(ONE, other=None)
    net.until(lambda: silent.asked("_sip._udp.sip.test SRV") > 2, "asked in vain", timeout=20)
    silent.stop()
    server.start(*ZONE)
    net.until(lambda: r.logged("look-ups of a backend's name work again"), "works", timeout=40)
    assert r.all("sip.test") == [known]
    assert r.logged("look-ups of a backend's name fail") == 1
    assert r.logged("look-ups of a backend's name work again") == 1
    assert r.logged("backend's addresses") == 1


@pytest.mark.parametrize("fault", [SERVFAIL, REFUSED, b"", b"\x81\x80\0\1\xff\xff\0\0\0\0\x3f", None])
def test_a_failure_takes_nothing_away(lab, fault):  # B1
    server = lab.faulty({"pbx.test A": ["10.0.0.1"], "pbx.test AAAA": ["fd00::1"]})
    r = lab.follow("pbx.test,5060", gone_keep_ms=1)
    known = ["udp 10.0.0.1:5060 pbx.test", "udp [fd00::1]:5060 pbx.test"]
    r.until("pbx.test,5060", *known)
    server.set({"pbx.test A": fault})
    net.until(lambda: r.logged("name fail name=pbx.test asked=\"A pbx.test\""), "said that it fails")
    assert r.good_ms(0) < 1000  # and soon below 0
    net.until(lambda: r.good_ms(0) < 0, "not good any more")
    server.set({"pbx.test A": ["10.0.0.1"]})
    net.until(lambda: r.logged("work again"), "works", timeout=20)
    assert r.all("pbx.test,5060") == [known]


def test_a_name_that_is_gone_is_kept_for_a_bounded_time(lab):  # B1
    server = lab.faulty({"pbx.test A": ["10.0.0.1"]})
    r = lab.follow("pbx.test,5060")
    r.until("pbx.test,5060", "udp 10.0.0.1:5060 pbx.test")
    server.set({"pbx.test A": NXDOMAIN, "pbx.test AAAA": NXDOMAIN})
    net.until(lambda: r.logged("the DNS has no address for a backend's name"), "said")
    start = time.monotonic()
    assert len(r.all("pbx.test,5060")) == 1
    r.until("pbx.test,5060")
    assert time.monotonic() - start > GONE_KEEP_MS / 1000 - 0.5
    server.set({"pbx.test A": ["10.0.0.2"]})
    r.until("pbx.test,5060", "udp 10.0.0.2:5060 pbx.test")
    assert r.logged("the DNS has no address") == 1
    assert r.logged('removed="udp 10.0.0.1:5060" reason="gone for') == 1


def test_a_name_that_comes_back_in_time_was_never_gone(lab):  # B1
    server = lab.faulty({"pbx.test A": ["10.0.0.1"]})
    r = lab.follow("pbx.test,5060", gone_keep_ms=600000)
    r.until("pbx.test,5060", "udp 10.0.0.1:5060 pbx.test")
    server.set({"pbx.test A": NXDOMAIN, "pbx.test AAAA": NXDOMAIN})
    net.until(lambda: r.logged("the DNS has no address for a backend's name"), "said")
    server.set({"pbx.test A": ["10.0.0.1"], "pbx.test AAAA": 0})
    net.until(lambda: r.logged("work again"), "works again")
    assert r.all("pbx.test,5060") == [["udp 10.0.0.1:5060 pbx.test"]]


@pytest.mark.parametrize("fault", [SERVFAIL, NXDOMAIN, None])
def test_a_name_without_an_answer_at_start_is_told_and_asked_for_again(lab, fault):  # B1
    server = lab.faulty({"pbx.test A": fault, "pbx.test AAAA": fault})
    r = lab.follow("pbx.test,5060")
    assert r.first("pbx.test,5060") == [] and r.good_ms(0) == 0
    server.set({"pbx.test A": ["10.0.0.1"], "pbx.test AAAA": 0})
    r.until("pbx.test,5060", "udp 10.0.0.1:5060 pbx.test")


def test_srv_records_that_can_not_be_had_yet_give_way_to_addresses(lab):  # B1
    server = lab.faulty(
        {
            "_sip._udp.sip.test SRV": SERVFAIL,
            "sip.test A": ["10.0.0.9"],
            "a.test A": ["10.0.0.1"],
        }
    )
    r = lab.follow("sip.test,0,udp")
    r.until("sip.test,0,udp", "udp 10.0.0.9:5060 sip.test")
    server.set({"_sip._udp.sip.test SRV": ["0 0 5071 a.test"]})
    r.until("sip.test,0,udp", "udp 10.0.0.1:5071 a.test")
    server.set({"_sip._udp.sip.test SRV": SERVFAIL})  # now there is something to keep
    net.until(lambda: r.logged("look-ups of a backend's name fail") == 2, "fails")
    assert len(r.all("sip.test,0,udp")) == 2


def test_a_second_server_answers_for_a_dead_one(lab):  # B1
    resolv_conf(f"nameserver {ONE}", f"nameserver {TWO}")
    lab.faulty({"pbx.test A": ["10.0.0.1"]}, address=TWO)
    r = lab.follow("pbx.test,5060")
    assert r.first("pbx.test,5060") == ["udp 10.0.0.1:5060 pbx.test"]


def test_a_slow_server_holds_up_nobody_else(lab):  # B1
    lab.faulty({"slow.test A": None, "slow.test AAAA": None, "pbx.test A": ["10.0.0.1"]})
    r = lab.follow("slow.test,5060", "pbx.test,5060", "192.0.2.1")
    assert r.first("192.0.2.1") and r.first("pbx.test,5060")
    assert not r.told["slow.test,5060"]
    assert r.first("slow.test,5060") == []


def test_a_change_of_resolv_conf_is_picked_up(lab):  # B1
    old = lab.faulty({"pbx.test A": ["10.0.0.1"], "slow.test A": None})
    new = lab.faulty({"pbx.test A": ["10.0.0.2"], "slow.test A": ["10.0.0.3"]}, address=TWO)
    r = lab.follow("pbx.test,5060", "slow.test,5060")
    r.until("pbx.test,5060", "udp 10.0.0.1:5060 pbx.test")
    resolv_conf(f"nameserver {TWO}")
    r.until("pbx.test,5060", "udp 10.0.0.2:5060 pbx.test")
    r.until("slow.test,5060", "udp 10.0.0.3:5060 slow.test")  # its open question was asked anew
    assert new.asked("pbx.test A") and old.asked("pbx.test A")


def test_a_change_of_the_hosts_file_is_seen(lab):  # B1
    lab.faulty({"pbx.test A": ["10.0.0.1"]})
    r = lab.follow("pbx.test,5060")
    r.until("pbx.test,5060", "udp 10.0.0.1:5060 pbx.test")
    hosts("10.0.0.7 pbx.test")
    r.until("pbx.test,5060", "udp 10.0.0.7:5060 pbx.test")


# ---- what a hostile or broken server can't do ----


def test_records_beyond_a_bound_are_ignored(lab):  # B1 refused
    many = [f"{i % 7} {i} 5060 h{i}.test" for i in range(1200)]  # what a response has room for
    addresses = {f"h{i}.test A": [f"10.9.{i // 250}.{i % 250}"] * 3 for i in range(1200)}
    server = lab.faulty({"_sip._udp.sip.test SRV": many, **addresses})
    server.set({"flat.test A": [f"10.8.{i // 250}.{i % 250}" for i in range(2000)]})
    r = lab.follow("sip.test,0,udp", "flat.test,5060")
    best = sorted((i for i in range(1200) if i % 7 == 0), reverse=True)[:16]
    assert [line.split()[-1] for line in r.first("sip.test,0,udp")] == [f"h{i}.test" for i in best]
    assert len(r.first("flat.test,5060")) == 16
    assert server.asked("_sip._udp.sip.test SRV", "tcp") >= 1
    assert len({question for _, question, _ in server.queries}) < 60


def test_a_tree_of_records_is_cut_at_a_number_of_questions(lab):  # B1 refused
    services = [f"_sip._udp.s{i}.test" for i in range(16)]
    zone = {"sip.test NAPTR": [f'{i} 0 "s" "SIP+D2U" "" {name}' for i, name in enumerate(services)]}
    for i, service in enumerate(services):
        zone[f"{service} SRV"] = [f"{k} 0 5060 h{i}-{k}.test" for k in range(16)]
        zone.update({f"h{i}-{k}.test A": [f"10.0.{i}.{k}"] for k in range(16)})
    server = lab.faulty(zone, ttl=60)
    r = lab.follow("sip.test")
    found = [line.split()[1] for line in r.first("sip.test")]
    assert 16 < len(found) <= 64
    # the best ones, in order: all of the first service before the second
    assert found == [f"10.0.{n // 16}.{n % 16}:5060" for n in range(len(found))]
    assert len({question for _, question, _ in server.queries}) < 200


def test_ttls_have_bounds(lab):  # B1
    server = lab.faulty({"never.test A": ["10.0.0.1"]}, ttl=0)
    lab.faulty({"ever.test A": ["10.0.0.2"]}, address=TWO, ttl=2**31 - 1)
    r = lab.follow("never.test,5060", ttl_min_ms=3000)
    assert r.first("never.test,5060") and 1000 < r.good_ms(0) <= 3000
    assert server.asked("never.test A") == 1
    r.end()
    resolv_conf(f"nameserver {TWO}")
    r = lab.follow("ever.test,5060")
    assert r.first("ever.test,5060")
    assert 3500_000 < r.good_ms(0) <= 3600_000


def test_a_loop_of_aliases_ends(lab):  # B1 refused
    loop = ["a.test CNAME b.test", "b.test CNAME a.test"]
    server = lab.faulty({"a.test A": loop, "a.test AAAA": loop})
    r = lab.follow("a.test,5060")
    assert r.first("a.test,5060") == []
    assert server.asked("a.test A") <= 3


def test_names_that_no_host_can_have_are_ignored(lab):  # B1 refused
    lab.faulty(
        {
            "_sip._udp.sip.test SRV": ["0 0 5060 a\x1b[2J.test", "0 1 0 a.test", "1 0 5062 A.TEST"],
            "a.test A": ["10.0.0.1"],
        }
    )
    r = lab.follow("sip.test,0,udp")
    assert r.first("sip.test,0,udp") == ["udp 10.0.0.1:5062 a.test"]


# ---- memory, and the end ----


def test_memory_that_runs_out_costs_a_second(lab):  # B1
    zone = {"_sip._udp.s.test SRV": ["1 0 5061 a.test"], "a.test A": ["10.0.0.1"], "s.test A": ["10.0.0.9"]}
    lab.faulty({**zone, "s.test NAPTR": ['1 1 "s" "SIP+D2U" "" _sip._udp.s.test']}, ttl=60)
    for fail_at in range(1, 41, 8):  # there are fewer than 40 of them
        some = [lab.follow("s.test", "192.0.2.1", fail_at=i) for i in range(fail_at, fail_at + 8)]
        for r in some:
            r.until("s.test", "udp 10.0.0.1:5061 a.test")
            r.until("192.0.2.1", "udp 192.0.2.1:5060 192.0.2.1")
            r.end()


def test_it_ends_with_questions_open(lab):  # B1
    server = lab.faulty({f"{n}.test {k}": None for n in "ab" for k in ("A", "AAAA")})
    r = lab.follow("a.test,5060", "b.test,5060")
    net.until(lambda: server.asked("b.test AAAA"), "asked")
    r.end()


def test_a_name_stopped_with_questions_open_is_not_heard_of_again(lab):  # B1 refused
    server = lab.faulty({"a.test A": None, "b.test A": ["10.0.0.2"]})
    r = lab.follow("a.test,5060", "b.test,5060")
    net.until(lambda: server.asked("a.test A"), "asked")
    assert r.say("stop 0") == "stopped"
    server.set({"a.test A": ["10.0.0.1"], "b.test A": ["10.0.0.3"]})
    r.until("b.test,5060", "udp 10.0.0.3:5060 b.test")
    assert not r.all("a.test,5060")
