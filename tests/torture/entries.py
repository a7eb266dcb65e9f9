"""Torture entries, as entry.h describes them."""

import pathlib
import re
from dataclasses import dataclass, field


@dataclass
class Outcome:
    passes: int = 0
    statuses: list = field(default_factory=list)  # "400 Bad Via"
    closed: bool = False
    waits: bool = False


@dataclass
class Entry:
    name: str
    ways: dict = field(default_factory=dict)  # "tls": Outcome
    of: str = None
    text: str = ""


def expand(text, token="", via=""):
    """The bytes that the text of an entry stands for."""
    out, at = b"", 0
    while at < len(text):
        if text[at] != "{":
            end = text.find("{", at)
            end = len(text) if end < 0 else end
            out += text[at:end].encode()
            at = end
            continue
        end, depth = at, 0
        while True:
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if not depth:
                break
            end += 1
        inner = text[at + 1 : end]
        repeat = re.fullmatch(r"(\d+)\*(.*)", inner, re.S)
        if repeat:
            out += int(repeat[1]) * expand(repeat[2], token, via)
        elif inner in ("token", "via"):
            out += (token if inner == "token" else via).encode()
        else:
            out += bytes.fromhex(inner)
        at = end + 1
    return out


def outcome(text):
    result = Outcome()
    for word in text.split(","):
        word = word.strip()
        if word == "passes":
            result.passes += 1
        elif word in ("closed", "waits"):
            setattr(result, word, True)
        elif word != "dropped":
            result.statuses.append(word)
    return result


def read(path):
    """The entries of one file."""
    entries, lets = [], {}
    for line in pathlib.Path(path).read_text().splitlines():
        known = re.sub(r"\{([A-Z]+)\}", lambda m: lets[m[1]], line)
        kind, rest = known[:1], known[2:]
        if line.startswith("let "):
            _, name, text = known.split(" ", 2)
            lets[name] = text
        elif line.startswith("== "):
            entries.append(Entry(pathlib.Path(path).stem + " " + line[3:]))
        elif kind == "|" or (kind == "+" and entries):
            entry = entries[-1]
            if kind == "+":
                entry.text = entry.text[: -len("{0d0a}")]
            entry.text += rest + ("{0d0a}" if kind == "|" or rest else "")
        elif entries and ": " in known and kind not in "#=-":
            key, value = known.split(": ", 1)
            if key == "of":
                entries[-1].of = value
            elif key not in ("body", "tshark"):
                entries[-1].ways.update((way, outcome(value)) for way in key.split())
    return entries


def read_all():
    return [e for path in sorted(pathlib.Path(__file__).parent.glob("*.txt")) for e in read(path)]
