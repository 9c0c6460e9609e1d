"""Table, claims and figure of study C (molecules.py)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.hint.study import Study, spread, verdict

PRE_TRAINED, SCRATCH, CLOSED_FORM = "pre-trained", "scratch", "pre-trained, closed form"
LONG_SCRATCH = "scratch, longer"
NOT_TUNED = "pre-trained, not fine-tuned"
CHEAP_METHOD = "GFN2-xTB itself"
RESULTS = Path(__file__).parents[1] / "results" / "hint_molecules"
COLOURS = {PRE_TRAINED: "C0", CLOSED_FORM: "C2", SCRATCH: "C1", LONG_SCRATCH: "C3"}
NEAR = 1.1
"""Multiple of the error with all Hessians that counts as being as good."""
RISE = 0.05
"""Rise of an error above its least value that counts as one."""
Rows = Sequence[dict[str, Any]]
TITLE = (
    "# Good Hessians that a potential of molecules needs",
    "",
    "`python -m benchmarks.hint.molecules` and `--part weight`",
    "",
    "Pre-trained on GFN2-xTB Hessians, fine-tuned on ωB97X/6-31G(d) energies and forces of all structures",
    "to learn from and the Hessians of a share of them. Judged on structures held out: of molecules of which",
    "other structures are learnt from (known), and of molecules of which no good label is (new; the cheap",
    "labels have other structures of them). Mean absolute errors are those of each structure, averaged; ± is",
    "the spread of the seeds.",
    "",
)


def write_report(study: Study) -> None:
    """Markdown and figure beside the numbers."""
    text = [*TITLE, *setting(study), *shares(study), *weights(study), *choices(study), *claims(study), ""]
    study.path.with_suffix(".md").write_text("\n".join(text), encoding="utf-8")
    figure(study, study.path.with_suffix(".png"))


def setting(study: Study) -> list[str]:
    """What was done, in figures."""
    s = study.settings
    networks = "one pre-trained network" if s["pretrained_networks"] == 1 else (
        f"{s['pretrained_networks']} pre-trained networks in turn"
    )  # fmt: skip
    return [
        f"{s['learnt_from']} structures to learn from, whose Hessians have {s['columns']} columns; held out "
        f"{s['held_out_known']} of known and {s['held_out_new']} of new molecules. {s['channels']} channels, "
        f"{s['hidden']} hidden units; {s['pretraining_steps']} steps of pre-training ({networks}), "
        f"{s['steps']} of every fine-tuning and from scratch, {s['longer'] * s['steps']} of "
        f"“{LONG_SCRATCH}”.",
        "",
    ]


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    """A table."""
    return [f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *lines)] + [""]


def errors(rows: Rows) -> list[str]:
    """Cells of the table."""
    digits = {"hessian_mae": 2, "hessian_mae_known": 2, "hessian_mae_new": 2, "eigenvalue_mae": 2}
    digits |= {"force_mae_mev_per_angstrom": 0, "lowest_mode_cosine": 2}
    found = []
    for name, places in digits.items():
        values = [row[name] for row in rows]
        found.append(spread(values, places) if len(values) > 1 else f"{values[0]:.{places}f}")
    return [*found, f"{100 * np.mean([row['sign_agreement'] for row in rows]):.1f}"]


ERRORS = ["Hessian MAE (eV/Å²)", "known", "new", "eigenvalue MAE (eV/Å²)", "force MAE (meV/Å)"]
ERRORS += ["lowest mode, cosine", "signs right (%)"]


def groups(rows: Rows, *keys: str) -> dict[tuple, list[dict[str, Any]]]:
    """Rows of all seeds that differ in nothing else."""
    found: dict[tuple, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def percent(study: Study, rows: Rows) -> str:
    """Share of the columns of all Hessians, and what they are."""
    mean = 100 * np.mean([row["columns"] for row in rows]) / study.settings["columns"]
    shown = f"{mean:.0f}" if mean >= 10 else f"{mean:.2g}"
    count, columns = rows[0]["hessians"], rows[0]["columns"]
    return (
        f"{columns} column{'s'[: columns > 1]} ({shown} %)"
        if columns and not count
        else f"{count} ({shown} %)"
    )


def shares(study: Study) -> list[str]:
    """Table of the part `share`."""
    lines = []
    for (start, _), rows in groups(study.chosen(part="share"), "start", "share").items():
        seconds = np.mean([row["cpu_seconds"] for row in rows])
        lines.append([start, percent(study, rows), str(len(rows)), *errors(rows), f"{seconds:.0f}"])
    return markdown(["start", "Hessians", "seeds", *ERRORS, "CPU s"], lines) if lines else []


def weights(study: Study) -> list[str]:
    """Table of the part `weight`."""
    found = groups(study.chosen(part="weight"), "weight", "curriculum")
    if not found:
        return []
    lines = []
    for (weight, curriculum), rows in sorted(found.items()):
        cells = [percent(study, rows), str(len(rows)), *errors(rows), spread(rises(rows), 0)]
        lines.append([f"{weight:g}, {curriculum}", *cells])
    text = (
        "Few Hessians, from the pre-trained network; the weight of the Hessian is constant, or grows",
        "linearly from a twentieth of its final value. Last column: by how much the held-out Hessian error",
        "(RMS of the rows) at the end exceeds its least value along the training, the beginning included.",
        "",
    )
    header = ["weight", "Hessians", "seeds", *ERRORS, "end above least (%)"]
    return [*text, *markdown(header, lines)]


def choices(study: Study) -> list[str]:
    """What was tried on a quarter of the structures to learn from."""
    tried = groups(study.chosen(part="choice"), "start")
    lines = []
    for (start,), rows in tried.items():
        best = min(rows, key=lambda row: row["hessian_mae"])
        what = "multiple of the noise" if start == CLOSED_FORM else "learning rate"
        found = ", ".join(f"{row['rate']:g}: {row['hessian_mae']:.2f}" for row in rows)
        lines.append(f"- {start}, {what}: {found}; taken: {best['rate']:g}")
    text = "Hessian MAE (eV/Å²) on a quarter of the structures to learn from, by what was chosen there:"
    return [text, "", *lines, ""] if lines else []


def rises(rows: Rows) -> list[float]:
    """By how many per cent the error at the end of a training exceeds its least value along the way."""
    ends = [[value for _, value in row["trajectory"]] for row in rows]
    return [100 * (values[-1] / min(values) - 1) for values in ends]


def mean_of(rows: Rows) -> float:
    """Mean Hessian error, NaN of none."""
    return float(np.mean([row["hessian_mae"] for row in rows])) if rows else float("nan")


def outcome(ratios: Sequence[float]) -> str:
    """Whether something is smaller in every seed, with the ratios."""
    return f"**{verdict(ratios)}**, Hessian MAE {spread(ratios, 2)} times"


def ratios(first: Rows, second: Rows) -> list[float]:
    """Hessian errors over those of the same seed; of one row in all seeds if there is but one."""
    base = {row["seed"]: row["hessian_mae"] for row in second}
    return [row["hessian_mae"] / base.get(row["seed"], second[0]["hessian_mae"]) for row in first]


def claims(study: Study) -> list[str]:
    """Whether the claims held: as soon as the rows that they need are there."""
    own = study.chosen(part="share")
    of = {key: rows for key, rows in groups(own, "start", "share").items()}
    lines = [*claims_of_pretraining(study, of), *claims_of_weights(study)]
    return ["Claims (held: in every seed):", "", *lines] if lines else []


def claims_of_pretraining(study: Study, of: dict[tuple, list[dict[str, Any]]]) -> list[str]:
    """Claims that rest on the part `share`."""
    tuned = {share: rows for (start, share), rows in of.items() if start == PRE_TRAINED}
    untuned, cheap = of.get((NOT_TUNED, 0.0)), of.get((CHEAP_METHOD, 0.0))
    longest = of.get((LONG_SCRATCH, 1.0))
    if 1.0 not in tuned or not untuned or not cheap or not longest:
        return []
    lines = []
    for other, rows in ((SCRATCH, of[SCRATCH, 1.0]), (LONG_SCRATCH, longest)):
        enough = [share for share in sorted(tuned) if max(ratios(tuned[share], rows)) < 1]
        text = f"- pre-training saves good Hessians (against “{other}” with all of them): "
        least = f"**held** from {percent(study, tuned[enough[0]])} on" if enough else "**did not hold**"
        lines.append(f"{text}{least}; with all, {spread(ratios(tuned[1.0], rows), 2)} times its Hessian MAE")
    near = [share for share in sorted(tuned) if mean_of(tuned[share]) <= NEAR * mean_of(tuned[1.0])]
    found = f"**held** from {percent(study, tuned[near[0]])} on" if near[0] < 1 else "**did not hold**"
    lines += [
        f"- pre-training and few Hessians are as good as all, within {100 * (NEAR - 1):.0f} % (the paper: "
        f"with 0.6 %): {found}",
        "- energies and forces alone keep the curvature that was learnt (fine-tuned without Hessians, "
        f"against not fine-tuned): {outcome(ratios(tuned[0.0], untuned))}",
        f"- fine-tuned with all Hessians, better than the cheap method: {outcome(ratios(tuned[1.0], cheap))}",
    ]
    for share, rows in sorted(tuned.items()):
        if (CLOSED_FORM, share) in of:
            text = f"- the closed form beats steps of gradients, {percent(study, rows)} Hessians"
            lines.append(f"{text}: {outcome(ratios(of[CLOSED_FORM, share], rows))}")
    return lines


def claims_of_weights(study: Study) -> list[str]:
    """Claims that rest on the part `weight`."""
    found = groups(study.chosen(part="weight"), "weight", "curriculum")
    pairs = {w: (found.get((w, "linear"), []), found.get((w, "constant"), [])) for w, _ in sorted(found)}
    complete = {w: pair for w, pair in pairs.items() if pair[0] and len(pair[0]) == len(pair[1])}
    lines = []
    for weight, (growing, constant) in complete.items():
        text = outcome(ratios(growing, constant))
        lines.append(f"- growing weight better than constant, {weight:g} at the end: {text}")
    for number, name in ((1, "constant"), (0, "growing")) if complete else ():
        risen = {weight: rises(pair[number]) for weight, pair in complete.items()}
        seen = any(min(values) > 100 * RISE for values in risen.values())
        shown = ", ".join(f"{weight:g}: {spread(values, 0)} %" for weight, values in risen.items())
        lines.append(
            f"- with few Hessians and a {name} weight the held-out error falls and rises again (by more "
            f"than {100 * RISE:.0f} % in every seed at one weight): "
            f"**{'held' if seen else 'did not hold'}**; {shown}"
        )
    return lines


def figure(study: Study, path: Path) -> None:
    """Error against the share of Hessians, against the weight, and along the training."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    drawing, (left, middle, right) = plt.subplots(1, 3, figsize=(14, 4.2), layout="constrained")
    draw_shares(left, study)
    rows = study.chosen(part="weight")
    for curriculum, style in (("linear", "-"), ("constant", "--")):
        word = "growing" if curriculum == "linear" else curriculum
        own = groups([row for row in rows if row["curriculum"] == curriculum], "weight")
        places = {key[0]: values for key, values in own.items()}
        points(middle, places, label=f"{word} weight", linestyle=style, color="C0")
        for k, ((weight,), values) in enumerate(sorted(own.items())):
            x = [place for place, _ in values[0]["trajectory"]]
            y = np.mean([[value for _, value in row["trajectory"]] for row in values], axis=0)
            right.plot(x, y, style, color=f"C{k}", label=f"{word}, {weight:g}")
    middle.set(xscale="log", xlabel="final weight of the Hessian", ylabel="held-out Hessian MAE (eV/Å²)")
    right.set(xlabel="progress of training", ylabel="held-out rows, RMS error (eV/Å²), mean of seeds")
    for axes, columns in ((left, 2), (middle, 1), (right, 2)):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(frameon=False, fontsize=8, ncols=columns)
    drawing.savefig(path, dpi=130)
    plt.close(drawing)


