"""Catalogues that a machine must refuse: the files that a server would give, each folder with one thing wrong.

Written with securesystemslib and `cryptography` alone, so that nothing here is Towline's own idea of its formats. Keys come
from fixed seeds and Ed25519 is deterministic: the files are the same each time.
"""

import copy
import hashlib
import json
import pathlib
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner

EXPIRES = "2027-01-01T00:00:00Z"
NONCE = "07" * 32
PLAN_TIME, PLAN_EXPIRES = "2026-11-23T22:30:00Z", "2026-11-23T22:35:00Z"

# Keys 1, 2 and 3 are root's (two of them must sign), 4 and 5 the targets' (both), 6 snapshot's, 7 timestamp's, 8 the plan's,
# 9 host web1's, 10 base's, 11 agent-restic's, 12 hosts', 13 host db1's; 66 is a stranger's.
STRANGER = 66


def signer(number: int) -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)))


def keyid(number: int) -> str:
    return signer(number).public_key.keyid


def keys(*numbers: int) -> dict:
    return {keyid(number): signer(number).public_key.to_dict() for number in numbers}


def signature(document: dict, number: int) -> dict:
    signed = signer(number).sign(encode_canonical(document).encode())
    return {"keyid": signed.keyid, "sig": signed.signature}


def envelope(document: dict, numbers: list[int], more: list[dict] = []) -> bytes:
    signatures = [signature(document, number) for number in numbers] + more
    return json.dumps({"signatures": signatures, "signed": document}, indent=1).encode()


def reference(version: int, data: bytes) -> dict:
    return {"version": version, "length": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}


def document(type_: str, version: int, **rest: object) -> dict:
    return {"_type": type_, "spec_version": "1.0.31", "version": version, "expires": EXPIRES, **rest}


def delegation(name: str, number: int, *paths: str) -> dict:
    return {"name": name, "keyids": [keyid(number)], "threshold": 1, "paths": list(paths), "terminating": True}


def layer(target: str) -> dict:
    """A target as a site signs it; no machine reads as far as its bytes here."""
    data = target.encode()
    manifest = {"length": 500, "sha256": hashlib.sha256(b"manifest of " + data).hexdigest()}
    custom = {"kind": target.split("/")[0], "manifest": manifest}
    return {"length": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}, "custom": custom}


class Site:
    """All documents of a site with a base, an agent and two hosts, right as they stand."""

    def __init__(self) -> None:
        role = lambda threshold, *numbers: {"keyids": [keyid(it) for it in numbers], "threshold": threshold}
        self.roots = [
            document(
                "root",
                1,
                consistent_snapshot=True,
                keys=keys(*range(1, 8)),
                roles={
                    "root": role(2, 1, 2, 3),
                    "targets": role(2, 4, 5),
                    "snapshot": role(1, 6),
                    "timestamp": role(1, 7),
                },
            )
        ]
        of_kinds = [
            delegation("plan", 8, "plan/*"),
            delegation("base", 10, "base/*/*/*", "kernel/*/*/*"),
            delegation("hosts", 12, "host/*/*/*"),
            delegation("agent-restic", 11, "agent/restic/*/*", "extra/restic/*/*"),
        ]
        of_hosts = [delegation("host-web1", 9, "host/web1/*/*"), delegation("host-db1", 13, "host/db1/*/*")]
        self.targets = document(
            "targets", 3, targets={}, delegations={"keys": keys(8, 10, 12, 11), "roles": of_kinds}
        )
        self.roles = {
            "agent-restic": document("targets", 6, targets={"agent/restic/1/amd64": layer("agent/restic/1/amd64")}),
            "base": document(
                "targets", 2, targets={it: layer(it) for it in ["base/debian/1/amd64", "kernel/linux/1/amd64"]}
            ),
            "hosts": document("targets", 8, targets={}, delegations={"keys": keys(9, 13), "roles": of_hosts}),
            "host-web1": document("targets", 1, targets={"host/web1/1/amd64": layer("host/web1/1/amd64")}),
        }
        self.snapshot = document("snapshot", 5, meta={})
        self.timestamp = document("timestamp", 9, meta={})
        chain = ["kernel/linux/1/amd64", "base/debian/1/amd64", "agent/restic/1/amd64", "host/web1/1/amd64"]
        self.plan = {
            "_type": "towline-plan",
            "format": 1,
            "nonce": NONCE,
            "time": PLAN_TIME,
            "expires": PLAN_EXPIRES,
            "timestamp": {"version": 9},
            "chain": [self.in_plan(it) for it in chain],
            "command_line": "console=ttyS0",
            "hand_over": "in-place",
            "mirrors": ["https://mirror.example/towline"],
            "recovery": "r-1",
            "host": "web1",
        }
        self.signers = {
            "1.root": [1, 2],
            "2.root": [1, 2],
            "targets": [4, 5],
            "snapshot": [6],
            "timestamp": [7],
            "plan": [8],
            "agent-restic": [11],
            "base": [10],
            "hosts": [12],
            "host-web1": [9],
        }
        # Signatures that are added as they are, and roles that the snapshot does not name.
        self.more_signatures: dict[str, list[dict]] = {}
        self.unnamed: set[str] = set()
        # What is done to the files when all of them are signed.
        self.afterwards: Callable[[dict[str, bytes]], object] = lambda files: None

    @staticmethod
    def in_plan(target: str) -> dict:
        return {"target": target, "digest": layer(target)["hashes"]["sha256"]}

    def next_root(self) -> dict:
        root = copy.deepcopy(self.roots[-1])
        root["version"] += 1
        self.roots.append(root)
        return root

    def sign(self, role: str, of: dict) -> bytes:
        return envelope(of, self.signers[role], self.more_signatures.get(role, []))

    def files(self) -> dict[str, bytes]:
        files = {}
        for number, root in enumerate(self.roots, 1):
            files[f"{number}.root.json"] = self.sign(f"{number}.root", root)
        for role, of in {"targets": self.targets, **self.roles}.items():
            data = self.sign(role, of)
            if role not in self.unnamed:
                self.snapshot["meta"].setdefault(f"{role}.json", reference(of["version"], data))
            files[f"{of['version']}.{role}.json"] = data
        data = self.sign("snapshot", self.snapshot)
        self.timestamp["meta"].setdefault("snapshot.json", reference(5, data))
        files["5.snapshot.json"] = data
        files["timestamp.json"] = self.sign("timestamp", self.timestamp)
        digest = hashlib.sha256(files["timestamp.json"]).hexdigest()
        self.plan["timestamp"].setdefault("digest", digest)
        files["plan.json"] = self.sign("plan", self.plan)
        self.afterwards(files)
        return files


# By name of the folder: what is wrong, a part of what the refusal says, and how it comes about.
CASES: dict[str, tuple[str, str, Callable[[Site], object]]] = {}


def case(what: str, says: str) -> Callable[[Callable[[Site], object]], None]:
    def remember(edit: Callable[[Site], object]) -> None:
        CASES[edit.__name__.replace("_", "-")] = (what, says, edit)

    return remember


def change(name: str, old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    def edit(files: dict[str, bytes]) -> None:
        assert old in files[name], f"{name} has no {old!r}"
        files[name] = files[name].replace(old, new, 1)

    return edit


def write(folder: pathlib.Path) -> list[str]:
    """Writes a folder for each case; the lines of the index."""
    index = []
    for name, (what, says, edit) in sorted(CASES.items()):
        site = Site()
        edit(site)
        (folder / name).mkdir(parents=True)
        for file, data in site.files().items():
            (folder / name / file).write_bytes(data)
        index.append(f"{name}\t{what}\t{says}\n")
    return index
