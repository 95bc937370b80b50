"""Inputs out of others: bytes changed, taken out, put in, repeated, and the ends of two inputs put together."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

CORPUS = Path(__file__).parent / "corpus"
_MOST_BYTES = 8_000
_TOKENS = (
    *(b"\xff" + bytes((marker,)) for marker in (0xC0, 0xC2, 0xC4, 0xD8, 0xD9, 0xDA, 0xDB, 0xE1, 0xFF)),
    *(b"\0", b"\xff\xff", b"\x80\0", b"\x7f\xff", b"Exif\0\0", b"II*\0", b"MM\0*"),
    *(b'"', b"{", b"[", b"}", b"\\u0000", b"\\ud800", b"1e999", b"-1", b"null", b"true", b"9" * 30),
    *(b"&", b"=", b"%00", b"%ff", b"stride", b"model", b"freshness", b"every", b"max_age_ms", b"region", b"whole"),
    *(b"\r\n", b"--b", b"--b--", b'Content-Disposition: form-data; name="frames"; filename="f"', b"session.update"),
)


def seeds(target: str) -> list[bytes]:
    """The corpus of a target, in the order of its names."""
    return [file.read_bytes() for file in sorted((CORPUS / target).iterdir())]


def mutated(corpus: Sequence[bytes], random: Random) -> Iterator[bytes]:
    """Inputs without end."""
    while True:
        content = bytearray(random.choice(corpus))
        for _ in range(random.randint(1, 6)):
            _change(content, corpus, random)
        yield bytes(content[:_MOST_BYTES])


def _change(content: bytearray, corpus: Sequence[bytes], random: Random) -> None:
    at = random.randint(0, len(content))
    length = min(random.choice((1, 1, 2, 4, 16, 64)), len(content) - at)
    match random.randrange(7):
        case 0:
            content[at : at + 1] = bytes((random.randrange(256),))
        case 1 if at < len(content):
            content[at] ^= 1 << random.randrange(8)
        case 2:
            del content[at : at + length]
        case 3:
            content[at:at] = random.randbytes(length)
        case 4:
            content[at:at] = content[at : at + length] * random.choice((1, 2, 50))
        case 5:
            content[at : at + random.choice((0, 2))] = random.choice(_TOKENS)
        case _:
            other = random.choice(corpus)
            content[at:] = other[random.randint(0, len(other)) :]
