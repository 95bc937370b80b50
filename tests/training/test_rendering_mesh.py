"""Reading a packed mesh, thinning it, and packing a checkout of the kit."""

import json
from pathlib import Path

import numpy as np
import pytest

from tests.training.rendering_mesh import write_mesh
from training.rendering.geometry import Region
from training.rendering.mesh import ICT_VERTICES, ict_regions, load
from training.rendering.pack import NotAKitError, check_numbering, pack, read_obj, write
from training.rendering.thinning import open_sky, thin

TETRAHEDRON = [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 0.0)]


def write_obj(path: Path, shift: float = 0.0) -> None:
    """Write five vertices, the last one moved, a quad with texture and normal, and a triangle counted from the end."""
    vertices = [*TETRAHEDRON[:4], (1.0, 1.0 + shift, 0.0)]
    lines = ["# a comment", "mtllib no.mtl", *(f"v {x} {y} {z}" for x, y, z in vertices), "vt 0 0", "vn 0 0 1"]
    path.write_text("\n".join([*lines, "", "f 1/1/1 2/1/1 5/1/1 3//1", "f -5 -4 -2", ""]))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Write a kit of five vertices, two expression shapes and two identity components."""
    folder = tmp_path / "kit" / "FaceXModel"
    folder.mkdir(parents=True)
    shapes = {"generic_neutral_mesh": 0.0, "jawOpen": 0.5, "browDown_L": -0.25, "identity001": 2.0, "identity000": 1.0}
    for name, shift in shapes.items():
        write_obj(folder / f"{name}.obj", shift)
    (folder / "vertex_indices.json").write_text(
        json.dumps({"idx_to_landmark_verts": [index % 5 for index in range(68)]})
    )
    return tmp_path / "kit"


def test_a_polygon_becomes_a_fan_and_corners_may_be_written_in_every_way(tmp_path: Path) -> None:
    """Texture and normal numbers are passed over; negative numbers count from the last vertex."""
    write_obj(tmp_path / "mesh.obj")
    vertices, triangles = read_obj(tmp_path / "mesh.obj")
    assert vertices.tolist() == [list(vertex) for vertex in TETRAHEDRON]
    assert triangles.tolist() == [[0, 1, 4], [0, 4, 2], [0, 1, 3]]


def test_a_packed_kit_reads_back(checkout: Path, tmp_path: Path) -> None:
    """Shapes come by name, identities in their order, both as differences from the neutral shape."""
    write(tmp_path / "mesh.npz", pack(checkout, vertices=5))
    with np.load(tmp_path / "mesh.npz") as packed:
        assert packed["expr_names"].tolist() == ["browDown_L", "jawOpen"]
        assert (packed["expr"].dtype, packed["tri"].dtype) == (np.float16, np.int32)
        assert packed["expr"][:, 4, 1].tolist() == [-0.25, 0.5]
        assert packed["ident"][:, 4, 1].tolist() == [1.0, 2.0]
        assert not packed["expr"][:, :4].any()
        assert packed["landmarks"].shape == (68,)
        assert packed["regions"].tolist() == [Region.FACE] * 5


def test_what_is_no_kit_is_refused_by_name(checkout: Path, tmp_path: Path) -> None:
    """A missing file and a wrong number of vertices are named."""
    with pytest.raises(NotAKitError, match=r"lacks generic_neutral_mesh.obj or vertex_indices.json"):
        pack(tmp_path)
    with pytest.raises(NotAKitError, match=r"has 5 vertices; 26719 were expected"):
        pack(checkout)
    (checkout / "FaceXModel" / "jawOpen.obj").write_text("v 0 0 0\n")
    with pytest.raises(NotAKitError, match=r"jawOpen.obj has 1 vertices, the neutral shape 5"):
        pack(checkout, vertices=5)


def test_a_kit_numbered_otherwise_is_refused(tmp_path: Path) -> None:
    """Eyeballs must lie between the lids; those of the mouth will not do."""
    with np.load(write_mesh(tmp_path / "mesh.npz")) as whole:
        check_numbering(whole["neutral"], whole["landmarks"], whole["regions"])
        with pytest.raises(NotAKitError, match="numbered otherwise"):
            check_numbering(whole["neutral"], np.roll(whole["landmarks"], -18), whole["regions"])


def test_a_mesh_without_landmarks_is_refused(tmp_path: Path) -> None:
    """Nothing is guessed about a mesh that is not the kit's."""
    np.savez(tmp_path / "mesh.npz", neutral=np.zeros((4, 3), np.float32))
    with pytest.raises(ValueError, match="names no landmarks"):
        load(tmp_path / "mesh.npz")


