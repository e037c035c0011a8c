#!/usr/bin/env python3
"""Towline's metadata against python-tuf, the reference implementation (PyPI: tuf, securesystemslib[crypto]).

  python_tuf.py check DIR   reads the files that Towline wrote (boot/contract/tests/golden/v1)
  python_tuf.py write DIR   writes the files that Towline's tests read (boot/contract/tests/golden/python-tuf)
  python_tuf.py live CLIENT TOWLINE
                            both as clients of one another (repository.py): CLIENT is towline-conformance

Without an argument it does both and says whether what it writes is what is committed. Nothing in those files is random: the keys
come from fixed seeds, and Ed25519 signatures are deterministic.
"""

import json
import pathlib
import sys
import tempfile
from datetime import datetime, timezone

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner, Signature
from tuf.api.metadata import (
    DelegatedRole,
    Delegations,
    Metadata,
    MetaFile,
    Root,
    Snapshot,
    TargetFile,
    Targets,
    Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

import repository

GOLDEN = pathlib.Path(__file__).parents[2] / "boot/contract/tests/golden"
EXPIRES = datetime(2027, 1, 1, tzinfo=timezone.utc)


def signer(number: int) -> CryptoSigner:
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(bytes([number] * 32)))


def check(folder: pathlib.Path) -> None:
    """What Towline wrote: shape, key identifiers, and every signature under the role that should have made it."""
    root = Metadata[Root].from_file(str(folder / "1.root.json"))
    root.signed.verify_delegate("root", root.signed_bytes, root.signatures)
    assert set(root.signed.keys) == {signer(number).public_key.keyid for number in range(1, 8)}
    timestamp = Metadata[Timestamp].from_file(str(folder / "timestamp.json"))
    root.signed.verify_delegate("timestamp", timestamp.signed_bytes, timestamp.signatures)
    snapshot_bytes = (folder / "5.snapshot.json").read_bytes()
    timestamp.signed.snapshot_meta.verify_length_and_hashes(snapshot_bytes)
    snapshot = Metadata[Snapshot].from_bytes(snapshot_bytes)
    root.signed.verify_delegate("snapshot", snapshot.signed_bytes, snapshot.signatures)
    targets_bytes = (folder / "3.targets.json").read_bytes()
    snapshot.signed.meta["targets.json"].verify_length_and_hashes(targets_bytes)
    targets = Metadata[Targets].from_bytes(targets_bytes)
    root.signed.verify_delegate("targets", targets.signed_bytes, targets.signatures)
    assert targets.signed.version == snapshot.signed.meta["targets.json"].version
    assert len(targets.signed.targets) == 4
    # A plan is no TUF metadata, but its envelope and its role are.
    plan = json.loads((folder / "plan.json").read_bytes())
    signatures = {s["keyid"]: Signature.from_dict(dict(s)) for s in plan["signatures"]}
    signed = encode_canonical(plan["signed"]).encode()
    targets.signed.verify_delegate("plan", signed, signatures)


def check_by_kind(folder: pathlib.Path) -> None:
    """A site whose layers are signed by kind: each role's file by the delegation's key, and each target of its paths."""
    root = Metadata[Root].from_file(str(folder / "1.root.json"))
    timestamp = Metadata[Timestamp].from_file(str(folder / "timestamp.json"))
    root.signed.verify_delegate("timestamp", timestamp.signed_bytes, timestamp.signatures)
    snapshot_bytes = (folder / "5.snapshot.json").read_bytes()
    timestamp.signed.snapshot_meta.verify_length_and_hashes(snapshot_bytes)
    snapshot = Metadata[Snapshot].from_bytes(snapshot_bytes)
    root.signed.verify_delegate("snapshot", snapshot.signed_bytes, snapshot.signatures)
    found = {}

    def descend(role: str, delegator: Root | Targets) -> None:
        meta = snapshot.signed.meta[f"{role}.json"]
        data = (folder / f"{meta.version}.{role}.json").read_bytes()
        meta.verify_length_and_hashes(data)
        document = Metadata[Targets].from_bytes(data)
        delegator.verify_delegate(role, document.signed_bytes, document.signatures)
        for name in document.signed.targets:
            assert role == "targets" or delegator.delegations.roles[role].is_delegated_path(name), name
            found[name] = role
        if document.signed.delegations is not None:
            for name in document.signed.delegations.roles:
                if name != "plan":
                    descend(name, document.signed)

    descend("targets", root.signed)
    assert found == {
        "base/debian/1/amd64": "base",
        "kernel/linux/1/amd64": "base",
        "agent/restic/1/amd64": "agent-restic",
        "host/web1/1/amd64": "host-web1",
    }, found


