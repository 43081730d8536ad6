"""Draws the dashboard's panels as one picture, from a Prometheus that has scraped the server under load."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

UNITS = {"s": "seconds", "Bps": "bytes/s", "reqps": "1/s", "ops": "1/s", "bytes": "bytes", "percentunit": "share"}


def legend(template: str, labels: dict[str, str]) -> str:
    """A series' name, as Grafana makes it."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), template).strip() or "all"


def draw(dashboard: Path, ask: Callable[..., Any], bound: Callable[[str], str], seconds: float, file: Path) -> None:
    """Asks `ask(path, **parameters)` for each panel's range, and draws them where the dashboard has them."""
    panels = json.loads(dashboard.read_text())["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    figure = pyplot.figure(figsize=(20, rows * 0.42), facecolor="white")
    end = time.time()
    for panel in panels:
        place = panel["gridPos"]
        left, width = place["x"] / 24, place["w"] / 24
        bottom, height = 1 - (place["y"] + place["h"]) / rows, place["h"] / rows
        if panel["type"] == "row":
            figure.text(left + 0.01, bottom + height / 3, panel["title"], fontsize=15, weight="bold")
            continue
        axes = figure.add_axes((left + 0.03, bottom + 0.2 * height, width - 0.045, 0.62 * height))
        unit = panel["fieldConfig"]["defaults"].get("unit", "short")
        axes.set_title(f"{panel['title']}" + (f" ({UNITS[unit]})" if unit in UNITS else ""), fontsize=9, loc="left")
        names = []
        for target in panel["targets"]:
            span = {"start": str(end - seconds), "end": str(end), "step": "1"}
            for series in ask("query_range", query=bound(target["expr"]), **span)["result"]:
                points = [(float(at) - end, float(value)) for at, value in series["values"] if value != "NaN"]
                if points:
                    name = legend(target["legendFormat"], series["metric"])
                    names.append(name)
                    axes.plot(*zip(*points, strict=True), linewidth=1, label=name)
        axes.set_xlim(-seconds, 0)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3)
        if panel["fieldConfig"]["defaults"].get("min") == 0 or panel["type"] == "stat":
            axes.set_ylim(bottom=0)
        if not names:
            axes.text(0.5, 0.5, "no data", transform=axes.transAxes, ha="center", color="grey")
        elif names != ["all"]:
            axes.legend(fontsize=6, loc="upper left", ncols=2)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=60)
