#!/usr/bin/env python3
"""Towline's signed events against cryptography (PyPI), another implementation of Ed25519.

It makes the example of docs/formats/api.md by what that page says and nothing else.
"""

import pathlib
import re

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAGE = pathlib.Path(__file__).parents[2] / "docs/formats/api.md"


def message(recovery: str, body: bytes) -> bytes:
    return b"towline/event/1\0" + recovery.encode() + b"\0" + body


def main() -> None:
    example = PAGE.read_text().split("report-token  ", 1)[1].split("```", 1)[0]
    seed, public, signature = map(bytes.fromhex, re.findall(r"\b[0-9a-f]{64,}\b", example))
    body = re.search(r"^body +(.*)$", example, re.M)[1].encode()
    recovery = re.search(r"^towline-signature: (\S+) ", example, re.M)[1]
    key = Ed25519PrivateKey.from_private_bytes(seed)
    assert key.public_key().public_bytes_raw() == public
    assert key.sign(message(recovery, body)) == signature
    verifier = Ed25519PublicKey.from_public_bytes(public)
    verifier.verify(signature, message(recovery, body))
    for changed in [message(recovery, body + b" "), message("r-fedcba9876543210", body), body]:
        try:
            verifier.verify(signature, changed)
        except InvalidSignature:
            continue
        raise AssertionError(f"verified: {changed!r}")
    print("cryptography signs and verifies what docs/formats/api.md shows")


main()
