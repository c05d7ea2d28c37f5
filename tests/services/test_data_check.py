"""The check of a data set by fields of the spec."""

from __future__ import annotations

from typing import get_args

import pytest

from model_garden.contract.methods import Method
from model_garden.services.data_check import check_by_fields


@pytest.mark.parametrize("method", get_args(Method))
def test_options_of_images_are_accepted_for_each_method_before_the_rows_show_whether_they_have_images(
    method: Method,
) -> None:
    check = check_by_fields(
        "rows.jsonl", {"method": method, "imageOptions": {"maxPixels": 3136}, "fetchPictures": True}
    )
    assert (check.vision, check.max_pixels, check.pictures is not None) == (None, 3136, True)
