"""Towline and python-tuf as each other's client, on repositories made for the moment.

Towline's client (tests/conformance, over boot/contract) reads what python-tuf writes: delegations by patterns and by hash
prefixes, keys of three kinds, and refuses its going back. python-tuf's client reads the site that Towline's own commands
make and publish to.
"""

import functools
import http.server
import pathlib
import subprocess
import tempfile
import threading
from datetime import datetime, timedelta, timezone

from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError
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
from tuf.ngclient import FetcherInterface, Updater

EXPIRES = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=2)
TOP = ["root", "targets", "snapshot", "timestamp"]


class Repository:
    """What python-tuf signs, in a folder."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        for name in ["metadata", "targets"]:
            (folder / name).mkdir()
        make = [CryptoSigner.generate_ed25519, CryptoSigner.generate_ecdsa, CryptoSigner.generate_rsa]
        self.signers = {role: make[i % 3]() for i, role in enumerate([*TOP, "agents", "acme", "bin-0", "bin-1"])}
        root = Root(expires=EXPIRES, consistent_snapshot=True)
        for role in TOP:
            root.add_key(self.signers[role].public_key, role)
        self.store("root", root)
        self.roles = {role: Targets(expires=EXPIRES) for role in ["targets", "agents", "acme", "bin-0", "bin-1"]}
        self.delegate("targets", DelegatedRole("agents", [], 1, True, ["agent/*/*"]))
        self.delegate("agents", DelegatedRole("acme", [], 1, True, ["agent/acme/?"]))
        for bin_, digits in [("bin-0", "01234567"), ("bin-1", "89abcdef")]:
            self.delegate("targets", DelegatedRole(bin_, [], 1, True, None, list(digits)))
        self.snapshot = Snapshot(expires=EXPIRES)
        self.timestamp = Timestamp(expires=EXPIRES)

    def delegate(self, by: str, role: DelegatedRole) -> None:
        targets = self.roles[by]
        if targets.delegations is None:
            targets.delegations = Delegations({}, {})
        targets.delegations.roles[role.name] = role
        targets.add_key(self.signers[role.name].public_key, role.name)

    def add(self, role: str, name: str, hashes: list[str]) -> bytes:
        data = f"{name} by {role}".encode()
        file = TargetFile.from_data(name, data, hashes)
        self.roles[role].targets[name] = file
        for path in file.get_prefixed_paths():
            target = self.folder / "targets" / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return data

    def store(self, role: str, signed: Root | Targets | Snapshot | Timestamp) -> bytes:
        metadata = Metadata(signed)
        metadata.sign(self.signers[role])
        data = metadata.to_bytes()
        name = "timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"
        (self.folder / "metadata" / name).write_bytes(data)
        return data

    def publish(self) -> None:
        for role, targets in self.roles.items():
            data = self.store(role, targets)
            self.snapshot.meta[f"{role}.json"] = MetaFile.from_data(targets.version, data, ["sha256"])
        data = self.store("snapshot", self.snapshot)
        self.timestamp.snapshot_meta = MetaFile.from_data(self.snapshot.version, data, ["sha256", "sha512"])
        self.store("timestamp", self.timestamp)


def bin_of(name: str) -> str:
    return "bin-0" if TargetFile.from_data("", name.encode(), ["sha256"]).hashes["sha256"][0] in "01234567" else "bin-1"


def towline_reads(client: str) -> None:
    """Towline's client against python-tuf's repository."""
    with tempfile.TemporaryDirectory() as folder:
        top = pathlib.Path(folder)
        repository = Repository(top)
        wanted = {
            "agent/acme/1": repository.add("acme", "agent/acme/1", ["sha512"]),
            "agent/other/1": repository.add("agents", "agent/other/1", ["sha256"]),
        }
        binned = [f"host/h{number}/1" for number in range(6)]
        wanted |= {name: repository.add(bin_of(name), name, ["sha256", "sha512"]) for name in binned}
        repository.add("acme", "agent/other/2", ["sha256"])  # acme may not
        repository.publish()

        handler = functools.partial(Quiet, directory=folder)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            url = f"http://127.0.0.1:{server.server_address[1]}"
            for name in ["kept", "got"]:
                (top / name).mkdir()

            def run(*arguments: str) -> int:
                command = [client, "--metadata-dir", folder + "/kept", "--metadata-url", url + "/metadata"]
                return subprocess.run([*command, *arguments], check=False, stderr=subprocess.DEVNULL).returncode

            def download(*names: str) -> int:
                named = [word for name in names for word in ["--target-name", name]]
                places = ["--target-dir", folder + "/got", "--target-base-url", url + "/targets"]
                return run(*places, *named, "download")

            assert run("init", folder + "/metadata/1.root.json") == 0
            assert run("refresh") == 0
            assert download(*wanted) == 0
            got = {file.name.replace("%2F", "/"): file.read_bytes() for file in (top / "got").iterdir()}
            assert got == wanted, got
            for name in ["agent/other/2", "agent/acme/11", "base/debian/1"]:
                assert download(name) == 1, name

            # A step forward is followed, and no step back.
            old = (top / "metadata/timestamp.json").read_bytes()
            for document in [*repository.roles.values(), repository.snapshot, repository.timestamp]:
                document.version += 1
            repository.publish()
            assert run("refresh") == 0
            (top / "metadata/timestamp.json").write_bytes(old)
            assert run("refresh") == 1
            server.shutdown()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Files(FetcherInterface):
    """A fetcher for folders."""

    def _fetch(self, url: str):  # noqa: ANN202
        try:
            return iter([pathlib.Path(url.removeprefix("file://")).read_bytes()])
        except FileNotFoundError as error:
            raise DownloadHTTPError(str(error), 404) from error


# Of each kind of layer that operators publish, the smallest.
RECIPE = """\
kind = "{kind}"
name = "acme"
version = "1"
form = "files"
time = "2025-01-01T00:00:00Z"
[[source]]
type = "file"
path = "{path}"
content = "{kind}"
"""
PATHS = {"base": "usr/bin/tool", "agent": "opt/acme/agent", "extra": "etc/motd"}


def python_tuf_reads(towline: str) -> None:
    """python-tuf's client against the site that Towline's commands make."""
    with tempfile.TemporaryDirectory() as folder:
        top = pathlib.Path(folder)

        def run(*arguments: str) -> None:
            subprocess.run([towline, *arguments], check=True, cwd=folder, stdout=subprocess.DEVNULL)

        run("-q", "init", "site", "--server-name", "localhost")
        for kind, path in PATHS.items():
            (top / f"{kind}.toml").write_text(RECIPE.format(kind=kind, path=path))
            run("-q", "layer", "build", f"{kind}.toml", "-o", "built")
        layers = [str(layer) for layer in (top / "built").glob("*.layer")]
        assert len(layers) == len(PATHS), layers
        run("-q", "publish", "--config", "site/towline.toml", *layers)
        metadata = top / "site/store/metadata"
        (top / "kept").mkdir()
        root = (metadata / "1.root.json").read_bytes()
        updater = Updater(str(top / "kept"), f"file://{metadata}/", fetcher=Files(), bootstrap=root)
        updater.refresh()
        for kind in PATHS:
            found = updater.get_targetinfo(f"{kind}/acme/1/amd64")
            assert found is not None and found.unrecognized_fields["custom"]["kind"] == kind, kind
            stored = top / "site/store/layers" / found.hashes["sha256"]
            found.verify_length_and_hashes(stored.read_bytes())
        assert updater.get_targetinfo("agent/acme/2/amd64") is None
