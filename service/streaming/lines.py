"""Results as lines, for people."""

from service.streaming.results import Face, FrameResult


def printable(text: str) -> str:
    """``text`` in one line: names of files may have anything in them, also what is no character at all."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def line(result: FrameResult) -> str:
    """Time stamp, outcome, and each face's emotion and probability."""
    start = f"{result.time_s:9.3f} s  {result.outcome:<14}"
    ready = [face for face in result.faces if face.emotion is not None]
    return f"{start}  {'   '.join(_words(face, with_id=len(ready) > 1) for face in ready)}".rstrip()


def _words(face: Face, *, with_id: bool) -> str:
    number = f"{face.id}: " if with_id else ""
    return f"{number}{face.emotion:<8}  {face.probability or 0:.2f}{'  uncertain' if face.uncertain else ''}"
