"""The comparison, and cost against number, as SVG."""

import statistics

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.hashsalt"] = "bench"  # the same samples give the same file

from matplotlib import pyplot  # noqa: E402
from report import SHOWN  # noqa: E402

COLOURS = {"sipward": "#1b7f5c", "kamailio": "#c2571a", "haproxy": "#3a6ea5", "floor": "#999999"}
BARS = [
    ("cpu register", "CPU per REGISTER, µs"),
    ("cpu call", "CPU per call, µs"),
    ("saturated register", "REGISTER/s on one core"),
    ("latency p99", "p99 at 1,000/s, ms"),
    ("handshake full", "CPU per full handshake, ms"),
    ("memory idle", "kB per idle connection"),
    ("memory registered", "kB per registered connection"),
    ("storm p99", "others' p99 in a storm, ms (log)"),
]


def middle(notes, figure, name, kind):
    values = notes.samples.get((figure, name, kind))
    return statistics.median(values) if values else None


def save(figure, folder, name):
    figure.savefig(folder / name, metadata={"Date": None})
    pyplot.close(figure)


def comparison(notes, names, kinds, folder):
    figure, all_axes = pyplot.subplots(2, 4, figsize=(13, 6))
    for axes, (what, title) in zip(all_axes.flat, BARS):
        for i, name in enumerate(names):
            at = [j + (i + 0.5) * 0.8 / len(names) for j in range(len(kinds))]
            values = [middle(notes, what, name, kind) or 0 for kind in kinds]
            bars = axes.bar(at, values, 0.72 / len(names), color=COLOURS[name])
            labels = [f"{v:,.0f}" if v >= 100 else f"{v:.2g}" if v < 10 else f"{v:.1f}" for v in values]
            axes.bar_label(bars, [label if v else "" for label, v in zip(labels, values)], fontsize=6)
        if "(log)" in title:
            axes.set_yscale("log")
        axes.set_title(title, fontsize=10)
        axes.tick_params(labelsize=8)
        axes.set_xlim(-0.2, len(kinds))
        axes.set_xticks([j + 0.4 for j in range(len(kinds))], [k.upper() for k in kinds])
    figure.legend([pyplot.Rectangle((0, 0), 1, 1, color=COLOURS[n]) for n in names],
                  [SHOWN[n] for n in names], ncols=len(names), loc="lower center", fontsize=9)
    figure.tight_layout(rect=(0, 0.05, 1, 1))
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
                              linestyle="-" if kind == "tls" else "--", label=f"{SHOWN[name]}, {kind.upper()}")
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("connections" if what == "connections" else "open INVITEs")
        axes.set_ylabel("CPU per REGISTER, µs")
        if axes.lines:
            axes.legend(fontsize=8)
    figure.tight_layout()
    save(figure, folder, "growth.svg")


def draw(notes, names, kinds, folder):
    """[(title, file)] of those made."""
    folder.mkdir(parents=True, exist_ok=True)
    comparison(notes, names, kinds, folder)
    growth(notes, names, kinds, folder)
    return [("sipward beside the others", "comparison.svg"),
            ("Cost of a message against connections and open INVITEs", "growth.svg")]
