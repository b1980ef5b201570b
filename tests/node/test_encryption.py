"""TLS both ways, with certificates made on the spot."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

from ddmseg.errors import SettingsError, UsageError
from ddmseg.node.addresses import Certificates, Peer
from ddmseg.node.destinations import StoreDestination, UnreachableError
from dicom_network import wait_for


def openssl(*words: object) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, timeout=60)


def make_authority(folder: Path, name: str) -> tuple[Path, Path]:
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    openssl(
        *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", key, "-out", certificate, "-days", 2, "-subj", f"/CN={name}"),
    )
    return certificate, key


def make_certificate(folder: Path, name: str, authority: tuple[Path, Path]) -> tuple[Path, Path]:
    request, key, made = (folder / f"{name}.{end}" for end in ("csr", "key", "pem"))
    extensions = folder / f"{name}.cnf"
    extensions.write_text("subjectAltName=IP:127.0.0.1\n")
    openssl(
        *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
        *("-keyout", key, "-out", request, "-subj", f"/CN={name}"),
    )
    openssl(
        *("x509", "-req", "-in", request, "-CA", authority[0], "-CAkey", authority[1]),
        *("-CAcreateserial", "-out", made, "-days", 2, "-extfile", extensions),
    )
    return made, key


def destination(port: int, certificates: Certificates) -> StoreDestination:
    return StoreDestination(Peer("DDMSEG", "127.0.0.1", port), "SCANNER", certificates.client())


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Path, Path]:
    return make_authority(tmp_path, "ours")


def test_only_those_with_a_certificate_get_in(make_node, study, tmp_path, authority) -> None:
    node_files = make_certificate(tmp_path, "node", authority)
    ours = Certificates(*node_files, authority[0])
    node = make_node(quiet_seconds=60.0, encryption=ours.server()).start()
    assert "as DDMSEG, TLS; " in node.lines[0]

    # a peer that never shakes hands keeps nobody else out
    with socket.create_connection(("127.0.0.1", node.port)):
        scanner = make_certificate(tmp_path, "scanner", authority)
        destination(node.port, Certificates(*scanner, authority[0])).send(study[:2])
    assert len(list(node.spool.rglob("*.dcm"))) == 2

    with pytest.raises(UnreachableError, match="does not answer"):
        destination(node.port, Certificates(authority=authority[0])).send(study[2:3])
    other = make_authority(tmp_path, "theirs")
    stranger = make_certificate(tmp_path, "stranger", other)
    with pytest.raises(UnreachableError, match="does not answer"):
        destination(node.port, Certificates(*stranger, authority[0])).send(study[2:3])
    # and we do not believe a server of another authority
    with pytest.raises(UnreachableError, match="does not answer"):
        destination(node.port, Certificates(*scanner, other[0])).send(study[2:3])
    plain = StoreDestination(Peer("DDMSEG", "127.0.0.1", node.port), "SCANNER")
    with pytest.raises(UnreachableError, match="does not answer"):
        plain.send(study[2:3])
    assert len(list(node.spool.rglob("*.dcm"))) == 2
    assert wait_for(lambda: [one for one in node.lines if "2 images received" in one], "a line")


def test_old_versions_are_not_spoken(tmp_path, authority) -> None:
    context = Certificates(*make_certificate(tmp_path, "node", authority)).server()
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert Certificates().server() is None
    assert Certificates().client().check_hostname


def test_files_that_do_not_do(tmp_path, authority) -> None:
    with pytest.raises(SettingsError, match="tls: a certificate and its key belong together"):
        Certificates(certificate=authority[0])
    with pytest.raises(UsageError, match="tls: a certificate, key or authority cannot be used"):
        Certificates(authority[0], tmp_path / "nowhere.key").server()
    (tmp_path / "junk").write_text("junk")
    with pytest.raises(UsageError, match="give PEM files that belong together"):
        Certificates(authority=tmp_path / "junk").client()
