"""Text or vision, decided from data and model."""

import pytest

from model_garden.openai_api.request import Invalid
from model_garden.openai_api.vision import decide


@pytest.mark.parametrize(
    ("images", "takes_images", "vision"),
    [
        (True, True, True),
        (True, None, True),
        (False, True, False),  # text trains a model that takes images too
        (None, True, True),
        (False, False, False),
        (None, None, False),
    ],
)
def test_the_data_and_the_model_decide(images: bool | None, takes_images: bool | None, vision: bool) -> None:
    assert decide("a/b", images=images, takes_images=takes_images) is vision


def test_images_for_a_text_model_are_refused() -> None:
    with pytest.raises(Invalid, match="a/b takes no images, but training_file has rows with images"):
        decide("a/b", images=True, takes_images=False)
