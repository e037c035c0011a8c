"""Layers that nobody may place: each file, with its manifest beside it, has one thing wrong.

The archives are written here byte by byte from the kernel's description of newc (Documentation/driver-api/early-userspace/
buffer-format.rst), the gzip members from RFC 1952 and the zstd frames from RFC 8878, without any compressor, whose bytes would
differ from one version to the next; none of it knows Towline's own writer.
"""

import hashlib
import json
import pathlib
import struct
import zlib
from dataclasses import dataclass, field

FILE, DIRECTORY, LINK, PIPE, CHARACTERS, BLOCKS, SOCKET = (
    0o100000,
    0o040000,
    0o120000,
    0o010000,
    0o020000,
    0o060000,
    0o140000,
)


@dataclass
class Entry:
    name: bytes | str
    mode: int = FILE | 0o644
    body: bytes = b""
    inode: int = 0
    links: int = 1
    owner: int = 0
    # What the header says instead of the truth.
    size: int | None = None

    def record(self, number: int) -> bytes:
        name = self.name if isinstance(self.name, bytes) else self.name.encode()
        size = len(self.body) if self.size is None else self.size
        fields = [self.inode or number, self.mode, self.owner, self.owner, self.links, 0, size, 0, 0, 0, 0, len(name) + 1, 0]
        header = b"070701" + b"".join(b"%08x" % it for it in fields)
        return padded(header + name + b"\0") + padded(self.body)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def directory(name: str, mode: int = 0o755) -> Entry:
    return Entry(name, DIRECTORY | mode)


def link(name: str, target: str) -> Entry:
    return Entry(name, LINK | 0o777, target.encode())


TRAILER = Entry("TRAILER!!!", 0).record(0)


def archive(entries: list[Entry]) -> bytes:
    return b"".join(it.record(number) for number, it in enumerate(entries, 1)) + TRAILER


def zstd_frame(data: bytes, window_log: int | None = None) -> bytes:
    """One frame with one raw block; with a window descriptor instead of a single segment if `window_log` is given."""
    magic = struct.pack("<I", 0xFD2FB528)
    if window_log is None:
        header = bytes([0b1010_0000]) + struct.pack("<I", len(data))
    else:
        header = bytes([0b0000_0000, (window_log - 10) << 3])
    return magic + header + struct.pack("<I", len(data) << 3 | 1)[:3] + data


def zstd_bomb(start: bytes, zeros: int) -> bytes:
    """A frame of a raw block and then so many zeros, in blocks that repeat one byte, of a window of 128 KiB."""
    block_max = 128 << 10
    sizes = [min(block_max, zeros - at) for at in range(0, zeros, block_max)]
    last = len(sizes) - 1
    blocks = [struct.pack("<I", size << 3 | 1 << 1 | (at == last))[:3] + b"\0" for at, size in enumerate(sizes)]
    header = struct.pack("<I", 0xFD2FB528) + bytes([0b0000_0000, (17 - 10) << 3])
    return header + struct.pack("<I", len(start) << 3)[:3] + start + b"".join(blocks)


def gzip_member(data: bytes) -> bytes:
    """One member with stored blocks (RFC 1951, section 3.2.4)."""
    pieces = [data[at : at + 0xFFFF] for at in range(0, len(data), 0xFFFF)] or [b""]
    last = len(pieces) - 1
    blocks = [bytes([at == last]) + struct.pack("<HH", len(it), len(it) ^ 0xFFFF) + it for at, it in enumerate(pieces)]
    return b"\x1f\x8b\x08" + bytes(6) + b"\xff" + b"".join(blocks) + struct.pack("<II", zlib.crc32(data), len(data))


