"""The feature cache: gives back what it was given, forgets the right thing, never fails."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ddmseg.errors import SettingsError
from ddmseg.inference.cache import (
    CACHE_VARIABLE,
    LIMIT_VARIABLE,
    MAX_BYTES,
    FeatureCache,
    cache_folder,
    cache_limit,
)

Entry = dict[str, Tensor]


def entry(value: float = 1.0, count: int = 1000) -> Entry:
    return {"stem": torch.full((count,), value), "box": torch.tensor([[0, 8], [1, 9]])}


def same(one: Entry | None, other: Entry) -> bool:
    return (
        one is not None
        and one.keys() == other.keys()
        and all(torch.equal(one[name], other[name]) for name in other)
    )


def files(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.safetensors"))


def set_age(folder: Path, key: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(folder / f"{key}.safetensors", (then, then))


def test_what_was_put_comes_back_in_the_next_process_too(tmp_path) -> None:
    first = FeatureCache(tmp_path)
    assert first.get("a") is None
    first.put("a", entry(3.0))
    assert same(first.get("a"), entry(3.0))
    assert same(FeatureCache(tmp_path).get("a"), entry(3.0))
    assert first.get("b") is None


def test_types_and_values_survive_to_the_bit(tmp_path) -> None:
    odd = {
        "half": torch.tensor([1.0, float("nan"), -0.0]).half(),
        "bfloat": torch.randn(3, 2).bfloat16(),
        "whole": torch.tensor([[2**40, -1]]),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(2.5),
        "truth": torch.tensor([True, False]),
    }
    FeatureCache(tmp_path).put("a", odd)
    back = FeatureCache(tmp_path).get("a")
    assert back is not None
    for name, tensor in odd.items():
        assert back[name].dtype == tensor.dtype
        assert back[name].shape == tensor.shape
        assert torch.equal(back[name].nan_to_num(7), tensor.nan_to_num(7))


def test_any_memory_layout_can_be_put(tmp_path) -> None:
    last = torch.randn(1, 4, 3, 5, 2).to(memory_format=torch.channels_last_3d)
    shared = torch.randn(6)
    FeatureCache(tmp_path).put("a", {"last": last, "part": shared[::2], "again": shared})
    back = FeatureCache(tmp_path).get("a")
    assert same(back, {"last": last, "part": shared[::2], "again": shared})


def test_a_caller_may_take_out_of_the_entry_what_he_likes(tmp_path) -> None:
    cache = FeatureCache(tmp_path)
    cache.put("a", entry())
    for _ in range(2):
        found = cache.get("a")
        assert found is not None
        assert found.pop("box").shape == (2, 2)


def test_putting_again_replaces(tmp_path) -> None:
    cache = FeatureCache(tmp_path)
    cache.put("a", entry(1.0))
    cache.put("a", entry(2.0))
    assert same(cache.get("a"), entry(2.0))
    assert same(FeatureCache(tmp_path).get("a"), entry(2.0))


def test_files_stay_within_the_limit_and_the_least_used_go(tmp_path) -> None:
    FeatureCache(tmp_path).put("a", entry())
    size = (tmp_path / "a.safetensors").stat().st_size
    cache = FeatureCache(tmp_path, 3 * size)
    cache.put("b", entry())
    cache.put("c", entry())
    for seconds, key in enumerate("cba"):
        set_age(tmp_path, key, 100 + seconds)
    assert cache.get("a") is not None  # used just now, so b is the oldest
    cache.put("d", entry())
    assert files(tmp_path) == ["a", "c", "d"]
    assert cache.bytes_on_disk <= cache.max_bytes


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=8), st.integers(0, 40_000))
def test_the_limit_holds_whatever_is_put(tmp_path_factory, counts, limit) -> None:
    cache = FeatureCache(tmp_path_factory.mktemp("cache"), limit)
    for number, count in enumerate(counts):
        cache.put(str(number), entry(count=count))
        assert cache.bytes_on_disk <= limit


def test_an_entry_above_the_limit_is_not_stored_and_nothing_goes_for_it(tmp_path) -> None:
    cache = FeatureCache(tmp_path, 20_000)
    cache.put("a", entry())
    cache.put("large", entry(count=10_000))
    assert files(tmp_path) == ["a"]


def cut_off(data: bytes) -> bytes:
    return data[: len(data) // 2]


def with_a_flipped_bit(data: bytes) -> bytes:
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


@pytest.mark.parametrize(
    "damage", [cut_off, with_a_flipped_bit, lambda data: b"", lambda data: b"x" * 500]
)
def test_a_damaged_file_is_no_entry_and_goes(tmp_path, damage) -> None:
    FeatureCache(tmp_path).put("a", entry())
    path = tmp_path / "a.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    cache = FeatureCache(tmp_path)
    assert cache.get("a") is None
    assert not path.exists()
    cache.put("a", entry())
    assert same(FeatureCache(tmp_path).get("a"), entry())


def test_a_safetensors_file_of_somebody_else_is_no_entry(tmp_path) -> None:
    from safetensors.torch import save_file

    save_file(entry(), tmp_path / "a.safetensors")
    assert FeatureCache(tmp_path).get("a") is None


def test_the_features_of_one_scan_are_never_those_of_another(tmp_path) -> None:
    FeatureCache(tmp_path).put("a", entry(1.0))
    (tmp_path / "a.safetensors").rename(tmp_path / "b.safetensors")
    assert FeatureCache(tmp_path).get("b") is None
    assert files(tmp_path) == []


@pytest.mark.parametrize("kind", ["folder", "dangling link", "pipe"])
def test_whatever_lies_in_the_place_of_an_entry_is_a_miss(tmp_path, kind) -> None:
    path = tmp_path / "a.safetensors"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(tmp_path / "nowhere")
    cache = FeatureCache(tmp_path)
    assert cache.get("a") is None
    cache.put("a", entry())
    assert kind == "folder" or same(cache.get("a"), entry())


def test_the_limit_is_500_mb_and_other_caches_in_the_folder_count(tmp_path) -> None:
    assert MAX_BYTES == 500_000_000
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "a.onnx").write_bytes(bytes(20_000))
    cache = FeatureCache(tmp_path, 30_000)
    cache.put("a", entry())
    cache.put("b", entry())
    cache.put("c", entry())
    assert files(tmp_path) == ["b", "c"]
    assert cache.bytes_on_disk <= cache.max_bytes
    assert (tmp_path / "graphs" / "a.onnx").exists()


@pytest.mark.parametrize("named", ["", "~/mine", "~nobody-of-that-name/mine"])
def test_a_user_without_a_home_has_no_cache_in_it(monkeypatch, named) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, named)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")

    def unknown(*_: object) -> None:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert cache_folder() is None


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path) -> None:
    (tmp_path / "file").write_text("")
    cache = FeatureCache(tmp_path / "file" / "cache")
    cache.put("a", entry())
    assert cache.get("a") is None


def test_a_full_disk_is_no_error_and_leaves_nothing(tmp_path, monkeypatch) -> None:
    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    FeatureCache(tmp_path).put("a", entry())
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_a_killed_process_go_but_not_those_being_written(tmp_path) -> None:
    old, new = tmp_path / ".1.part", tmp_path / ".2.part"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    FeatureCache(tmp_path).put("a", entry())
    assert not old.exists()
    assert new.exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_only_the_owner_can_look_into_the_folder(tmp_path) -> None:
    FeatureCache(tmp_path / "cache").put("a", entry())
    assert stat.S_IMODE((tmp_path / "cache").stat().st_mode) == 0o700


def test_the_folder_is_where_user_or_platform_says(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv(CACHE_VARIABLE, "off")
    assert cache_folder() is None
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "ddmseg" / "features"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "ddmseg" / "features"


@pytest.mark.parametrize(
    ("said", "limit"),
    [("", MAX_BYTES), (" ", MAX_BYTES), ("0", 0), ("20", 20_000_000), (" 1.5 ", 1_500_000)],
)
def test_the_limit_is_what_the_variable_says(monkeypatch, said, limit) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, said)
    assert cache_limit() == limit


@pytest.mark.parametrize("said", ["-1", "nan", "inf", "1 GB", "much", "\n1\n2"])
def test_a_limit_that_is_none_is_refused_in_one_line(monkeypatch, said) -> None:
    monkeypatch.setenv(LIMIT_VARIABLE, said)
    with pytest.raises(SettingsError, match=r"DDMSEG_CACHE_MB: got .*; give megabytes") as caught:
        cache_limit()
    assert "\n" not in str(caught.value)


def test_a_lower_limit_than_before_removes_what_is_too_much(tmp_path) -> None:
    FeatureCache(tmp_path).put("a", entry())
    FeatureCache(tmp_path).put("b", entry())
    FeatureCache(tmp_path, 0).put("c", entry())
    assert files(tmp_path) == []
