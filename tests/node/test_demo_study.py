"""The study that the page sends: what it says of itself, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from ddmseg.errors import UsageError
from ddmseg.node.demo_study import main, write_demo_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_demo_study(tmp_path_factory.mktemp("demo") / "study")


def test_the_images_are_of_one_series_and_each_is_its_own(study: list[Path]) -> None:
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in study]
    assert len(headers) == 181
    for shared in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "PatientID"):
        assert len({header[shared].value for header in headers}) == 1
    assert len({header.SOPInstanceUID for header in headers}) == 181
    assert [header.InstanceNumber for header in headers] == list(range(1, 182))
    # RAS (-90, -125, -71) mm in DICOM's own directions, which point left, back and up
    assert headers[0].ImagePositionPatient == [90, 125, -71]
    assert headers[3].ImagePositionPatient == [90, 125, -68]
    assert headers[0].ImageOrientationPatient == [-1, 0, 0, 0, -1, 0]


def test_made_again_it_is_the_same_study(study: list[Path], tmp_path: Path) -> None:
    again = write_demo_study(tmp_path / "again")
    assert [path.read_bytes() for path in again[:3]] == [path.read_bytes() for path in study[:3]]


def test_nothing_is_written_over(study: list[Path], tmp_path: Path, capsys) -> None:
    with pytest.raises(UsageError, match="is there already; name a new folder"):
        write_demo_study(study[0].parent)
    with pytest.raises(UsageError, match="is there already"):
        write_demo_study(study[0])
    assert main([]) == main(["a", "b"]) == 2
    assert main([str(study[0].parent)]) == 2
    assert "error: " in capsys.readouterr().err


def test_without_pydicom_the_install_line_is_told(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['pydicom'] = None\n"
        "from ddmseg.node.demo_study import main\n"
        f"raise SystemExit(main([{str(tmp_path / 'study')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "of the extra 'dicom'" in done.stderr
    assert not (tmp_path / "study").exists()