def write(folder: pathlib.Path) -> None:
    """A site as python-tuf writes it, with what is allowed and unusual: a rotation, a key of another type, extra
    fields, names that are not ASCII, and a string that is not normalised."""
    folder.mkdir(parents=True, exist_ok=True)

    def store(name: str, metadata: Metadata, *numbers: int) -> bytes:
        for number in numbers:
            metadata.sign(signer(number), append=True)
        data = metadata.to_bytes(JSONSerializer(compact=False, validate=True))
        (folder / name).write_bytes(data)
        return data

    root = Root(version=1, expires=EXPIRES, consistent_snapshot=True)
    for number, role in [(1, "root"), (2, "root"), (4, "targets"), (6, "snapshot"), (7, "timestamp")]:
        root.add_key(signer(number).public_key, role)
    root.add_key(CryptoSigner(ec.derive_private_key(12345, ec.SECP256R1())).public_key, "targets")
    root.roles["root"].threshold = 2
    root.unrecognized_fields["x-owner"] = {"name": "Zo\u0065\u0308", "list": [1, None, True, "a\\b\"c\n\x01"]}
    store("1.root.json", Metadata(root), 1, 2)
    root.version = 2
    root.revoke_key(signer(1).public_key.keyid, "root")
    root.add_key(signer(3).public_key, "root")
    store("2.root.json", Metadata(root), 1, 2, 3)

    targets = Targets(version=3, expires=EXPIRES)
    for name in ["agent/restic/1/amd64", "not/Zo\u0065\u0308/a layer"]:
        file = TargetFile.from_data(name, name.encode(), ["sha256", "sha512"])
        file.unrecognized_fields["custom"] = {"kind": "agent"}
        targets.targets[name] = file
    role = DelegatedRole("plan", [], 1, True, ["plan/*"])
    targets.delegations = Delegations({}, {"plan": role})
    targets.add_key(signer(8).public_key, "plan")
    data = store("3.targets.json", Metadata(targets), 4)
    snapshot = Snapshot(5, expires=EXPIRES, meta={"targets.json": MetaFile.from_data(3, data, ["sha256"])})
    data = store("5.snapshot.json", Metadata(snapshot), 6)
    meta = MetaFile.from_data(5, data, ["sha256", "sha512"])
    store("timestamp.json", Metadata(Timestamp(9, expires=EXPIRES, snapshot_meta=meta)), 7)


def main() -> None:
    match sys.argv[1:]:
        case ["check", folder]:
            check(pathlib.Path(folder))
        case ["write", folder]:
            write(pathlib.Path(folder))
        case ["live", client, towline]:
            client, towline = (str(pathlib.Path(it).resolve()) for it in (client, towline))
            repository.towline_reads(client)
            repository.python_tuf_reads(towline)
            print("python-tuf's client reads Towline's site, and Towline's client reads python-tuf's repository")
        case []:
            check(GOLDEN / "v1")
            check_by_kind(GOLDEN / "by-kind")
            with tempfile.TemporaryDirectory() as folder:
                write(pathlib.Path(folder))
                for made in sorted(pathlib.Path(folder).iterdir()):
                    pinned = GOLDEN / "python-tuf" / made.name
                    if made.read_bytes() != pinned.read_bytes():
                        sys.exit(f"{pinned} is not what this version of python-tuf writes")
            print("python-tuf reads what Towline writes, and writes what Towline's tests read")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
