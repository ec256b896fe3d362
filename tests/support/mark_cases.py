"""Clips saved with their marks, and keys to sign them with."""

from __future__ import annotations

import datetime
import io
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import c2pa
import folder_paths
import torch
from comfy_api.latest import Types
from comfy_extras.nodes_video import SaveVideo
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from ovi_native.nodes.saving import OviSaveVideo
from ovi_native.ovi_core.media import content_credentials, provenance

GENERATED = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
COMPOSITE = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
GRAPH = {"nodes": [{"type": "OviSaveVideo"}]}
HIDDEN = SimpleNamespace(prompt={"1": {"class_type": "OviSaveVideo"}}, extra_pnginfo={"workflow": GRAPH})


def components() -> Types.VideoComponents:
    sound = {"waveform": 0.1 * torch.randn(1, 1, 4000), "sample_rate": 16_000}
    return Types.VideoComponents(images=torch.rand(6, 32, 64, 3), audio=sound, frame_rate=Fraction(24))


def saved(node: Any = OviSaveVideo, video: Any = None, hidden: Any = HIDDEN, **inputs: Any) -> Path:
    """The file that a node saves."""
    video = video or provenance.MarkedVideo(components())
    prepared = node.PREPARE_CLASS_CLONE(None)
    prepared.hidden = hidden
    result = prepared.execute(video, "clips/test", **inputs)
    (image,) = result.ui.as_dict()["images"]
    return Path(folder_paths.get_output_directory(), image["subfolder"], image["filename"])


def stock(**inputs: Any) -> Path:
    """The file that ComfyUI's own node saves."""
    return saved(SaveVideo, format="mp4", codec={"codec": "h264"}, **inputs)


def tags(file: Path | io.BytesIO) -> dict[str, str]:
    with av.open(file if isinstance(file, io.BytesIO) else str(file), options={"export_xmp": "1"}) as container:
        return dict(container.metadata)


def certificate(subject: str, key: Any, issuer: str, issuer_key: Any, authority: bool) -> x509.Certificate:
    """A certificate as the C2PA specification asks for, valid for a day."""
    now = datetime.datetime.now(datetime.timezone.utc)

    def name(common: str) -> x509.Name:
        pairs = [(NameOID.ORGANIZATION_NAME, "Test"), (NameOID.COMMON_NAME, common)]
        return x509.Name([x509.NameAttribute(*pair) for pair in pairs])

    usages = ["digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"]
    usages += ["key_cert_sign", "crl_sign", "encipher_only", "decipher_only"]
    chosen = {"key_cert_sign", "crl_sign"} if authority else {"digital_signature"}
    builder = (
        x509.CertificateBuilder(name(issuer), name(subject), key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(authority, None), critical=True)
        .add_extension(x509.KeyUsage(**{usage: usage in chosen for usage in usages}), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if not authority:
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


KEYS = {
    "es256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "es384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ps256": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}


def set_up(kind: str = "es256") -> None:
    """A key of ``kind`` and its certificates, where they are looked for."""
    root, key = ec.generate_private_key(ec.SECP256R1()), KEYS[kind]()
    chain = [certificate("signer", key, "root", root, False), certificate("root", root, "root", root, True)]
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    content_credentials.folder().mkdir(parents=True)
    (content_credentials.folder() / "private_key.pem").write_bytes(secret)
    (content_credentials.folder() / "certificates.pem").write_bytes(b"".join(c.public_bytes(encoding) for c in chain))


def manifest(file: Path) -> tuple[dict[str, Any], str]:
    """The active manifest and the state of its validation, as the library reads them."""
    with c2pa.Reader(str(file)) as reader:
        return reader.get_active_manifest(), reader.get_validation_state()
