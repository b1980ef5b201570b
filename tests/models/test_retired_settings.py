"""Cards and records of settings that are gone."""

from __future__ import annotations

import json

import pytest

from ddmseg.errors import SettingsError
from ddmseg.models.settings import Settings
from ddmseg.models.settings.retired import RETIRED, without_retired
from ddmseg.models.settings_reader import settings_from_dict, settings_to_dict


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("model", "guided", True),
        ("model", "norm_group", 8),
        ("data", "guide", "level_one"),
        ("sampling", "decides", [11]),
        ("sampling", "one_body", True),
    ],
)
def test_settings_that_are_gone_load_from_records_where_they_did_nothing(table, key, value):
    stored = json.loads(json.dumps(settings_to_dict(Settings("old"))))
    for name, keys in RETIRED.items():
        stored[name].update(keys)
    assert settings_from_dict(Settings, without_retired(stored)) == Settings("old")
    with pytest.raises(SettingsError, match=f"{table}.{key}: unknown setting"):
        settings_from_dict(Settings, {"name": "new", table: {key: RETIRED[table][key]}})
    stored[table][key] = value
    with pytest.raises(SettingsError, match=rf"^{table}.{key}: got .*which is gone from ddmseg"):
        without_retired(stored)
