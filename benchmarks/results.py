"""The results of this project's pages, from nothing: comparisons on real data, run here, with their records.

    python benchmarks/results.py                        # all of them: 8 hours of one core, 4 on two
    python benchmarks/results.py qm9 earth --minutes 50 # of these, as much as 50 minutes allow; again: goes on
    python benchmarks/results.py --pages                # write the pages of what is finished, run nothing

`make results` is the first line; `make results MINUTES=50` works at most so long. Each comparison is an ordinary
`equipoise bench` in `runs/results/NAME`, with an equal tuning budget for every row, and can be killed at any time. What
is finished goes to `docs/results/NAME.md`, with plan and records in `docs/results/records/NAME`, of which `equipoise
report` makes the report again. The text between the marks `said` on a page is written by hand and stays.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from equipoise.benchmark.records import write_atomically
from equipoise.benchmark.statistics import summarise
from equipoise.benchmark.summary import Summary
from equipoise.report.build import write_report
from equipoise.report.cells import Table, markdown
from equipoise.report.costs import cost_table
from equipoise.report.tables import metric_table, ranking_table
from equipoise.report.times import ROUGH_TIMES, long_waits
from equipoise.report.verdict import verdict

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "results"
RUNS = ROOT / "runs" / "results"
FIGURES = {"changes": "Changes of the metrics against single-task networks", "ranks": "Mean ranks"}
# Columns that say nothing on a shared machine.
TIMED = {"seconds / step", "step time / ls", "time / ls", "peak memory (MB)"}
BEGIN, END = "<!-- said -->", "<!-- /said -->"
EVERYWHERE = ["--seeds", "5", "--budget", "3", "--jobs", "2"]
MANY = "ls,si,rlw,uw,gls,famo,go4align,cagrad,imtl_g,nashmtl,dwa,imtl_l,mgda,pcgrad,graddrop,fairgrad"
FOURTEEN = "ls,si,rlw,uw,gls,famo,go4align,nashmtl,dwa,imtl_l,stch,uw_so,softadapt,relobralo"
TEN = "ls,si,rlw,uw,gls,famo,go4align,cagrad,imtl_g,nashmtl"
SEVEN = "ls,si,rlw,uw,gls,famo,go4align"
COMPARISONS: dict[str, list[str]] = {
    "chemicals": ["chemicals", "--preset", "quick", "--methods", MANY],
    "qm9": ["qm9", "--preset", "quick", "--molecules", "10000", "--epochs", "4", "--methods", FOURTEEN],
    "multi_fashion": ["multi_fashion", "--preset", "quick", "--epochs", "4", "--methods", TEN],
    "digits": ["digits", "--preset", "quick", "--epochs", "5", "--methods", TEN],
    "earth": ["earth", "--preset", "quick", "--epochs", "1", "--methods", SEVEN],
}


def command_of(name: str) -> list[str]:
    """What is run, as it can be typed; without the directory."""
    return ["equipoise", "bench", *COMPARISONS[name], *EVERYWHERE]


def run(name: str, until: float) -> bool:
    """Go on with a comparison, at most until a time; whether it is finished."""
    command = [sys.executable, "-m", "equipoise.cli", *command_of(name)[1:]]
    process = subprocess.Popen(
        [*command, "--out", str((RUNS / name).relative_to(ROOT)), "--resume"], cwd=ROOT
    )
    try:
        process.wait(max(until - time.monotonic(), 0) if until else None)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGINT)
        process.wait()
    except KeyboardInterrupt:  # it has reached the benchmark too, which writes its checkpoints
        process.wait()
        sys.exit("Stopped. The same command goes on.")
    if process.returncode == 2:
        sys.exit(2)  # `bench` has said what is wrong
    return not summarise(RUNS / name).missing


def write_page(name: str) -> Path:
    """The page of a finished comparison, with its figures and its records beside it."""
    write_report(RUNS / name)
    summary = summarise(RUNS / name)
    kept = PAGES / "records" / name
    kept.mkdir(parents=True, exist_ok=True)
    for file in ("plan.json", "records.jsonl"):
        shutil.copyfile(RUNS / name / file, kept / file)
    shown = []
    for figure, title in FIGURES.items():
        drawn = RUNS / name / "figures" / f"{figure}.png"
        if drawn.exists():
            shutil.copyfile(drawn, PAGES / f"{name}-{figure}.png")
            shown.append(f"![{title}]({name}-{figure}.png)\n")
    path = PAGES / f"{name}.md"
    said = _said(path.read_text(encoding="utf-8")) if path.exists() else "To be written."
    tables = [_untimed(make(summary)) for make in (ranking_table, metric_table, cost_table)]
    waits = long_waits(summary)
    told = [sentence for sentence in verdict(summary) if sentence not in waits]
    parts = [
        f"# Results on {name}\n",
        _facts(name, summary),
        f"{BEGIN}\n{said}\n{END}\n",
        f"**In the words of the report.** {' '.join(told)}\n",
        *shown,
        *(markdown(table) for table in tables if table.rows),
        f"Every run: [records/{name}/records.jsonl](records/{name}/records.jsonl); "
        f"`equipoise report docs/results/records/{name}` makes the report of them.\n",
    ]
    write_atomically(path, "\n".join(parts))
    return path


def _untimed(table: Table) -> Table:
    """A table without its columns of time."""
    kept = [place for place, name in enumerate(table.header) if name not in TIMED]
    notes = tuple(note.replace(ROUGH_TIMES, "").strip() for note in table.notes)
    return replace(
        table,
        header=tuple(table.header[place] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in table.rows),
        notes=notes,
    )


def _facts(name: str, summary: Summary) -> str:
    plan, records = summary.plan, summary.records
    known = ", ".join(f"{key} {value}" for key, value in plan.versions.items())
    commits = list(dict.fromkeys(f"`{(record.git or 'unknown')[:7]}`" for record in records))
    chosen = [run for row in summary.methods for run in row.runs]
    epochs = plan.config["train"]["epochs"]
    last = sum(run.best_epoch == epochs for run in chosen)
    return (
        f"Command: `{' '.join(command_of(name))}` (`python benchmarks/results.py {name}`) · "
        f"commit{'s' * (len(commits) > 1)} {', '.join(commits)} · seeds {', '.join(map(str, plan.seeds))} · {known} · "
        f"{len(records)} runs, two at a time on a shared machine. So times are left out here; "
        "[speed](../../benchmarks/README.md) is measured apart, and passes count what a run costs.\n\n"
        f"Epochs of training: {epochs}. In {last} of {len(chosen)} of the chosen runs the last one was the best, so "
        "that longer training would have gone on.\n"
    )


def _said(text: str) -> str:
    return text.split(BEGIN, 1)[1].split(END, 1)[0].strip() if BEGIN in text and END in text else ""


def main() -> int:
    """Run what is asked for; 3 if something is left to do that the time would have allowed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(COMPARISONS)}; default all")
    parser.add_argument("--minutes", type=float, help="work at most so long")
    parser.add_argument("--pages", action="store_true", help="only write the pages of what is finished")
    options = parser.parse_args()
    names = options.names or list(COMPARISONS)
    if unknown := [name for name in names if name not in COMPARISONS]:
        parser.error(f"NAME should be one of {', '.join(COMPARISONS)}. Found {', '.join(unknown)}.")
    until = time.monotonic() + 60 * options.minutes if options.minutes else 0.0
    left = []
    for name in names:
        begun = (RUNS / name / "records.jsonl").exists()
        if options.pages or (until and time.monotonic() > until):
            finished = begun and not summarise(RUNS / name).missing
        else:
            finished = run(name, until)
        if finished:
            print(f"Wrote {write_page(name).relative_to(ROOT)}.")
        else:
            left.append(name)
    if left:
        print(f"Not finished: {', '.join(left)}. The same command goes on.")
    return 3 if left and not (until or options.pages) else 0


if __name__ == "__main__":
    sys.exit(main())
