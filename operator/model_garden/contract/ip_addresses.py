"""PURE: which IP addresses a URL of a user may lead to.

Addresses of IPv6 that hold one of IPv4 are judged by that one.
"""

from __future__ import annotations

import ipaddress

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""The last 32 bits of such an address are one of IPv4 (RFC 6052)."""
_METADATA = [
    ipaddress.ip_network(net)
    for net in (
        "100.100.100.200",  # Alibaba Cloud
        "fd00:100::100:200",  # the same
        "168.63.129.16",  # Azure
        "fd00:ec2::/32",  # AWS
        "fd20:ce::254",  # Google Cloud
        "192.0.0.192",  # Oracle Cloud
        "fd00:c1::a9fe:a9fe",  # the same
        "fd00:42::42",  # Scaleway
        "fd00:a9fe:a9fe::1",  # Akamai
    )
]
"""Metadata services of clouds at addresses that are not link-local."""


def is_public(address: Address) -> bool:
    """Whether an address is one of the public internet: not private, loopback, link-local, shared or multicast."""
    address = _unwrapped(address)
    return address.is_global and not address.is_multicast


def is_local(address: Address) -> bool:
    """Whether an address is this machine, the link, a group or a metadata service of a cloud."""
    address = _unwrapped(address)
    special = address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified
    return special or int(address) == 2**32 - 1 or any(address in net for net in _METADATA)


def _unwrapped(address: Address) -> Address:
    """The IPv4 address that one of IPv6 holds: mapped, of NAT64, or of 6to4 (RFC 3056)."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    nat64 = ipaddress.IPv4Address(int(address) % 2**32) if address in _NAT64 else None
    return address.ipv4_mapped or nat64 or address.sixtofour or address