@dataclass
class Layer:
    entries: list[Entry]
    kind: str = "agent"
    compression: str = "none"
    # The unpacked archive and what is stored, if they are not what the entries make.
    raw: bytes | None = None
    stored: bytes | None = None
    manifest: dict = field(default_factory=dict)

    def write(self, path: pathlib.Path) -> None:
        unpacked = archive(self.entries) if self.raw is None else self.raw
        stored = self.stored
        if stored is None:
            pack = {"none": lambda it: it, "gzip": gzip_member, "zstd": zstd_frame}
            stored = padded(pack[self.compression](unpacked))
        digest = hashlib.sha256(stored).hexdigest()
        none = {"libraries": [], "programs": []}
        manifest = {
            "format": 1,
            "kind": self.kind,
            "name": "web1" if self.kind == "host" else "bad",
            "version": "1",
            "architecture": "amd64",
            "created": "2026-11-01T00:00:00Z",
            "digest": digest,
            "stored_bytes": len(stored),
            "unpacked_bytes": len(unpacked),
            "entries": len(self.entries),
            "compression": self.compression,
            "chunks": [digest],
            "placement": "ram",
            "provides": none,
            "requires": none,
            "replaceable": [],
            "packages": [],
            "checks": [],
        }
        if self.kind == "kernel":
            manifest["kernel_release"] = "6.1.0"
        path.with_name(path.name + ".layer").write_bytes(stored)
        text = json.dumps(manifest | self.manifest, indent=1)
        path.with_name(path.name + ".manifest.json").write_text(text)


USR, BIN = directory("usr"), directory("usr/bin")
TOOL = Entry("usr/bin/tool", FILE | 0o755, b"#!/bin/sh\n")
GOOD = [USR, BIN, TOOL]
NAMES = "names are relative"
PARENT = "every parent must be a directory entry"
ONCE = "a name may occur once"
OUTSIDE = "may not have anything there"
DAMAGED = "no valid archive"

