"""The experiment as one HTML page: tables, curves, the perception-distortion plane, pictures.

It shows real faces, so it lies in the folder of the runs, which git ignores.
"""

import base64
import html
import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure

from service.vision.images import Image
from training.data.dataset import EyeFacePairs
from training.data.splits import Split
from training.data.store import Pairs
from training.errors import RunNotFound
from training.evaluation.benchmark import Metrics, true_faces
from training.experiment.results import Row
from training.experiment.run import DRAWN, folder_of
from training.experiment.tables import (
    BOUND,
    COLUMNS,
    SLICED,
    cell,
    group_by_system,
    render_results,
    rows_of_main_split,
)
from training.loop.run_folder import read_stats

matplotlib.use("Agg")

NUM_COLUMNS = 15
"""How many eyes a grid shows."""

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em; color: #1b1b1b; background: #fff }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px }
td, th { border: 1px solid #bbb; padding: .25em .5em; text-align: right }
td:first-child, th:first-child { text-align: left }
div { overflow-x: auto }
pre { white-space: pre-wrap }
"""


def write_page(path: Path, rows: list[Row], pairs: Pairs, out: Path) -> None:
    """Writes the page of the rows, with the pictures of the runs in `out`."""
    every, rows = rows, rows_of_main_split(rows)
    parts = [
        "<h1>One eye, one face: every objective</h1>",
        "<h2>Numbers</h2>", _table(rows),
        *(f"<p>{html.escape(note)}</p>" for note in render_results(rows).split("\n\n", 1)[1].split("\n")),
        "<h2>Distortion and perception</h2>",
        *(_figure(plane(rows, key)) for key in ("kid_vgg", "kid_encoder")),
        "<h2>Slices</h2>", _slices(every),
        "<h2>Pictures</h2>", *_pictures(rows, pairs, out),
        "<h2>Curves</h2>", *_curves(rows, out),
    ]  # fmt: skip
    head = f'<!doctype html><meta charset="utf-8"><title>The experiment</title><style>{STYLE}</style>'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, *parts]) + "\n", encoding="utf-8")


def plane(rows: list[Row], key: str) -> Figure:
    """Every system by its L2 and its KID, and the L2 that full variance must cost at least."""
    figure, axes = pyplot.subplots(figsize=(9, 6))
    for name, runs in group_by_system(rows).items():
        points = np.array([(run["metrics"]["l2"], run["metrics"][key]) for run in runs])
        drawn = axes.plot(points[:, 0], points[:, 1], "o", markersize=6)
        axes.annotate(
            name, points[0], xytext=(5, 4), textcoords="offset points", fontsize=8,
            color=drawn[0].get_color(),
        )  # fmt: skip
    for row in rows:
        if row["system"] == BOUND:
            for form, style in (("by_component", "-"), ("by_pixel", "--"), ("scalar", ":")):
                label = f"least L2 at full variance, {form.replace('_', ' ')}"
                axes.axvline(row["metrics"][f"l2_{form}"], color="grey", linestyle=style, label=label)
            axes.legend(fontsize=8)
    axes.set(xlabel="distortion: L2", ylabel=f"perception: {key.replace('kid_', 'KID, ')}")
    axes.set_yscale("symlog", linthresh=0.01)
    lowest = min(row["metrics"][key] for row in rows if row["system"] != BOUND)
    axes.set_ylim(bottom=min(0.0, 1.5 * lowest) - 0.001)
    figure.tight_layout()
    return figure


def _table(rows: list[Row]) -> str:
    head = "".join(f"<th>{html.escape(column.heading)}</th>" for column in COLUMNS)
    lines = [f"<tr><th>{rows[0]['split']}</th><th>seeds</th>{head}<th>seconds</th><th>commit</th></tr>"]
    for name, runs in group_by_system(rows).items():
        cells = [str(len(runs)), *(cell(runs, column) for column in COLUMNS)]
        cells += [f"{np.mean([run['seconds'] for run in runs]):.0f}" if "seconds" in runs[0] else ""]
        cells += [runs[0]["commit"]]
        texts = "".join(f"<td>{html.escape(text)}</td>" for text in cells)
        lines.append(f"<tr><td>{html.escape(name)}</td>{texts}</tr>")
    return f"<div><table>{''.join(lines)}</table></div>"


def _slices(rows: list[Row]) -> str:
    """Each system on each slice; what the main split lacks comes from another one, marked so."""
    systems = group_by_system(rows_of_main_split(rows))
    here = {name for runs in systems.values() for name in runs[0]["slices"]}
    main = rows_of_main_split(rows)[0]["split"]
    known: dict[str, dict[str, Metrics]] = {system: {} for system in systems}
    for row in (row for row in rows if row["system"] in systems):
        for name, numbers in row["slices"].items():
            if row["split"] == main:
                known[row["system"]].setdefault(name, numbers)
            elif name not in here:
                known[row["system"]].setdefault(f"{name} ({row['split']})", numbers)
    names = list(dict.fromkeys(name for slices in known.values() for name in slices))
    lines = []
    for column in SLICED:
        head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
        lines.append(f"<tr><th>{html.escape(column.heading)}</th>{head}</tr>")
        for system, slices in known.items():
            texts = (
                f"{slices[name][column.key] * column.factor:.{column.digits}f}"
                if column.key in slices.get(name, {})
                else ""
                for name in names
            )
            lines.append(
                f"<tr><td>{html.escape(system)}</td>{''.join(f'<td>{text}</td>' for text in texts)}</tr>"
            )
    return f"<div><table>{''.join(lines)}</table></div>"


def _pictures(rows: list[Row], pairs: Pairs, out: Path) -> Iterator[str]:
    split: Split = rows[0]["split"]
    rows = [row for row in rows if row.get("recipe", {}).get("part", "eye") == "eye"]
    dataset = EyeFacePairs(pairs, split)
    chosen = np.linspace(0, len(dataset) - 1, min(NUM_COLUMNS, len(dataset))).astype(int)
    eyes = np.stack([dataset[int(i)][0].permute(1, 2, 0).numpy() for i in chosen])
    true = true_faces(dataset)
    drawn: dict[str, Image] = {}
    for name, runs in group_by_system(rows).items():
        file = folder_of(out, name, runs[0]["seed"]) / DRAWN.format(split=split)
        if file.exists():
            drawn[name] = np.load(file, mmap_mode="r")
    yield "<h3>Clearness: the eye, each system in the order of the table, the true face</h3>"
    names = ["eye", *drawn, "true face"]
    yield _image([eyes, *(faces[chosen] for faces in drawn.values()), true[chosen]], names=names)
    for name in ("layer-stdmap-64", "l1-64"):
        if name in drawn:
            step = max(1, len(dataset) // (4 * NUM_COLUMNS))
            many = [np.array(drawn[name][i::step][:NUM_COLUMNS]) for i in range(min(4, step))]
            yield f"<h3>Variety: {name}</h3>" + _image([each for each in many if len(each) == len(many[0])])
    yield "<h3>Features of one face: ours above, the true face below, enlarged</h3>"
    if "layer-stdmap-64" in drawn:
        few = chosen[:: max(1, len(chosen) // 6)]
        yield _image([drawn["layer-stdmap-64"][few], true[few]], side=160)


def _image(rows: list[Image], side: int = 96, names: list[str] | None = None) -> str:
    """The rows of pictures, each with its name at its left if there are names."""
    lines = [
        np.hstack([cv2.resize(np.asarray(each), (side, side), interpolation=cv2.INTER_CUBIC) for each in row])
        for row in rows
    ]
    if names is not None:
        labels = [np.full((side, 2 * side, 3), 255, np.uint8) for _ in names]
        for label, name in zip(labels, names, strict=True):
            cv2.putText(
                label, name, (4, side // 2), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA
            )
        lines = [np.hstack(both) for both in zip(labels, lines, strict=True)]
    done, png = cv2.imencode(".png", np.vstack(lines)[..., ::-1])
    assert done
    return _embedded(png.tobytes())


def _curves(rows: list[Row], out: Path) -> Iterator[str]:
    for name, runs in group_by_system(rows).items():
        try:
            lines = list(read_stats(folder_of(out, name, runs[0]["seed"])))
        except (FileNotFoundError, RunNotFound):
            continue
        terms = [term for term in lines[-1] if term not in ("step", "seconds_per_step")]
        figure, axes = pyplot.subplots(1, len(terms), figsize=(3 * len(terms), 2.4), squeeze=False)
        for axis, term in zip(axes[0], terms, strict=True):
            axis.plot([line["step"] for line in lines], [line[term] for line in lines])
            axis.set(title=term)
        figure.tight_layout()
        yield f"<h3>{html.escape(name)}</h3>" + _figure(figure)


def _figure(figure: Figure) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=90)
    pyplot.close(figure)
    return _embedded(file.getvalue())


def _embedded(png: bytes) -> str:
    return f'<div><img alt="" src="data:image/png;base64,{base64.b64encode(png).decode()}"></div>'
