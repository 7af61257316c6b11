# SPDX-FileCopyrightText: The Livebackup authors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random chains as QEMU writes them: growth, odd sizes, zeros, discards, compression, any cluster size."""

from __future__ import annotations

import random
import subprocess
from dataclasses import dataclass
from pathlib import Path

KIB = 1024
USUAL_CLUSTER = 16


@dataclass(frozen=True)
class Chain:
    """Layers bottom first, and a raw copy of what each point held, made by qemu-img."""

    layers: list[Path]
    copies: list[Path]
    cluster_bytes: int


def make_chain(directory: Path, seed: int) -> Chain | None:
    """A chain of three to six layers; None if QEMU itself made a corrupt one, which version 7.2 does.

    Its bug needs compressed clusters that are freed and then written again in one go.
    """
    chance = random.Random(seed)
    bits = chance.choice((9, 12, 21)) if chance.random() < 0.2 else USUAL_CLUSTER
    step = 1 << bits
    kind, packs = chance.choice(("zlib", "zstd")), chance.random() < 0.4
    size = chance.randint(20, 60) * step + 512 * chance.randrange(step // 512)
    layers: list[Path] = []
    for number in range(chance.randint(3, 6)):
        if number and chance.random() < 0.3:
            size = max(4 * step, size + chance.randint(-15, 20) * step + 512 * chance.randrange(step // 512))
        layers.append(_layer(directory, layers, size, step, kind))
        _write(layers[-1], _commands(chance, size, step, packs=packs))
    copies = [_copy(layer) for layer in layers]
    if None in copies:
        return None
    return Chain(layers, [copy for copy in copies if copy], step)


def same_content(layer: Path, copy: Path) -> bool:
    """Whether QEMU reads from a layer what the copy holds."""
    return _run("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "raw", layer, copy) == 0


def is_clean(layer: Path) -> bool:
    """Whether qemu-img check finds nothing at all, not even a leak."""
    return _run("qemu-img", "check", "-q", layer) == 0


def _layer(directory: Path, below: list[Path], size: int, step: int, kind: str) -> Path:
    path = directory / f"p{len(below)}.qcow2"
    backing = ["-b", below[-1].name, "-F", "qcow2"] if below else []
    options = f"cluster_size={step},compression_type={kind}"
    assert not _run("qemu-img", "create", "-q", "-f", "qcow2", "-o", options, *backing, path, size)
    return path


def _commands(chance: random.Random, size: int, step: int, *, packs: bool) -> list[str]:
    return [
        command
        for dummy in range(chance.randint(0, 25))
        if (command := _command(chance, size, step, packs=packs))
    ]


def _command(chance: random.Random, size: int, step: int, *, packs: bool) -> str | None:
    offset = chance.randrange(max(1, size // step)) * step
    length = min(chance.randint(1, 4) * step, size - offset)
    what = chance.random()
    if what < 0.35:
        return f"write -P {chance.randint(1, 255)} {offset} {length}"
    if what < 0.5:
        offset += 512 * chance.randint(0, 7)
        length = min(length, 512 * chance.randint(1, 16), size - offset)
        return f"write -P {chance.randint(1, 255)} {offset} {length}" if length > 0 else None
    if what < 0.7:
        return f"write -z {chance.choice(('', '-u'))} {offset} {length}"
    if what < 0.8:
        return f"discard {offset} {length}"
    if packs and offset + step <= size:
        return f"write -c -P {chance.randint(1, 255)} {offset} {step}"
    return None


def _write(layer: Path, commands: list[str]) -> None:
    if commands:
        # Some fail, as a write into a compressed cluster does; what the layer holds then is what counts.
        _run(
            "qemu-io",
            "-d",
            "unmap",
            "-f",
            "qcow2",
            *(part for each in commands for part in ("-c", each)),
            layer,
        )


def _copy(layer: Path) -> Path | None:
    copy = layer.with_suffix(".raw")
    if _run("qemu-img", "check", "-q", layer) not in (0, 3):
        return None
    return None if _run("qemu-img", "convert", "-O", "raw", layer, copy) else copy


def _run(*argv: object) -> int:
    return subprocess.run(
        [str(each) for each in argv], capture_output=True, timeout=60, check=False
    ).returncode
