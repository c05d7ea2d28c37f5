"""What the operator reads in a claim of devices and in a DeviceClass. test_gpu_sharing.py has whole jobs."""

import pytest

from model_garden.controller.device_claims import class_names, driver_of, requests_of, unknown_request
from tests.controller import builders as b


@pytest.mark.parametrize(
    ("expression", "driver"),
    [
        ("device.driver == 'gpu.nvidia.com'", "gpu.nvidia.com"),
        ('device.driver=="gpu.nvidia.com"', "gpu.nvidia.com"),
        ("device.driver == 'gpu.nvidia.com' && device.attributes['gpu.nvidia.com'].type == 'gpu'", "gpu.nvidia.com"),
        ("device.driver == 'a' || device.driver == 'b'", None),
        ("device.driver == 'a' && has(device.attributes['a']) || device.driver == 'b'", None),
        ("device.driver == 'a' && x ? true : device.driver == 'b'", None),
        ("device.driver != 'a'", None),
        ("!(device.driver == 'a')", None),
        ("device.driver.startsWith('gpu')", None),
    ],
)
def test_a_driver_is_read_only_where_no_other_can_match(expression: str, driver: str | None) -> None:
    assert driver_of({"spec": {"selectors": [{"cel": {"expression": expression}}]}}) == driver


def test_any_selector_may_name_the_driver() -> None:
    """A device has to match all of them."""
    selectors = [{"cel": {"expression": one}} for one in ("device.allowMultipleAllocations", "device.driver == 'a'")]
    assert driver_of({"spec": {"selectors": selectors}}) == "a"
    assert driver_of({"spec": {}}) is None


def test_a_request_names_one_class_or_one_for_each_alternative() -> None:
    alternatives = [{"name": name, "deviceClassName": name} for name in ("large", "small")]
    assert class_names({"name": "gpu", "exactly": {"deviceClassName": "large"}}) == ["large"]
    assert class_names({"name": "gpu", "firstAvailable": alternatives}) == ["large", "small"]
    assert class_names({"name": "gpu", "someday": {}}) == []


def test_a_template_has_the_spec_of_a_claim() -> None:
    requests = [{"name": "gpu"}]
    claim = {"spec": {"devices": {"requests": requests}}}
    assert requests_of(claim) == requests_of({"spec": claim}) == requests
    assert requests_of({"spec": {}}) == requests_of({"spec": {"spec": {}}}) == []


@pytest.mark.parametrize(("request_", "unknown"), [(None, None), ("first", None), ("frist", "frist")])
def test_only_a_request_that_the_claim_does_not_have_is_unknown(request_: str | None, unknown: str | None) -> None:
    named = {"name": "gpu"} | ({"request": request_} if request_ else {})
    spec = b.plan(resources={"claims": [named]}, podTemplate=b.CLAIMS).spec
    assert unknown_request(spec, "gpu", [{"name": "first"}, {"name": "second"}]) == unknown
    assert unknown_request(spec, "another", []) is None
