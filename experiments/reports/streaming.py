"""What streaming images from disk costs, compared with holding them on the device."""

from pathlib import Path

from experiments.common import files
from experiments.reports import NOT_RUN, markdown, named, runs


def section(results: Path) -> str:
    """Return the table of ``results/streaming_speed``."""
    path = results / "streaming_speed" / "streaming_speed.json"
    if not path.is_file():
        return f"{NOT_RUN} `python -m experiments.streaming_speed --out {named(path.parent)}`"
    content = files.read_json(path) or {}
    rows = [
        [
            name,
            "×".join(map(str, cell["image_shape"])),
            f"{cell['resident_images_per_second']:,.0f}",
            f"{cell['streamed_images_per_second']:,.0f}",
            f"{cell['streamed_over_resident']:.2f}",
        ]
        for name, cell in content["results"].items()
    ]
    return "\n\n".join(
        [
            f"Command: `{content['command']}`; median of {content['repeats']} repeats; "
            f"{content['device']}; commit `{runs.short(content['commit'])}`.",
            markdown.table(
                (
                    "network",
                    "images",
                    "in memory, images/s",
                    "streamed, images/s",
                    "ratio, median of repeats",
                ),
                rows,
            ),
        ]
    )