def test_thinning_keeps_landmarks_and_leaves_whole_triangles(tmp_path: Path) -> None:
    """Landmarks stay where they were; triangles have three corners among the vertices kept; shapes keep their rows."""
    mesh = load(write_mesh(tmp_path / "mesh.npz"))
    with np.load(tmp_path / "mesh.npz") as whole:
        np.testing.assert_array_equal(mesh.neutral[mesh.landmarks], whole["neutral"][whole["landmarks"]])
        assert len(mesh.neutral) < len(whole["neutral"])
        marked = whole["expr"][:, whole["landmarks"]].astype(np.float32)
    np.testing.assert_array_equal(mesh.expressions[:, mesh.landmarks], marked)
    assert mesh.triangles.max() < len(mesh.neutral)
    assert all(len(set(corners)) == 3 for corners in mesh.triangles.tolist())
    assert set(mesh.regions.tolist()) == {Region.FACE, Region.EYE}


def test_hidden_parts_and_what_looks_away_are_dropped() -> None:
    """Of three squares, the hidden one and the one seen from behind leave no triangle."""
    square = np.array([[0, 0, 0], [9, 0, 0], [9, 9, 0], [0, 9, 0]], np.float32)
    points = np.concatenate([square, square + 20, square + 40])
    marks = np.array([0, 1] * 34)
    halves = np.array([[0, 1, 2], [0, 2, 3]])
    tri = np.concatenate([halves, halves[:, ::-1] + 4, halves + 8]).astype(np.int32)
    regions = np.repeat([Region.FACE, Region.FACE, Region.HIDDEN], 4).astype(np.uint8)
    marks[36:42], marks[42:48] = 0, 1
    kept, triangles = thin(points, tri, marks, regions)
    assert kept.tolist() == [0, 1, 2, 3]
    assert triangles.tolist() == halves.tolist()


def test_what_lies_behind_sees_less_sky() -> None:
    """A vertex behind a large square is dark, those of the square are not."""
    points = np.array([[-9, -9, 0], [9, -9, 0], [9, 9, 0], [-9, 9, 0], [0, 0, -3]], np.float32)
    sky = open_sky(points, np.array([[0, 1, 2], [0, 2, 3]]), eyes=6.0)
    assert sky[4] == 0
    assert (sky[:4] > 0.9).all()


def test_weights_stand_in_the_order_of_the_shapes(tmp_path: Path) -> None:
    """A shape that the mesh lacks moves nothing."""
    mesh = load(write_mesh(tmp_path / "mesh.npz"))
    weights = mesh.weights({"jawOpen": 0.5, "tailWag": 1.0})
    assert weights[mesh.names.index("jawOpen")] == 0.5
    assert weights.sum() == 0.5


def test_the_kits_parts_begin_where_its_readme_says() -> None:
    """The last face vertex, the first tooth and both eyeballs are what they are."""
    regions = ict_regions()
    assert len(regions) == ICT_VERTICES
    assert regions[[0, 9408, 9409, 17039, 22221, 24590, 26718]].tolist() == [
        Region.FACE,
        Region.FACE,
        Region.HEAD,
        Region.TEETH,
        Region.EYE,
        Region.EYE,
        Region.HIDDEN,
    ]