# By name of the file: what is wrong, a part of what the refusal says, the layer.
CASES: dict[str, tuple[str, str, Layer]] = {
    "good": ("nothing: it is whole", "accepted", Layer(GOOD)),
    "good-gzip": ("nothing: it is whole", "accepted", Layer(GOOD, compression="gzip")),
    "good-zstd": ("nothing: it is whole", "accepted", Layer(GOOD, compression="zstd")),
    # Names.
    "name-that-goes-up": ("an entry ../evil", NAMES, Layer([Entry("../evil")])),
    "name-that-goes-up-inside": ("an entry usr/../../evil", NAMES, Layer([USR, Entry("usr/../../evil")])),
    "name-that-is-absolute": ("an entry /etc/evil", NAMES, Layer([Entry("/etc/evil")])),
    "name-that-is-empty": ("an entry without a name", "is empty", Layer([Entry("")])),
    "name-with-an-empty-part": ("an entry usr//evil", NAMES, Layer([USR, Entry("usr//evil")])),
    "name-with-a-dot": ("an entry ./evil", NAMES, Layer([Entry("./evil")])),
    "name-that-ends-in-a-slash": ("an entry usr/", NAMES, Layer([Entry("usr/", DIRECTORY | 0o755)])),
    "name-with-a-nul": ("an entry with a NUL in its name", "a NUL inside", Layer([Entry(b"evil\0more")])),
    "name-of-5000-bytes": ("an entry whose name has 5000 bytes", "too long", Layer([Entry("a" * 5000)])),
    "name-twice": ("two files of one name", ONCE, Layer([Entry("a"), Entry("a")])),
    "directory-twice": ("a directory twice", ONCE, Layer([USR, directory("usr")])),
    # Detours.
    "link-as-parent": ("a file below a link of the same layer", PARENT, Layer([link("usr", "/etc"), Entry("usr/evil")])),
    "directory-over-a-link": ("a directory over a link", ONCE, Layer([link("usr", "/etc"), USR])),
    "file-as-parent": ("a file below a file", PARENT, Layer([Entry("usr"), Entry("usr/evil")])),
    "parent-missing": ("a file without its directory", PARENT, Layer([Entry("usr/evil")])),
    "parent-later": ("a directory after its file", PARENT, Layer([Entry("usr/evil"), USR])),
    # Hard links.
    "hard-link-to-nothing-earlier": (
        "a second name before the first",
        "has no bytes of its own",
        Layer([Entry("a", inode=7, links=2), Entry("b", body=b"body", inode=7, links=2)]),
    ),
    "hard-link-with-bytes": (
        "a second name that brings bytes again",
        "has no bytes of its own",
        Layer([Entry("a", body=b"one", inode=7, links=2), Entry("b", body=b"two", inode=7, links=2)]),
    ),
    # Types and modes.
    "device": ("the device of a disk", "may not have a", Layer([Entry("disk", BLOCKS | 0o660)])),
    "device-with-a-body": ("a device with content", "has no content", Layer([Entry("tty", CHARACTERS | 0o660, b"x")], "base")),
    "directory-with-a-body": ("a directory with content", "has no content", Layer([Entry("usr", DIRECTORY | 0o755, b"x")])),
    "fifo": ("a pipe", "may not have a", Layer([Entry("pipe", PIPE | 0o644)])),
    "socket": ("a socket", "may not have a", Layer([Entry("socket", SOCKET | 0o644)])),
    "type-unknown": ("a mode of no type", "of no known file type", Layer([Entry("a", 0o050644)])),
    "link-without-target": ("a link to nothing", "a link's target has", Layer([Entry("a", LINK | 0o777)])),
    "link-with-a-nul": ("a link whose target has a NUL", "a link's target has", Layer([Entry("a", LINK | 0o777, b"b\0c")])),
    "set-uid": ("a program that runs as root for anyone", "set-id", Layer([USR, BIN, Entry("usr/bin/su", FILE | 0o4755)])),
    "set-gid": ("a program that runs in a group for anyone", "set-id", Layer([USR, BIN, Entry("usr/bin/wall", FILE | 0o2755)])),
    # Lanes.
    "agent-with-init": ("an agent with its own init", OUTSIDE, Layer([Entry("init", FILE | 0o755)])),
    "agent-with-a-device-tree": ("an agent with /dev", OUTSIDE, Layer([directory("dev"), Entry("dev/null")])),
    "agent-with-rear": ("an agent with settings of ReaR", OUTSIDE, Layer([directory("etc"), directory("etc/rear"), Entry("etc/rear/local.conf")])),
    "agent-with-credentials": (
        "an agent with credentials",
        OUTSIDE,
        Layer([directory("run"), directory("run/towline"), directory("run/towline/credentials", 0o700)]),
    ),
    "agent-with-an-image": ("an agent with an image", "may not have anything there", Layer([directory("towline"), Entry("towline/evil")])),
    "host-with-an-open-directory": ("a host that opens /etc to all", "only with mode 0755", Layer([directory("etc", 0o777)], "host")),
    "host-with-a-shell": ("a host with usr/bin/bash", OUTSIDE, Layer([USR, BIN, Entry("usr/bin/bash", FILE | 0o755)], "host")),
    "host-with-passwd": ("a host with etc/passwd", OUTSIDE, Layer([directory("etc"), Entry("etc/passwd")], "host")),
    "host-whose-link-leaves": (
        "a host whose link leaves its directories",
        "may not leave",
        Layer([directory("etc"), directory("etc/rear"), link("etc/rear/evil", "/etc/shadow")], "host"),
    ),
    "kernel-with-a-program": ("a kernel with a program", OUTSIDE, Layer([USR, BIN, TOOL], "kernel")),
    "credentials-that-all-may-read": (
        "credentials that everybody may read",
        "mode 0600 at most",
        Layer(
            [
                directory("run"),
                directory("run/towline"),
                directory("run/towline/credentials", 0o700),
                Entry("run/towline/credentials/token", FILE | 0o644, b"t"),
            ],
            "credentials",
        ),
    ),
    # Sizes, and where an archive ends.
    "entries-more-than-said": ("more entries than the manifest says", "more than the 2 entries", Layer(GOOD, manifest={"entries": 2})),
    "entries-fewer-than-said": ("fewer entries than the manifest says", "has 3 entries", Layer(GOOD, manifest={"entries": 4})),
    "bytes-more-than-said": ("a larger archive than the manifest says", "larger than the 100 bytes", Layer(GOOD, manifest={"unpacked_bytes": 100})),
    "bytes-fewer-than-said": ("a smaller archive than the manifest says", "has 496 bytes", Layer(GOOD, manifest={"unpacked_bytes": 1 << 20})),
    "bomb": (
        "two gigabytes in sixty kilobytes, and a manifest that says one megabyte",
        "larger than the 1048576 bytes",
        Layer(
            [Entry("zeros", size=2 << 30)],
            compression="zstd",
            stored=padded(zstd_bomb(Entry("zeros", size=2 << 30).record(1), 2 << 30)),
            manifest={"unpacked_bytes": 1 << 20},
        ),
    ),
    "size-of-4-gib": ("a header that promises four gigabytes", "larger than the 236 bytes", Layer([Entry("a", size=0xFFFFFFFF)])),
    "cut-off": ("an archive without its end", "before its trailer", Layer(GOOD, raw=archive(GOOD)[:-200])),
    "empty": ("nothing at all", "larger than the 0 bytes", Layer([], raw=b"", stored=bytes(4))),
    "after-the-trailer": ("bytes after the trailer", "goes on after its trailer", Layer(GOOD, raw=archive(GOOD) + b"evil")),
    "second-archive": (
        "a second archive after the first",
        "goes on after its trailer",
        Layer(GOOD, raw=archive(GOOD) + archive([Entry("init", FILE | 0o755)])),
    ),
    "trailer-with-a-body": (
        "a trailer with content, which Linux reads otherwise",
        "trailer",
        Layer(GOOD, raw=archive(GOOD)[: -len(TRAILER)] + Entry("TRAILER!!!", 0, b"body").record(0)),
    ),
    "padding-that-is-not-zero": (
        "bytes hidden in the padding",
        "is not zero",
        Layer([Entry("a", body=b"x")], raw=archive([Entry("a", body=b"x")]).replace(b"x\0\0\0", b"xyz!", 1)),
    ),
    "header-with-checksums": ("an archive with checksums (070702)", "no newc header", Layer(GOOD, raw=archive(GOOD).replace(b"070701", b"070702", 1))),
    "header-that-is-no-number": ("a header field that is not hexadecimal", "not hexadecimal", Layer([Entry("a")], raw=archive([Entry("a")]).replace(b"000081a4", b"0000z1a4", 1))),
    # Compression.
    "gzip-two-members": (
        "two gzip members, of which Linux takes both",
        "goes on after its compressed frame",
        Layer(GOOD, compression="gzip", stored=padded(gzip_member(archive(GOOD))) + padded(gzip_member(archive([Entry("init")])))),
    ),
    "gzip-cut-off": ("a gzip member without its end", "no whole gzip frame", Layer(GOOD, compression="gzip", stored=padded(gzip_member(archive(GOOD))[:-30]))),
    "zstd-two-frames": (
        "two zstd frames, at the second of which Linux stops",
        "goes on after its compressed frame",
        Layer(GOOD, compression="zstd", stored=padded(zstd_frame(archive(GOOD))) + padded(zstd_frame(archive([Entry("init")])))),
    ),
    "zstd-skippable-frame": (
        "a skippable frame before the archive",
        "goes on after its compressed frame",
        Layer(GOOD, compression="zstd", stored=struct.pack("<II", 0x184D2A50, 4) + b"evil" + padded(zstd_frame(archive(GOOD)))),
    ),
    "zstd-window-of-256-mib": (
        "a window larger than Linux takes",
        "no whole zstd frame",
        Layer(GOOD, compression="zstd", stored=padded(zstd_frame(archive(GOOD), 28))),
    ),
    "compression-that-is-another": ("a gzip layer whose manifest says zstd", "no whole zstd frame", Layer(GOOD, compression="zstd", stored=padded(gzip_member(archive(GOOD))))),
    # The manifest.
    "manifest-of-another-layer": ("the digest of another layer", "has SHA-256", Layer(GOOD, manifest={"digest": "11" * 32, "chunks": ["11" * 32]})),
    "manifest-of-a-newer-format": ("a manifest of format 2", "too old for the layer", Layer(GOOD, manifest={"format": 2})),
    "manifest-with-an-unknown-field": ("a field that nobody knows", "unknown field", Layer(GOOD, manifest={"check_nothing": True})),
    "manifest-whose-name-is-a-path": ("a name with a slash", "must be of lower-case letters", Layer(GOOD, manifest={"name": "../bad"})),
    "manifest-of-a-host-with-checks": (
        "a host with a program to run",
        "only layers of these kinds may have",
        Layer([directory("etc"), directory("etc/rear")], "host", manifest={"checks": [{"name": "x", "command": ["/bin/sh"]}]}),
    ),
    "manifest-of-an-agent-that-replaces": ("an agent that says what may be replaced", "only layers of these kinds may have", Layer(GOOD, manifest={"replaceable": ["usr/bin/sh"]})),
}


def write(folder: pathlib.Path) -> list[str]:
    """Writes a layer and a manifest for each case; the lines of the index."""
    index = []
    for name, (what, says, layer) in sorted(CASES.items()):
        layer.write(folder / name)
        index.append(f"{name}\t{what}\t{says}\n")
    return index
