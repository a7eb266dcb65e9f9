"""The comparison, and cost against number, as SVG."""

import statistics

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "bench"  # the same samples give the same file

from matplotlib import pyplot  # noqa: E402

COLOURS = {"sipward": "#1b7f5c", "kamailio": "#c2571a", "haproxy": "#3a6ea5", "floor": "#999999"}
BARS = [
    ("cpu register", "CPU per REGISTER, µs"),
    ("saturated register", "REGISTER/s on one core"),
    ("latency p99", "p99 at 1,000/s, ms"),
    ("handshake full", "CPU per full handshake, ms"),
    ("memory registered", "kB per registered connection"),
    ("cpu call", "CPU per call, µs"),
]


def middle(notes, figure, name, kind):
    values = notes.samples.get((figure, name, kind))
    return statistics.median(values) if values else None


def save(figure, folder, name):
    figure.tight_layout()
    figure.savefig(folder / name, metadata={"Date": None})
    pyplot.close(figure)


def comparison(notes, names, kinds, folder):
    figure, all_axes = pyplot.subplots(2, 3, figsize=(11, 6))
    for axes, (what, title) in zip(all_axes.flat, BARS):
        for i, name in enumerate(names):
            for j, kind in enumerate(kinds):
                value = middle(notes, what, name, kind)
                if value is not None:
                    axes.bar(j + i * 0.8 / len(names), value, 0.7 / len(names),
                             color=COLOURS[name], label=name if j == 0 else None)
        axes.set_title(title, fontsize=10)
        axes.set_xticks([j + 0.4 - 0.4 / len(names) for j in range(len(kinds))], [k.upper() for k in kinds])
    all_axes.flat[0].legend(fontsize=8)
    save(figure, folder, "comparison.svg")


def growth(notes, names, kinds, folder):
    figure, all_axes = pyplot.subplots(1, 2, figsize=(11, 4))
    for axes, what in zip(all_axes, ("connections", "open")):
        counts = sorted({int(f.split()[-1]) for f, _, _ in notes.samples if f.startswith(f"growth {what} ")})
        for name in names:
            for kind in kinds:
                values = [(n, middle(notes, f"growth {what} {n}", name, kind)) for n in counts]
                values = [(n, v) for n, v in values if v is not None]
                if values:
                    axes.plot(*zip(*values), marker="o", color=COLOURS[name],
                              linestyle="-" if kind == "tls" else "--", label=f"{name} {kind.upper()}")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("connections" if what == "connections" else "open INVITEs")
        axes.set_ylabel("CPU per REGISTER, µs")
        axes.legend(fontsize=8)
    save(figure, folder, "growth.svg")


def draw(notes, names, kinds, folder):
    """[(title, file)] of those made."""
    folder.mkdir(parents=True, exist_ok=True)
    comparison(notes, names, kinds, folder)
    growth(notes, names, kinds, folder)
    return [("sipward beside the others", "comparison.svg"),
            ("Cost of a message against connections and open INVITEs", "growth.svg")]
