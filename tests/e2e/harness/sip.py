"""SIP messages for scripted ends: build, parse, judge.

parse() is strict: what sipward sends must be canonical (N1, N2, N3), so each message that a
scripted end receives is a test of those rules."""

import hashlib
import os
import re

ONE_VALUE_A_LINE = ("Via", "Route", "Record-Route", "Path")
COMPACT = "abcdefijklmnorstuvxy"


class Malformed(AssertionError):
    pass


class Message:
    """Start line, header lines as (name, value) in order, body as bytes."""

    def __init__(self, start, headers=(), body=b""):
        self.start, self.headers, self.body = start, list(headers), body

    @property
    def is_request(self):
        return not self.start.startswith("SIP/2.0 ")

    @property
    def method(self):
        return self.start.split(" ")[0] if self.is_request else self.get("CSeq").split()[1]

    @property
    def uri(self):
        return self.start.split(" ")[1]

    @property
    def status(self):
        return None if self.is_request else int(self.start.split(" ")[1])

    @property
    def cseq(self):
        return int(self.get("CSeq").split()[0])

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    def get(self, name, default=None):
        values = self.all(name)
        return values[0] if values else default

    def set(self, name, *values):
        """Replace all lines of a name, in the place of the first; no values: remove."""
        place = next(
            (i for i, (n, _) in enumerate(self.headers) if n.lower() == name.lower()),
            len(self.headers),
        )
        self.headers = [(n, v) for n, v in self.headers if n.lower() != name.lower()]
        self.headers[place:place] = [(name, v) for v in values]
        return self

    def push(self, name, value):
        """Put a line in front of those of its name, or at the top."""
        place = next(
            (i for i, (n, _) in enumerate(self.headers) if n.lower() == name.lower()), 0
        )
        self.headers.insert(place, (name, value))
        return self

    def copy(self):
        return Message(self.start, self.headers, self.body)

    def bytes(self):
        head = [self.start] + [f"{n}: {v}" for n, v in self.headers]
        if self.get("Content-Length") is None:
            head.append(f"Content-Length: {len(self.body)}")
        return "\r\n".join(head).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + self.body

    def __repr__(self):
        return self.bytes().decode("utf-8", "replace")

    @property
    def branch(self):
        return parameter(self.get("Via"), "branch")


def parse(raw):
    """One whole message, judged: CRLF, long names, one value a line, exact Content-Length."""

    def need(condition, what):
        if not condition:
            raise Malformed(f"{what} in:\n{raw!r}")

    head, end, body = raw.partition(b"\r\n\r\n")
    need(end, "no end of headers")
    need(not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", head), "a control byte")
    need(b"\n" not in head.replace(b"\r\n", b"") and b"\r" not in head.replace(b"\r\n", b""),
         "a bare CR or LF")
    lines = head.decode("utf-8", "surrogateescape").split("\r\n")
    need(
        re.fullmatch(r"[!-~]+ [!-~]+ SIP/2\.0", lines[0])
        or re.fullmatch(r"SIP/2\.0 [1-6][0-9]{2} .*", lines[0]),
        "a bad start line",
    )
    message = Message(lines[0])
    for line in lines[1:]:
        m = re.fullmatch(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?(.*)", line)
        need(m, f"a bad header line {line!r}")
        name, value = m.groups()
        need(not (len(name) == 1 and name.lower() in COMPACT), f"a compact name {name}")
        need(value == value.strip(), f"white space around the value of {name}")
        message.headers.append((name, value))
    for name in ("From", "To", "Call-ID", "CSeq", "Content-Length"):
        need(len(message.all(name)) == 1, f"{len(message.all(name))} {name}")
    need(message.all("Via"), "no Via")
    for name in ONE_VALUE_A_LINE:
        for value in message.all(name):
            bare = re.sub(r'"(?:[^"\\]|\\.)*"|<[^>]*>', "", value)
            need("," not in bare, f"two values in a {name}")
    need(int(message.get("Content-Length")) == len(body), "a wrong Content-Length")
    message.body = body
    return message


def cut(buffer):
    """Take one message off the front of a stream's bytes: (message bytes or None, rest)."""
    head, end, rest = buffer.partition(b"\r\n\r\n")
    if not end:
        return None, buffer
    m = re.search(rb"\r\nContent-Length: *(\d+)", head)
    if not m:
        raise Malformed(f"no Content-Length on a stream in:\n{buffer!r}")
    size = int(m.group(1))
    if len(rest) < size:
        return None, buffer
    return head + end + rest[:size], rest[size:]


def parameter(value, name):
    """A header parameter's value, '' where it has none, None where it is absent."""
    outside = re.sub(r'("[^"]*")|<[^>]*>', lambda m: m.group(1) or "<>", value)
    m = re.search(rf';\s*{re.escape(name)}\s*(?:=\s*("[^"]*"|[^;,\s>]+))?(?=[;,\s>]|$)', outside, re.I)
    return None if not m else (m.group(1) or "")


def uri_of(value):
    """The URI of a name-addr or addr-spec."""
    m = re.search(r"<([^>]*)>", value)
    return m.group(1) if m else value.split(";")[0].strip()


def new_branch():
    return "z9hG4bK" + os.urandom(8).hex()


def new_tag():
    return os.urandom(6).hex()


def digest(challenge, method, uri, user, password, algorithm="MD5"):
    """Value of Authorization for a challenge (RFC 7616), MD5 or SHA-256."""
    field = dict(
        (k.lower(), v.strip('"'))
        for k, v in re.findall(r'([\w-]+)\s*=\s*("[^"]*"|[^,\s]+)', challenge)
    )
    assert field.get("algorithm", "MD5").upper() == algorithm.upper(), challenge

    def h(text):
        return hashlib.new(algorithm.replace("-", ""), text.encode()).hexdigest()

    ha1 = h(f"{user}:{field['realm']}:{password}")
    ha2 = h(f"{method}:{uri}")
    parts = [
        f'username="{user}"',
        f'realm="{field["realm"]}"',
        f'nonce="{field["nonce"]}"',
        f'uri="{uri}"',
        f"algorithm={algorithm}",
    ]
    if "qop" in field:
        cnonce = os.urandom(4).hex()
        response = h(f"{ha1}:{field['nonce']}:00000001:{cnonce}:auth:{ha2}")
        parts += ["qop=auth", "nc=00000001", f'cnonce="{cnonce}"']
    else:
        response = h(f"{ha1}:{field['nonce']}:{ha2}")
    if "opaque" in field:
        parts.append(f'opaque="{field["opaque"]}"')
    return "Digest " + ", ".join(parts + [f'response="{response}"'])


def sdp(address="127.0.0.1", port=40000):
    return (
        f"v=0\r\no=- 1 1 IN IP4 {address}\r\ns=-\r\nc=IN IP4 {address}\r\nt=0 0\r\n"
        f"m=audio {port} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\n"
    ).encode()


def parameter_of(challenge, name):
    """A field of a WWW-Authenticate or Proxy-Authenticate value."""
    m = re.search(rf'[\s,]{name}\s*=\s*("[^"]*"|[^,\s]+)', challenge, re.I)
    return m.group(1).strip('"') if m else None


def challenge(answer, name, algorithm="MD5"):
    """The challenge for an algorithm among the lines of WWW-Authenticate or Proxy-Authenticate."""
    for value in answer.all(name):
        if (parameter_of(value, "algorithm") or "MD5") == algorithm:
            return value
    raise AssertionError(f"no {algorithm} challenge in:\n{answer!r}")
