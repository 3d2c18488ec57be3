"""Names are looked up with help for typing errors."""

from collections import OrderedDict

import pytest

from contrans.core.registry import lookup, unknown

TABLE = {"ordered": "collections:OrderedDict", "lazy": "no_such_module:x"}


def test_lookup_imports_only_what_is_asked_for():
    assert lookup("thing", TABLE, "ordered") is OrderedDict


def test_unknown_names_suggest_near_ones():
    with pytest.raises(
        KeyError, match=r"unknown thing 'orderd'; did you mean 'ordered'"
    ):
        lookup("thing", TABLE, "orderd")
    assert "did you mean" not in str(unknown("thing", "zzz", TABLE))
