"""Measure: see tests/bench/run, which installs and builds before it."""

import argparse
import json
import pathlib
import shutil
import sys
import time

sys.dont_write_bytecode = True

import measures  # noqa: E402
import report  # noqa: E402
import servers  # noqa: E402
from rig import Invalid  # noqa: E402

WORK = pathlib.Path("build/bench")


def arguments():
    parser = argparse.ArgumentParser(prog="tests/bench/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, small numbers")
    parser.add_argument("--only", help=f"some of: {', '.join(measures.MEASURES)}")
    parser.add_argument("--server", help=f"some of: {', '.join(servers.ALL)}")
    parser.add_argument("--transport", help="tls or wss; both unless said")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="of a measurement")
    parser.add_argument("--sipward", type=pathlib.Path, help="another binary than build/release/sipward")
    parser.add_argument("--to", type=pathlib.Path,
                        help="folder for BENCHMARKS.md and docs/bench/*.svg; unless said the project's, "
                             "and build/bench if it is not all that is measured")
    return parser.parse_args()


def chosen(words, known, parser_name):
    names = words.split(",") if words else list(known)
    for name in names:
        if name not in known:
            raise SystemExit(f"tests/bench/run: there is no {parser_name} {name}; {', '.join(known)}")
    return names


def measure_once(place, notes, name, cls, kind):
    function = measures.MEASURES[name][0]
    begun = time.monotonic()
    try:
        function(place, cls, kind, notes)
        print(f"  {name}, {cls.name}, {kind}: {time.monotonic() - begun:.1f} s", flush=True)
    except Invalid as why:
        notes.failed[name, cls.name, kind] = str(why).replace("\n", " ")
        print(f"  {name}, {cls.name}, {kind}: INVALID: {why}", flush=True)


def main():
    words = arguments()
    settings = measures.Settings()
    if words.quick:
        settings.quick()
    settings.rounds = words.rounds or settings.rounds
    settings.seconds = words.seconds or settings.seconds
    if words.sipward:
        servers.Sipward.binary = words.sipward
    names = chosen(words.server, servers.ALL, "server")
    kinds = chosen(words.transport, report.KINDS, "transport")
    wanted = chosen(words.only, measures.MEASURES, "measure")
    for name in [n for n in names if not servers.ALL[n].installed()]:
        print(f"{name} is not installed: left out")
        names.remove(name)

    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    place, notes = measures.Place(WORK, settings), measures.Notes()
    exact = ("instructions", "system-calls", "memory-most")  # once is enough
    for turn in range(settings.rounds):
        print(f"round {turn + 1} of {settings.rounds}", flush=True)
        for name in wanted:
            only = measures.MEASURES[name][1]
            if turn and name in exact:
                continue
            for kind in kinds:
                for server in names if turn % 2 == 0 else reversed(names):
                    if only(servers.ALL[server]):
                        measure_once(place, notes, name, servers.ALL[server], kind)

    samples = [[*key, values] for key, values in notes.samples.items()]
    (WORK / "samples.json").write_text(json.dumps(samples, indent=0))
    whole = not (words.quick or words.only or words.server or words.transport)
    to = words.to or (pathlib.Path(".") if whole else WORK)
    drawn = []
    if whole or words.to:
        import plots  # matplotlib takes a second, and need not be there for single figures

        drawn = plots.draw(notes, names, kinds, to / "docs/bench")
    said = report.text(notes, place, names, kinds, " ".join(["tests/bench/run", *sys.argv[1:]]),
                       [(title, f"docs/bench/{file}") for title, file in drawn])
    (to / "BENCHMARKS.md").write_text(said)
    print("\n".join(report.sections(notes, names, kinds)))
    print(f"{to / 'BENCHMARKS.md'} is written; samples: {WORK / 'samples.json'}")
    return 1 if any(server == "sipward" for _, server, _ in notes.failed) else 0


if __name__ == "__main__":
    sys.exit(main())
