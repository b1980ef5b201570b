"""``ddmseg dicom-node`` and ``ddmseg dicom-send``: what they refuse; addresses; privacy."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest

from ddmseg.errors import ScanError, UsageError
from ddmseg.node.addresses import Peer, parse_peer, parse_title
from ddmseg.node.destinations import StowDestination
from ddmseg.node.log import plain_reason, silent_libraries
from dicom_files import affine_of, rotation, scan, write_series
from free_ports import free_ports


@pytest.fixture
def node(ddmseg, tiny_model, tmp_path):
    """Run the command with what it needs, and something wrong."""

    def run(*words: object):
        needed = ("-o", tmp_path / "out", "--spool", tmp_path / "spool", "--model", tiny_model)
        return ddmseg("dicom-node", *needed, *words)

    return run


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--title", "A" * 17), "title: got 'AAAAAAAAAAAAAAAAA'; an AE title has 1 to 16"),
        (("--title", "A\\B"), "an AE title has 1 to 16 ASCII characters without backslash"),
        (("--send", "127.0.0.1:104"), "give TITLE@HOST:PORT, such as PACS@10.0.0.5:104"),
        (("--send", "PACS@host:0"), "send: got 'PACS@host:0'; give TITLE@HOST:PORT"),
        (("--stow", "ftp://host/x"), "stow: give http://HOST:PORT/PATH"),
        (("--stow", "https://me:secret@host/x"), "goes into the variable DDMSEG_STOW_AUTHORIZ"),
        (("--address", "0.0.0.0"), "allow: missing, and 0.0.0.0 can be reached from other"),
        (("--quiet-seconds", "0"), "quiet_seconds: got 0; it must be above 0"),
        (("--retry-seconds", "0"), "retry: got 0 to 900 s"),
        (("--spool-gb", "-1"), "spool: got -1 GB"),
        (("--max-pdu", "10"), "pdu_bytes: got 10; it must be at least 4096"),
        (("--max-associations", "0"), "associations: got 0; it must be at least 1"),
        (("--threads", "0"), "threads: got 0"),
        (("--tls-key", "key.pem"), "a certificate and its key belong together"),
        (("--port", "70000"), "port: cannot listen on 127.0.0.1 port 70000"),
        (("--model", "nobody"), "--model: given twice"),
    ],
)
def test_wrong_options_are_one_line(node, words, told) -> None:
    outcome = node(*words)
    assert outcome.code == 2
    assert told in outcome.error
    assert "secret" not in outcome.error


def test_the_spool_and_the_output_must_be_folders(node, tmp_path) -> None:
    (tmp_path / "spool").write_text("a file")
    assert "as spool: " in node("--port", 0).error
    (tmp_path / "spool").unlink()
    (tmp_path / "out").rmdir()
    (tmp_path / "out").write_text("a file")
    assert f"cannot use {tmp_path / 'out'}: " in node("--port", 0).error


def test_a_missing_package_is_told_with_the_install_line(node, monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pynetdicom", None)
    outcome = node("--port", 0)
    assert outcome.code == 2
    assert "'pynetdicom' of the extra 'node'" in outcome.error
    assert outcome.error.endswith("'pynetdicom>=3'")


def test_the_help_names_every_option(ddmseg) -> None:
    outcome = ddmseg("dicom-node", "--help")
    for option in ("--allow", "--quiet-seconds", "--stow", "--keep-days", "--tls-authority"):
        assert option in outcome.out
    assert "not for diagnosis" in outcome.out


def test_dicom_send_says_what_is_missing(ddmseg, tmp_path) -> None:
    result = tmp_path / "job-000001" / "series-004"
    assert "--send or --stow is missing" in ddmseg("dicom-send", result).error
    to = ("--send", "PACS@127.0.0.1:9")
    assert "no DICOM result of that name" in ddmseg("dicom-send", result, *to).error
    result.parent.mkdir()
    correction = result.with_name("series-004_desc-corrected_dseg.nii.gz")
    correction.write_bytes(b"labels")
    assert "name the spool or the DICOM folder" in ddmseg("dicom-send", result, *to).error
    words = (*to, "--source", tmp_path)
    told = ddmseg("dicom-send", result, *words).error
    assert "series-004_dseg.dcm: missing; it tells which series" in told


def test_dicom_send_to_an_archive_that_is_down_says_to_repeat_it(ddmseg, tmp_path) -> None:
    write_series(tmp_path, scan(), affine_of(rotation(0, 0, 0)))[0].rename(
        tmp_path / "series-004_dseg.dcm"
    )
    (port,) = free_ports(1)
    outcome = ddmseg("dicom-send", tmp_path / "series-004", "--send", f"PACS@127.0.0.1:{port}")
    assert outcome.code == 1
    assert outcome.error == (
        f"PACS@127.0.0.1:{port} does not answer; nothing is queued: repeat the command later"
    )
    assert outcome.out == ""


def test_addresses() -> None:
    assert parse_peer("PACS@10.0.0.5:104", option="send") == Peer("PACS", "10.0.0.5", 104)
    assert str(parse_peer("A B@[::1]:11112", option="send")) == "A B@[::1]:11112"
    assert parse_title(" MR1 ", option="title") == "MR1"
    for wrong in ("", "@host:1", "A@:1", "A@host:", "A@host:65536", "A@host:-1", "A@host:\u0661"):
        with pytest.raises(UsageError, match="send: got"):
            parse_peer(wrong, option="send")


@pytest.mark.parametrize(
    "url", ["", "host", "http://", "http://host:x/", "http://host/?a=b", "http://u@host/"]
)
def test_addresses_of_services(url: str) -> None:
    with pytest.raises(UsageError, match="stow: give http"):
        StowDestination(url)
    assert StowDestination("http://host/dicom-web/").name == "http://host/dicom-web"


def test_reasons_hold_no_uid_no_path_and_no_text_of_others() -> None:
    spool = Path("/spool/jobs/000001/images")
    error = ScanError(f"{spool}/1.2.840.113619.2.5/1.3.12.2.1107.5: damaged DICOM file")
    assert plain_reason(error, spool) == "(UID)/(UID): damaged DICOM file"
    assert plain_reason(ValueError("Doe^Jane")) == "unexpected ValueError"
    assert plain_reason(RuntimeError("Doe^Jane")) == "unexpected RuntimeError"
    assert "memory is used up" in plain_reason(MemoryError())
    assert plain_reason(OSError(28, "No space left on device", "/x/Doe")) == (
        "No space left on device"
    )


def test_libraries_are_silent_in_every_thread(caplog, capfd) -> None:
    def speak() -> None:
        for name in ("pydicom", "pynetdicom.acse", "highdicom.seg"):
            logging.getLogger(name).critical("Doe^Jane")
        raise ValueError("Doe^Jane")

    with silent_libraries():
        thread = threading.Thread(target=speak)
        thread.start()
        thread.join()
    assert "Doe" not in caplog.text + "".join(capfd.readouterr())
    assert logging.getLogger("pydicom").isEnabledFor(logging.CRITICAL)
