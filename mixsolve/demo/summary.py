"""The report of the demo in a screenful of text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def summarise(report: Mapping[str, Any]) -> str:
    """The main numbers of a report of `run_demo`, and what holds."""
    plane, digits = report["plane"], report["digits"]
    lines = [
        "Plane game (section 5.1 of the paper): adversarial risk, 0/1 loss",
        "  radius  lower bound     value  all attacks  best single   gain | out of sample: mixture  best single",
    ]
    lines += [
        f"  {row['radius']:6.2f} {row['lower_bound']:12.6f} {row['value']:9.6f} "
        f"{row['against_all_attacks']['value']:12.6f} "
        f"{row['in_sample']['best_single']:12.3f} {row['gain']:6.3f} | "
        f"{row['out_of_sample']['mixture']:21.3f} {row['out_of_sample']['best_single']:12.3f}"
        for row in plane["radii"]
    ]
    first, paper = plane["strictly_better_from"], plane["strictly_better_beyond_in_the_paper"]
    if first is None:
        lines.append("The mixture is not strictly better at the largest radius.")
    else:
        lines.append(
            f"The mixture is strictly better from radius {first:g} on; in the paper, beyond {paper:g}."
        )
    convergence = plane["convergence"]
    lines += [
        "",
        f"Convergence at radius {convergence['radius']:g}: excess over the value, and what is guaranteed",
    ]
    for run in convergence["runs"]:
        name = f"regularised, t = {run['temperature']:g}" if run["temperature"] else "oracle (Algorithm 1)"
        lines.append(
            f"  {name:<24} {run['excess']:9.6f} <= {run['guarantee']:.6f}   after {run['passes']} passes"
        )
    lines += ["", "Digits game: adversarial risk in sample | on fresh attacks | on fresh images"]
    for row in digits["losses"]:
        lines.append(
            f"  {row['loss'].replace('_', ' ')}: value in [{row['lower_bound']:.6f}, {row['value']:.6f}]"
        )
        for player in ("best_single", "uniform", "mixture"):
            numbers = [row[where][player] for where in ("in_sample", "fresh_attacks", "fresh_images")]
            lines.append(
                f"    {player.replace('_', ' '):<12}" + " | ".join(f"{number:6.3f}" for number in numbers)
            )
    lines.append("")
    lines += [f"[{'holds' if holds else 'FAILS'}] {name}" for name, holds in report["checks"].items()]
    return "\n".join(lines)
