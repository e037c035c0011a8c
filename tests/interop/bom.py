#!/usr/bin/env python3
"""The packages of a layer, as `towline layer inspect --sbom` tells them, read by CycloneDX's own library (PyPI).

A layer is built of two Debian packages made here; its document must keep to the strict JSON schema of version 1.6, be read into
the library's model, and have the packages with their URLs as packageurl-python reads them.
"""

import io
import json
import pathlib
import subprocess
import sys
import tarfile
import tempfile

from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

PACKAGES = [("libstdc++6", "12.2.0-14+deb12u1", "amd64"), ("bsdutils", "1:2.38.1-5~bpo1", "all")]
RECIPE = """
kind = "agent"
name = "example"
version = "1"
time = "2025-01-01T00:00:00Z"
[[source]]
type = "deb"
files = [{}]
"""


def archive(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def deb(name: str, version: str, architecture: str) -> bytes:
    control = f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n".encode()
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": archive({"./control": control}),
        "data.tar.gz": archive({f"./usr/share/{name}/file": name.encode()}),
    }
    out = b"!<arch>\n"
    for member, content in members.items():
        out += f"{member:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode()
        out += content + b"\n" * (len(content) % 2)
    return out


def main(towline: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        here = pathlib.Path(folder)
        names = []
        for number, package in enumerate(PACKAGES):
            names.append(f"{number}.deb")
            (here / names[-1]).write_bytes(deb(*package))
        (here / "recipe.toml").write_text(RECIPE.format(", ".join(f'"{name}"' for name in names)))
        build = [towline, "-q", "layer", "build", "recipe.toml", "--json"]
        built = json.loads(subprocess.run(build, cwd=here, check=True, capture_output=True).stdout)
        inspect = [towline, "layer", "inspect", built["layer"], "--sbom"]
        text = subprocess.run(inspect, cwd=here, check=True, capture_output=True, text=True).stdout

    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert error is None, error
    bom = Bom.from_json(json.loads(text))
    assert bom.metadata.component.hashes[0].content == built["digest"]
    found = {}
    for component in bom.components:
        url = component.purl
        assert PackageURL.from_string(str(url)) == url
        assert (url.type, url.namespace) == ("deb", "debian")
        assert (url.name, url.version) == (component.name, component.version)
        found[url.name, url.version] = url.qualifiers["arch"]
    assert found == {(name, version): architecture for name, version, architecture in PACKAGES}, found
    print("cyclonedx-python-lib reads the packages of a layer, and finds its document valid")


main(sys.argv[1])
