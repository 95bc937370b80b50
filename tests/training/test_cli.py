"""How commands of the offline half end."""

from pathlib import Path

import numpy as np
import pytest

from tests.training.rendering_mesh import write_mesh
from training import cli
from training.rendering.__main__ import main as render


def failing() -> None:
    raise ValueError("that cannot be")


def test_wrong_arguments_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A command whose data are wrong says so on one line and ends with status 2."""
    with pytest.raises(SystemExit) as ended:
        cli.run(failing)
    assert (ended.value.code, capsys.readouterr().err) == (2, "error: that cannot be\n")


@pytest.mark.parametrize("text", ["0", "-1", "many"])
def test_counts_are_positive(text: str) -> None:
    """A count below one, or no number, is refused."""
    with pytest.raises(ValueError, match=r"less than 1|invalid literal"):
        cli.positive(text)


def test_a_finished_set_is_not_rendered_over(tmp_path: Path) -> None:
    """Rendering into a folder that holds a set is refused, and the set stays as it is."""
    mesh = write_mesh(tmp_path / "mesh.npz")
    given = ["--mesh", str(mesh), "--out", str(tmp_path / "set"), "--sequences", "2"]
    render(given)
    before = (tmp_path / "set" / "frames.npy").read_bytes()
    with pytest.raises(ValueError, match="finished set"):
        render(given)
    assert (tmp_path / "set" / "frames.npy").read_bytes() == before


def test_a_mesh_whose_shapes_have_other_names_is_refused(tmp_path: Path) -> None:
    """A mesh that cannot show the emotions gives no still faces with labels."""
    mesh = write_mesh(tmp_path / "mesh.npz")
    with np.load(mesh) as stored:
        arrays = dict(stored)
    arrays["expr_names"] = np.array(
        [name.replace("_L", "Left").replace("_R", "Right") for name in arrays["expr_names"]]
    )
    np.savez(tmp_path / "other.npz", **arrays)
    with pytest.raises(ValueError, match="lacks shapes"):
        render(["--mesh", str(tmp_path / "other.npz"), "--out", str(tmp_path / "set"), "--sequences", "2"])
