#!/usr/bin/env python3
"""Runs our workloads and the installed peers alternately and prints one Markdown table.

Every round runs each program once, every second round in reverse order, each alone and pinned to
the first CPUs. A cell is the median over the rounds of the medians in µs a step; runs during which
other processes used our CPUs count only where a program has no others, and are marked with `!`.
"""
import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
# Ours over the best peer, at most.
TARGETS = {
    "scalar_graph": 0.05, "mlp_small": 0.25, "logreg_mnist": 0.8, "linreg_gd": 0.6,
    "elementwise_1e6": 0.75, "elementwise_1e4": 0.75, "mlp_mnist": 0.8, "hvp": 0.8,
    "mlp_large": 1.0, "lenet": 0.6, "cnn_cifar": 0.9, "lstm_char": 0.8, "gru_char": 0.8,
    "attention": 0.8,
}
# What a peer imports, and the package that has its version.
PEERS = {
    "torch": "torch", "torch-compile": "torch", "jax": "jax", "jax-scan": "jax",
    "tf": "tensorflow", "tf-xla": "tensorflow", "numpy": "numpy", "sklearn": "sklearn",
}
# Those of benches/rust_peers, and the crate that has the version.
RUST_PEERS = {"candle": "candle-core", "burn": "burn"}
# Formulas written out by hand, without any dispatch, are no peer of a library here.
NOT_COUNTED = {("scalar_graph", "numpy")}
POLLUTED = 0.03  # CPUs that others used
LOSS_LIMITS = {"loss1": 1e-5, "lossK": 1e-4}  # relative


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workloads", nargs="+", default=list(TARGETS), choices=list(TARGETS),
                        metavar="NAME", help="default: all of %(choices)s")
    peers = [*PEERS, *RUST_PEERS]
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=peers,
                        metavar="PEER",
                        help=f"of {', '.join(peers)}; default: those in Python")
    parser.add_argument("--threads", nargs="+", type=int, default=[1], choices=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="timed in each run")
    parser.add_argument("--bench-peers", type=Path, metavar="PATH",
                        default=REPO / "../shared/bench/bench_peers.py")
    parser.add_argument("--python", default=sys.executable, help="the Python that has the peers")
    parser.add_argument("--rust-peers", type=Path, metavar="PATH",
                        help="the program of benches/rust_peers, if built before")
    parser.add_argument("--records", type=Path, metavar="FILE",
                        help="append every JSON line to this file")
    return parser.parse_args()


def build():
    """The path of our program."""
    command = ["cargo", "bench", "--bench", "workloads", "--no-run", "--message-format=json"]
    built = subprocess.run(command, cwd=REPO, check=True, stdout=subprocess.PIPE, text=True)
    for line in built.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "workloads":
            return message["executable"]
    sys.exit("cargo built no workloads")


def build_rust_peers():
    """The path of the program with candle and burn. The first build takes minutes."""
    manifest = REPO / "benches" / "rust_peers" / "Cargo.toml"
    command = ["cargo", "build", "--release", "--manifest-path", str(manifest)]
    env = {"RUSTFLAGS": "-C target-cpu=native", **os.environ}
    subprocess.run(command, check=True, env=env)
    return manifest.parent / "target" / "release" / "rust_peers"


def rust_versions(peers):
    """The versions of the Rust peers' crates, by the lock file of their package."""
    lock = REPO / "benches" / "rust_peers" / "Cargo.lock"
    text = lock.read_text() if lock.is_file() else ""
    versions = dict(re.findall(r'name = "(.*)"\nversion = "(.*)"', text))
    return {crate: versions.get(crate, "?") for crate in (RUST_PEERS[peer] for peer in peers)}


def installed(python, peers):
    """The peers that import, the versions of their packages, and the peers that do not."""
    versions, missing = {}, []
    for module in dict.fromkeys(PEERS[peer] for peer in peers):
        code = f"import {module}; print({module}.__version__)"
        env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        found = subprocess.run([python, "-c", code], capture_output=True, text=True, env=env)
        if found.returncode == 0:
            versions[module] = found.stdout.split()[-1]
        else:
            missing.append(f"{module} ({last_line(found.stderr)})")
    return [peer for peer in peers if PEERS[peer] in versions], versions, missing


def run(command, threads, seconds):
    """One program's JSON line as a dict, or a dict with what went wrong as `error`."""
    # bench_peers.py would write its compiled kernels beside itself.
    cache = REPO / "target" / "inductor_cache"
    env = {"TORCHINDUCTOR_CACHE_DIR": str(cache), **os.environ,
           "RAYON_NUM_THREADS": str(threads)}
    command = [*command, "--threads", str(threads), "--seconds", str(seconds)]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, env=env, timeout=600,
                             preexec_fn=lambda: os.sched_setaffinity(0, set(range(threads))))
        return json.loads(ran.stdout.splitlines()[-1])
    except subprocess.TimeoutExpired:
        return {"error": "took more than 600 s"}
    except (IndexError, ValueError):
        return {"error": last_line(ran.stderr) or f"exit status {ran.returncode}"}


def last_line(text):
    return (text.strip().splitlines() or [""])[-1]


