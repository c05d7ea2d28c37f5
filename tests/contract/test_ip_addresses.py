"""Which IP addresses URLs may lead to."""

import ipaddress

import pytest

from model_garden.contract.ip_addresses import is_local, is_public


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("64:ff9b::5db8:d822", True),
        *(
            (address, False)
            for address in (
                *("127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),
                *(
                    "224.0.0.1",
                    "::1",
                    "fe80::1",
                    "fd00::1",
                    "::ffff:127.0.0.1",
                    "64:ff9b::a00:1",
                    "2002:7f00:1::",
                    "ff02::1",
                ),
            )
        ),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("169.254.169.254", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("fe80::1%eth0", True),
        ("fd00:ec2::254", True),
        ("fd20:ce::254", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("2002:a9fe:a9fe::1", True),
        ("100.100.100.200", True),
        ("224.0.0.1", True),
        ("0.0.0.0", True),
        ("255.255.255.255", True),
        ("10.0.0.7", False),
        ("203.0.113.7", False),
        ("2001:db8::1", False),
        ("2002:a00:7::1", False),
    ],
)
def test_local_addresses(address: str, local: bool) -> None:
    assert is_local(ipaddress.ip_address(address)) is local
