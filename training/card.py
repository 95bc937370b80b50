"""Write model cards from the manifests: `python -m training.card model_store/*/*` (detectors are passed over).

The prose is in `cards/`: a head for every network, and the rest by what it learnt from. Figures come from the manifest
alone.
"""

from argparse import ArgumentParser
from pathlib import Path

from training import cli, manifest
from training.datasets import titles
from training.provenance import short
from training.report import faces_table, learnt_from_faces, windows_table

PROSE = Path(__file__).with_name("cards")

FACES = {
    "lead": "Reads the expression on one face from {frames}: probabilities of seven labels.",
    "meaning": (
        "The look of a face as strangers name it: ten annotators saw each picture for a moment. It is not what the\n"
        "person feels. People smile without joy and grieve with a still face, and how a face shows something differs\n"
        "between persons and cultures."
    ),
    "meant": (
        "Showing someone what a face expresses while a talk goes on, where the person asked for it and knows that it\n"
        "errs; research; demonstrations. Show the uncertainty with the answer: an answer called uncertain is better\n"
        "not shown as a label."
    ),
    "unfit": "",
}
RENDERED = {
    "lead": (
        "**Trained on rendered faces only, for comparison: not for people.** Reads the expression on one rendered\n"
        "face from {frames}."
    ),
    "meaning": "The expression that the renderer was told to draw, however faint; nobody has judged the pictures.",
    "meant": "Comparing architectures, and measuring what they cost in the service.",
    "unfit": "- Reading real faces.\n",
}
SURE = (
    "{uncertain_below}: on what it was calibrated on ({certain[split]}) {certain[accuracy]:.1%} of the answers at or "
    "above it are right; {certain[coverage]:.0%} of all answers reach it"
)
NEVER_SURE = "always: it has never seen a person ({uncertain_below} on {certain[split]}, where nine in ten are right)"
FIVE_FRAMES, LAST_FRAME = "five frames in a row", "the last of five frames in a row"
NOTES = {
    "timeconv-mobilenetv2": (
        "- It needs more training: it gained five points on PublicTest in the second half of its 20 epochs.\n"
    ),
    "timeconv-mini-xception": "- It names next to no face of disgust.\n",
}
INT8 = (
    "| int8 | `{file}`, for `TIMECONV_PRECISION=int8`: FER+ accuracy {scores[ferplus_accuracy_int8]:.3f} for "
    "{scores[ferplus_accuracy_float32]:.3f} (PublicTest, de-duplicated), ECE {scores[ece_int8]:.3f} for "
    "{scores[ece_float32]:.3f}; a probability differs by up to {scores[differs]:.2f} |\n"
)
ONE_FRAME = "It sees one frame, the last of a window: what came before is not read.\n- "
STILLS = (
    "Its motion was made from stills: windows are one picture moved, lit and disturbed. It has seen no real face that\n"
    "  changes its expression within a window. No openly licensed, labelled video of facial expression could be had\n"
    "  (CK+, BAUM-1 and eNTERFACE'05 need signed agreements), so none of these figures can be set beside the paper's."
)


def card(described: manifest.Manifest) -> str:
    """Fill the prose with a manifest's figures.

    Raises:
        ValueError: something has not been measured yet, or there is no prose for what the network learnt from.
    """
    real = learnt_from_faces(described)
    if not real and described["learnt_from"] != titles.RENDERED:
        raise ValueError(f"there is no card for a network that learnt from {described['learnt_from']}")
    if (split := "private" if real else "test") not in described["scores"]:
        raise ValueError(f"{described['name']}: run training.evaluate --split {split} first")
    if "latency" not in described:
        raise ValueError(f"{described['name']}: run training.latency first")
    text = _read("head") + "\n" + _read("faces" if real else "rendered")
    prose = FACES if real else RENDERED
    one_frame = described["name"].endswith("-2d")
    return text.format_map(
        described
        | prose
        | {
            "lead": prose["lead"].format(frames=LAST_FRAME if one_frame else FIVE_FRAMES),
            "int8_row": INT8.format_map(described["int8"]) if "int8" in described else "",
            "notes": NOTES.get(described["name"], ""),
            "labels": ", ".join(described["labels"]),
            "certain": described["scores"]["certain"],
            "uncertain": (SURE if real else NEVER_SURE).format_map(
                described | {"certain": described["scores"]["certain"]}
            ),
            "private": described["scores"].get("private", {}).get("certain"),
            "scores": faces_table([described]) if real else windows_table([described]),
            "input_shape": _shape(described["input"]["shape"]),
            "output_shape": _shape(described["output"]["shape"]),
            "millions": described["macs"] / 1e6,
            "commit": short(described["training"]["commit"]),
            "data": _data(described["training"]["data"]),
            "motion": ONE_FRAME + STILLS if one_frame else STILLS,
            "seen": "has learnt from beside its photographs"
            if "rendered" in described["training"]["data"]
            else "never saw",
        }
    )


def _data(said: str) -> str:
    """What a network learnt from, without saying twice what the network it began with had learnt from as well."""
    first, begun, then = said.partition("; begun with the weights of a network that learnt from: ")
    if not begun:
        return said
    same = first.split("; ")[:2]
    others = [part for part in then.split("; ") if part not in same]
    return f"{first}{begun.removesuffix(' from: ')} {'; '.join(['from the same pictures', *others])}"


def _read(name: str) -> str:
    return (PROSE / f"{name}.md").read_text(encoding="utf-8")


def _shape(dimensions: list[int | str]) -> str:
    return f"[{', '.join(str(dimension) for dimension in dimensions)}]"


def main() -> None:
    """Read the command line and write each `README.md`."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", help="version folders, e.g. model_store/timeconv-resnet20/1")
    for folder in parser.parse_args().models:
        described = manifest.read(folder)
        if described["kind"] == "network":
            (folder / "README.md").write_text(card(described), encoding="utf-8")


if __name__ == "__main__":
    cli.run(main)