class Cell:
    """The records of one program on one workload."""

    def __init__(self, records):
        clean = [r for r in records if (r.get("other_cpu") or 0.0) <= POLLUTED]
        self.polluted = not clean
        records = clean or records
        self.n_clean = len(clean)
        self.median = statistics.median(r["us_median"] for r in records)
        self.least = min(r["us_min"] for r in records)
        self.rss = max(r["peak_rss_mb"] or 0.0 for r in records)
        self.losses = {loss: records[0].get(loss) for loss in LOSS_LIMITS}

    def __str__(self):
        return f"{number(self.median)}{'!' if self.polluted else ''}"


def number(us):
    return f"{us:,.0f}" if us >= 1000 else f"{us:.3g}"


def losses_differ(ours, peers):
    """Our greatest relative differences from the peers' median losses, and whether they pass."""
    differences, good = [], True
    for loss, limit in LOSS_LIMITS.items():
        theirs = [p.losses[loss] for p in peers if p.losses[loss] is not None]
        if theirs:
            want = statistics.median(theirs)
            difference = abs(ours.losses[loss] - want) / abs(want)
            good &= difference <= limit
            differences.append(f"{difference:.0e}")
    return " / ".join(differences) + ("" if good else " **differs**"), good


def row(workload, cells, peers):
    """A row of the table, and whether the losses agree."""
    if "gradtape" not in cells:
        return [workload] + ["failed"] + [""] * (len(peers) + 6), False
    ours = cells["gradtape"]
    theirs = {p: cells[p] for p in peers if p in cells}
    counted = {p: c for p, c in theirs.items() if (workload, p) not in NOT_COUNTED}
    differences, good = losses_differ(ours, theirs.values())
    line = [workload, f"{ours} ({number(ours.least)})"]
    best = min(counted, key=lambda p: counted[p].median, default=None)
    for peer in peers:
        text = str(theirs[peer]) if peer in theirs else "-"
        line.append(f"**{text}**" if peer == best else text)
    if best is None:
        return line + ["", "", str(TARGETS[workload]), differences, f"{ours.rss:.0f}"], good
    ratio = ours.median / counted[best].median
    least = ours.least / min(c.least for c in counted.values())
    mark = "" if ratio <= TARGETS[workload] else " ✗"
    memory = f"{ours.rss:.0f} / {min(c.rss for c in counted.values()):.0f}"
    return line + [f"{ratio:.3g}{mark}", f"{least:.3g}", str(TARGETS[workload]), differences,
                   memory], good


def print_table(lines):
    for line in lines:
        print("| " + " | ".join(line) + " |")
        if line is lines[0]:
            print("| --- |" + " ---: |" * (len(line) - 1))


def cpu_name():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(l.split(":")[1].strip() for l in lines if l.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def main():
    args = arguments()
    in_python = [peer for peer in args.peers if peer in PEERS]
    in_rust = [peer for peer in args.peers if peer in RUST_PEERS]
    if in_python and not args.bench_peers.is_file():
        sys.exit(f"expected bench_peers.py, got {args.bench_peers}; give --bench-peers PATH")
    peers, versions, missing = installed(args.python, in_python)
    programs = {"gradtape": [build()]}
    for peer in peers:
        programs[peer] = [args.python, str(args.bench_peers), "--peer", peer]
    if in_rust:
        rust_peers = args.rust_peers or build_rust_peers()
        versions |= rust_versions(in_rust)
        peers += in_rust
        for peer in in_rust:
            programs[peer] = [str(rust_peers), "--peer", peer]

    named = ", ".join(f"{m} {v}" for m, v in versions.items())
    print(f"{cpu_name()}, {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC, f32, "
          f"{args.rounds} rounds of {args.seconds} s; {named}.")
    for module in missing:
        print(f"Not installed: {module}.")
    agree = True
    for threads in args.threads:
        head = ["workload", "gradtape (least)", *peers, "ratio", "of least", "target",
                "loss1 / lossK off", "MB / least peer"]
        table, notes = [head], []
        for workload in args.workloads:
            records, failed = {name: [] for name in programs}, {}
            for i in range(args.rounds):
                for name in list(programs)[::-1 if i % 2 else 1]:
                    if name in failed:
                        continue
                    print(f"{workload}, {threads} threads, round {i + 1}, {name}",
                          file=sys.stderr)
                    command = programs[name] + ["--workload", workload]
                    record = run(command, threads, args.seconds)
                    if "error" in record:
                        failed[name] = record["error"]
                        continue
                    records[name].append(record)
                    if args.records:
                        with args.records.open("a") as out:
                            out.write(json.dumps(record) + "\n")
            cells = {name: Cell(r) for name, r in records.items() if r}
            line, good = row(workload, cells, peers)
            agree &= good
            table.append(line)
            notes += [f"{workload}, {name}: {error}" for name, error in failed.items()]
            few = [f"{n} {c.n_clean}" for n, c in cells.items() if c.n_clean < args.rounds]
            if few:
                notes.append(f"{workload}: clean runs of {args.rounds}: {', '.join(few)}")
        print(f"\n{threads} thread{'s' * (threads > 1)}, µs a step:\n")
        print_table(table)
        print("".join(f"\n- {note}" for note in notes), flush=True)
    sys.exit(0 if agree else 1)


if __name__ == "__main__":
    main()
