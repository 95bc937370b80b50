"""Reads a Dockerfile: its stages and their instructions. Ours has no ARG and no here-documents, so neither has this."""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its continued lines joined."""

    word: str
    text: str

    @property
    def words(self) -> list[str]:
        """What follows the instruction: of the JSON form its strings, else the words of a shell."""
        found = re.search(r"\[.*\]$", self.text)
        return json.loads(found[0]) if found and self.word != "RUN" else shlex.split(self.text)


@dataclass(frozen=True, slots=True)
class Copy:
    """A COPY: ``stage`` is where the sources are, None for the build context."""

    stage: str | None
    sources: list[str]
    destination: str


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage; ``base`` is an image or the name of an earlier stage."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def having(self, word: str) -> Iterator[Instruction]:
        """Its instructions of one kind."""
        return (instruction for instruction in self.instructions if instruction.word == word)

    @property
    def copies(self) -> Iterator[Copy]:
        """What it copies."""
        for instruction in self.having("COPY"):
            flags = dict(word[2:].split("=", 1) for word in instruction.words if word.startswith("--"))
            *sources, destination = (word for word in instruction.words if not word.startswith("--"))
            yield Copy(flags.get("from"), sources, destination)


def read(text: str) -> dict[str, Stage]:
    """The stages by name, in their order."""
    lines = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    stages: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", lines).splitlines():
        if not line.strip():
            continue
        word, rest = line.split(maxsplit=1)
        if word == "FROM":
            base, _, name = rest.split()
            stages.append(Stage(name, base))
        else:
            stages[-1].instructions.append(Instruction(word, rest))
    return {stage.name: stage for stage in stages}


def lineage(stages: dict[str, Stage], name: str) -> list[Stage]:
    """The stages that ``name`` is built on, the one on an image first, and itself."""
    stage = stages[name]
    return [*(lineage(stages, stage.base) if stage.base in stages else []), stage]


def needed(stages: dict[str, Stage], name: str) -> list[Stage]:
    """All stages that are built for ``name``, in an order in which they can be."""
    found: dict[str, Stage] = {}
    for stage in lineage(stages, name):
        for copy in stage.copies:
            if copy.stage is not None:
                found |= {part.name: part for part in needed(stages, copy.stage)}
        found[stage.name] = stage
    return list(found.values())


def environment(stages: dict[str, Stage], name: str) -> dict[str, str]:
    """What ENV sets in an image."""
    return {
        key: value
        for stage in lineage(stages, name)
        for instruction in stage.having("ENV")
        for key, _, value in (word.partition("=") for word in instruction.words)
    }


def last(stages: dict[str, Stage], name: str, word: str) -> Instruction:
    """The instruction of a kind that counts in an image.

    Raises:
        LookupError: it has none.
    """
    found = [instruction for stage in lineage(stages, name) for instruction in stage.having(word)]
    if not found:
        raise LookupError(f"{name} has no {word}")
    return found[-1]


def is_ignored(path: str, patterns: list[str]) -> bool:
    """Whether .dockerignore keeps a path from the builder: the last pattern that meets it or a folder of it decides."""
    ignored = False
    places = [str(place) for place in (PurePosixPath(path), *PurePosixPath(path).parents)]
    for pattern in patterns:
        wanted = re.compile(_regex(pattern.removeprefix("!").strip("/")))
        if any(wanted.fullmatch(place) for place in places):
            ignored = not pattern.startswith("!")
    return ignored


def _regex(pattern: str) -> str:
    parts = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(
        parts.get(piece, piece if piece.startswith("[") else re.escape(piece))
        for piece in re.findall(r"\*\*/|\*\*|\*|\?|\[[^\]]+\]|[^*?\[]+", pattern)
    )
