from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.vision.boxes import Box
from service.vision.track import MOST_KNOWN, Track, Tracks, same_face

FACE = Box(100, 80, 60, 60)
sizes = st.floats(8, 800)
places = st.floats(-500, 2000)
boxes = st.builds(Box, places, places, sizes, sizes)


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (FACE, True),
        (Box(130, 80, 60, 60), True),
        (Box(145, 80, 60, 60), True),  # a step of three quarters of the face
        (Box(146, 80, 60, 60), False),
        (Box(54, 80, 60, 60), False),
        (Box(100, 126, 60, 60), False),
        (Box(135, 115, 60, 60), False),  # 35 across and 35 down: 49 in all
        (Box(131, 111, 60, 60), True),
        (Box(77, 57, 106, 106), True),  # grown by 1.77 about its centre
        (Box(75, 55, 110, 110), False),
        (Box(113, 93, 34, 34), True),
        (Box(114, 94, 32, 32), False),
        (Box(400, 80, 60, 60), False),
    ],
)
def test_step_and_zoom(now: Box, *, same: bool) -> None:
    """A face may move by three quarters of its size and grow or shrink by 1.8 from one frame to the next."""
    assert same == same_face(FACE, now)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(boxes, boxes)
def test_either_way(before: Box, now: Box) -> None:
    """What is one face forwards in time is one face backwards."""
    assert same_face(before, now) == same_face(now, before)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(boxes, boxes, st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_any_resolution(before: Box, now: Box, zoom: float) -> None:
    """The same two faces in a frame of another resolution get the same answer."""
    assert same_face(before, now) == same_face(before.scaled(zoom, zoom), now.scaled(zoom, zoom))


def alike(track: Track, index: int) -> float | None:
    """Everyone looks like everyone."""
    del track, index
    return 0.9


def unknown(track: Track, index: int) -> float | None:
    """Nobody was near enough to be known again."""
    del track, index
    return None


class Faces:
    """Tracks of faces whose look is a letter: how alike two are is whether the letters are the same."""

    def __init__(self) -> None:
        self.tracks = Tracks(count(), keep_s=1.0)
        self.looks: dict[int, str] = {}
        self.time_s = 0.0

    def see(self, after_s: float = 0.04, **places: float) -> dict[str, int]:
        """The ids of faces 100 wide whose left edges are at these places."""
        self.time_s += after_s
        boxes = [Box(place, 50, 100, 100) for place in places.values()]
        looks = list(places)

        def likeness(track: Track, index: int) -> float:
            return 0.95 if self.looks[track.id] == looks[index] else 0.3

        found = self.tracks.update(boxes, self.time_s, likeness)
        for track, look in zip(found, looks, strict=True):
            self.looks[track.id] = look
        return {look: track.id for look, track in zip(looks, found, strict=True)}


class TestTracks:
    def test_new_faces(self) -> None:
        """Each face gets an id of its own, and keeps it however the detector sorts them."""
        faces = Faces()
        assert faces.see(a=100, b=400) == {"a": 0, "b": 1}
        assert faces.see(b=405, a=103, c=700) == {"b": 1, "a": 0, "c": 2}

    def test_jitter(self) -> None:
        """Boxes that shake by a tenth of the face change nothing."""
        faces = Faces()
        shakes = np.random.default_rng(1).uniform(-10, 10, (50, 2))
        assert {tuple(faces.see(a=100 + one, b=230 + other).items()) for one, other in shakes} == {(("a", 0), ("b", 1))}

    def test_motion_without_a_look(self) -> None:
        """Two who pass each other half a face apart are told by their motion alone."""
        tracks, ids = Tracks(count(), keep_s=1.0), []
        for index in range(30):
            right = Box(100 + 15 * index, 50, 100, 100)
            left = Box(500 - 15 * index, 110, 100, 100)
            found = tracks.update([right, left] if index % 2 else [left, right], index * 0.04, unknown)
            ids.append([track.id for track in (found if index % 2 else reversed(found))])
        assert ids == [ids[0]] * 30

    def test_a_crossing_behind(self) -> None:
        """Who is covered for half a second and comes out on the other side is the same as before."""
        faces = Faces()
        for step in range(8):
            faces.see(a=100 + 20 * step, b=400 - 5 * step)
        for step in range(8, 20):
            assert faces.see(b=400 - 5 * step) == {"b": 1}
        assert faces.see(a=420, b=300) == {"a": 0, "b": 1}

    def test_a_place_taken_over(self) -> None:
        """A face where another was, that looks like neither, is a new one: crops of two people are never one window."""
        faces = Faces()
        faces.see(a=100)
        assert faces.see(b=110) == {"b": 1}

    def test_who_was_covered_covers(self) -> None:
        """Where the face in view looks like the one that was hidden behind, it is that one."""
        faces = Faces()
        faces.see(a=100, b=230)
        faces.see(b=150)
        assert faces.see(a=145) == {"a": 0}

    def test_a_better_look_of_who_was_covered(self) -> None:
        """Who is in view yields where the face looks enough like them, but clearly more like who was covered."""
        tracks = Tracks(count(), keep_s=1.0)
        tracks.update([Box(100, 50, 100, 100), Box(230, 50, 100, 100)], 0.0, alike)
        tracks.update([Box(150, 50, 100, 100)], 0.04, lambda track, _: 0.9 if track.id == 0 else 0.2)
        (found,) = tracks.update([Box(160, 50, 100, 100)], 0.08, lambda track, _: 0.6 if track.id == 0 else 0.9)
        assert found.id == 1

    def test_place_against_look(self) -> None:
        """A face near where one was expected, that looks clearly more like another, is neither."""
        tracks = Tracks(count(), keep_s=1.0)
        tracks.update([Box(100, 50, 100, 100), Box(200, 50, 100, 100)], 0.0, alike)
        (found,) = tracks.update([Box(130, 50, 100, 100)], 0.04, lambda track, _: 0.6 if track.id == 0 else 0.9)
        assert found.id == 2

    @pytest.mark.parametrize(("ahead", "known"), [(0.1, False), (0.3, True)])
    def test_nearer_by_little_is_doubt(self, ahead: float, *, known: bool) -> None:
        """Of two who look alike the nearer one is it only if nearer by a quarter of a face."""
        tracks = Tracks(count(), keep_s=1.0)
        tracks.update([Box(100, 50, 100, 100), Box(200, 50, 100, 100)], 0.0, alike)
        (found,) = tracks.update([Box(150 - 50 * ahead, 50, 100, 100)], 0.04, alike)
        assert (found.id == 0) == known

    @pytest.mark.parametrize(("ahead", "known"), [(0.1, False), (0.2, True)])
    def test_liker_by_little_is_doubt(self, ahead: float, *, known: bool) -> None:
        """Of two who are as near the one who looks more like it is it only if clearly so."""
        tracks = Tracks(count(), keep_s=1.0)
        tracks.update([Box(100, 50, 100, 100), Box(200, 50, 100, 100)], 0.0, alike)
        (found,) = tracks.update([Box(150, 50, 100, 100)], 0.04, lambda track, _: 0.95 - ahead * track.id)
        assert (found.id == 0) == known

    def test_those_in_view_choose_first(self) -> None:
        """Who is away does not take the face of who is in view, if it looks like both."""
        tracks = Tracks(count(), keep_s=1.0)
        tracks.update([Box(100, 50, 100, 100), Box(230, 50, 100, 100)], 0.0, alike)
        tracks.update([Box(160, 50, 100, 100)], 0.04, lambda track, _: 0.9 if track.id == 1 else 0.2)
        (found,) = tracks.update([Box(160, 50, 100, 100)], 0.08, alike)
        assert found.id == 1

    @pytest.mark.parametrize(("away_s", "shift", "known"), [(0.8, 150, True), (0.8, 170, False), (0.2, 150, False)])
    def test_how_far_one_may_have_gone(self, away_s: float, shift: float, *, known: bool) -> None:
        """Who is not seen may have gone a face a second further than from one picture to the next."""
        tracks = Tracks(count(), keep_s=1.0)
        tracks.update([FACE], 0.0, alike)
        tracks.update([], 0.04, alike)
        (found,) = tracks.update([FACE._replace(x=FACE.x + shift * 0.6)], away_s, alike)
        assert (found.id == 0) == known

    @pytest.mark.parametrize(("place", "known"), [(400, True), (555, True), (780, False)])
    def test_where_one_who_moved_is_looked_for(self, place: float, *, known: bool) -> None:
        """Where they were seen last, or would be if they had gone on for a moment; not as far as that would lead."""
        tracks = Tracks(count(), keep_s=1.0)
        for index in range(9):
            tracks.update([Box(50.0 * index, 50, 100, 100)], index * 0.1, alike)
        tracks.update([], 0.82, alike)
        (found,) = tracks.update([Box(place, 50, 100, 100)], 1.6, alike)
        assert (found.id == 0) == known

    def test_a_pause_and_a_look_that_cannot_be_told(self) -> None:
        """After a time without pictures nobody is known by their place alone."""
        tracks = Tracks(count(), keep_s=1.0)
        tracks.update([FACE], 0.0, unknown)
        (found,) = tracks.update([FACE], 60.0, unknown)
        assert found.id == 1

    def test_in_doubt_a_new_id(self) -> None:
        """Two faces that look alike, and one that could be either: it is neither."""
        tracks = Tracks(count(), keep_s=1.0)
        tracks.update([Box(100, 50, 100, 100), Box(190, 50, 100, 100)], 0.0, alike)
        (found,) = tracks.update([Box(145, 50, 100, 100)], 0.04, alike)
        assert found.id == 2

    @pytest.mark.parametrize(("away_s", "same"), [(0.3, True), (0.95, True), (1.1, False)])
    def test_leaving_and_coming_back(self, away_s: float, *, same: bool) -> None:
        """A face that is back within the gap keeps its id; later it has another."""
        faces = Faces()
        faces.see(a=100, b=400)
        for _ in range(10):
            faces.see(after_s=away_s / 10, b=400)
        assert (faces.see(after_s=0.0, a=110, b=400)["a"] == 0) == same

    def test_another_comes_back(self) -> None:
        """Who comes where someone has left gets an id of their own."""
        faces = Faces()
        faces.see(a=100)
        faces.see()
        assert faces.see(c=100) == {"c": 1}

    def test_a_look_that_cannot_be_told(self) -> None:
        """Who was hidden is not known again by place alone."""
        tracks = Tracks(count(), keep_s=1.0)
        tracks.update([FACE], 0.0, unknown)
        tracks.update([], 0.04, unknown)
        (found,) = tracks.update([FACE], 0.08, unknown)
        assert found.id == 1

    @pytest.mark.parametrize(("is_clear", "same"), [(True, False), (False, True)])
    def test_a_look_that_is_not_quite_theirs(self, *, is_clear: bool, same: bool) -> None:
        """More likeness is asked of who stood clear, whose picture is new: their place may be another's after a cut."""
        tracks = Tracks(count(), keep_s=1.0)
        (track,) = tracks.update([FACE], 0.0, alike)
        track.is_clear = is_clear
        (found,) = tracks.update([FACE], 0.04, lambda _, __: 0.6)
        assert (found is track) == same

    def test_no_more_than_so_many_are_known(self) -> None:
        """New faces in each picture, between which no time passes: those in view are known, and who left last."""
        tracks = Tracks(count(), keep_s=1.0)
        for index in range(40):
            tracks.update([Box(200.0 * place, 300.0 * index, 100, 100) for place in range(5)], 0.0, unknown)
        assert sorted(track.id for track in tracks.all) == list(range(200 - MOST_KNOWN, 200))
        assert [track.id for track in tracks.all if track.present] == list(range(195, 200))

    def test_a_pause(self) -> None:
        """After a time without pictures, or on another clock, faces are known again by their look, at their place."""
        faces = Faces()
        faces.see(a=100, b=400)
        faces.time_s += 60
        assert faces.see(b=410, a=90) == {"b": 1, "a": 0}
        faces.time_s = 0
        assert faces.see(a=100, c=400) == {"a": 0, "c": 2}

    def test_another_size(self) -> None:
        """A face of another size is someone else, nearer or farther."""
        tracks = Tracks(count(), keep_s=1.0)
        tracks.update([Box(100, 100, 100, 100)], 0.0, alike)
        (found,) = tracks.update([Box(50, 50, 200, 200)], 0.04, alike)
        assert found.id == 1


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.lists(boxes, max_size=6), max_size=6))
def test_every_face_has_its_own_track(pictures: list[list[Box]]) -> None:
    """Whatever is found, each face of a picture has a track that no other has, at its place."""
    tracks = Tracks(count(), keep_s=1.0)
    for index, found in enumerate(pictures):
        told = tracks.update(found, index * 0.1, alike)
        assert [track.box for track in told] == found
        assert len({track.id for track in told}) == len(found)
