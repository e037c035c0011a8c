#!/usr/bin/env python3
"""Towline's sealed messages against pyhpke (PyPI), another implementation of RFC 9180.

It makes the example of docs/formats/seal.md, byte for byte, by what that page says and nothing else, and opens what is shown there.
"""

import hashlib
import pathlib
import re

from pyhpke import AEADId, CipherSuite, KDFId, KEMId
from pyhpke.kem_key_interface import KEMKeyInterface
from pyhpke.exceptions import OpenError

PAGE = pathlib.Path(__file__).parents[2] / "docs/formats/seal.md"
MAGIC = b"TOWSEAL1"
SUITE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305)


def pair(byte: int):
    return SUITE.kem.derive_key_pair(bytes([byte] * 32))


def seal(to: KEMKeyInterface, info: bytes, aad: bytes, message: bytes, ephemeral: int) -> bytes:
    enc, context = SUITE.create_sender_context(to, info=info, eks=pair(ephemeral))
    return MAGIC + enc + context.seal(message, aad=aad)


def opened(key: KEMKeyInterface, info: bytes, aad: bytes, sealed: bytes) -> bytes:
    assert sealed.startswith(MAGIC)
    enc, ciphertext = sealed[8:40], sealed[40:]
    return SUITE.create_recipient_context(enc, key, info=info).open(ciphertext, aad=aad)


def main() -> None:
    example = PAGE.read_text().split("```text", 1)[1].split("```", 1)[0]
    server_public, request, machine_public, answer = map(bytes.fromhex, re.findall(r"[0-9a-f]{64,}", example))
    server, machine = pair(1), pair(3)
    assert server.public_key.to_public_bytes() == server_public
    assert machine.public_key.to_public_bytes() == machine_public
    as_request, as_answer = b"towline/recovery-request/1", b"towline/recovery-answer/1"
    digest = hashlib.sha256(request).digest()
    assert seal(server.public_key, as_request, b"", b"code", 2) == request
    assert seal(machine.public_key, as_answer, digest, b"plan", 4) == answer
    assert opened(server.private_key, as_request, b"", request) == b"code"
    assert opened(machine.private_key, as_answer, digest, answer) == b"plan"
    # Neither is the other, nor the answer to another request.
    for info, aad in [(as_request, digest), (as_answer, b""), (as_answer, bytes(32))]:
        try:
            opened(machine.private_key, info, aad, answer)
        except OpenError:
            continue
        raise AssertionError(f"opened as {info!r}")
    print("pyhpke seals and opens what docs/formats/seal.md shows")


main()