def draw_shares(axes: Any, study: Study) -> None:
    """Error against the share of the columns."""
    total = study.settings["columns"]
    for start, colour in COLOURS.items():
        own = groups(study.chosen(part="share", start=start), "share")
        places = {100 * float(np.mean([r["columns"] for r in rows])) / total: rows for rows in own.values()}
        points(axes, places, label=start, color=colour, linestyle="-" if len(places) > 1 else "")
    for start, style in ((CHEAP_METHOD, ":"), (NOT_TUNED, "-.")):
        for row in study.chosen(part="share", start=start):
            axes.axhline(row["hessian_mae"], color="grey", linestyle=style, label=start)
    axes.set_xscale("symlog", linthresh=0.1)
    axes.set_xticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
    axes.set_xlim(-0.03, 140)
    axes.set(xlabel="share of the ωB97X Hessians (%)", ylabel="held-out Hessian MAE (eV/Å²)", yscale="log")
    axes.set_ylim(0.4, 40)
    axes.set_yticks([0.5, 1, 2, 4, 8, 16], ["0.5", "1", "2", "4", "8", "16"])
    axes.minorticks_off()


def points(axes: Any, places: dict[float, list[dict[str, Any]]], **style: Any) -> None:
    """Means over seeds with their spread."""
    x = sorted(places)
    values = [[row["hessian_mae"] for row in places[key]] for key in x]
    if x:
        axes.errorbar(
            x, [np.mean(v) for v in values], [np.std(v) for v in values], marker="o", ms=4, capsize=3, **style
        )
