"""Which addresses may be dialled on behalf of a stranger.

`ipaddress.is_global` alone is no judge: to Python 3.11 the NAT64 and 6to4 forms of 127.0.0.1 are
global, and so is multicast. So an address is unwrapped first, every address inside it is judged,
and what is left has to be plain global unicast.
"""

import ipaddress
from collections.abc import Iterator

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_6TO4 = ipaddress.IPv6Network("2002::/16")

# Global or not depending on the Python version, or global by the registry and still not a place
# for strangers. 64:ff9b:1::/48 is NAT64 of the operator's own making: where the IPv4 address
# stands in it is not known here.
_DENIED = tuple(
    ipaddress.ip_network(network)
    for network in (
        "168.63.129.16/32",  # Azure's control address, on every virtual machine there
        "192.0.0.0/24",  # protocol assignments
        "192.88.99.0/24",  # 6to4 relays
        "64:ff9b:1::/48",
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",
        "3fff::/20",
        "5f00::/16",
    )
)


def parse_address(text: str) -> IPAddress:
    """Return the address that `text` is, without a zone; raises `ValueError` if it is none."""
    return ipaddress.ip_address(text.partition("%")[0])


def plain(address: IPAddress) -> IPAddress:
    """Return the address that a dial of `address` reaches: an IPv4-mapped one is IPv4."""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def is_public(address: IPAddress) -> bool:
    """Whether `address`, and every address wrapped in it, is global unicast."""
    address = plain(address)
    return _is_global_unicast(address) and all(map(_is_global_unicast, _inside(address)))


def _inside(address: IPAddress) -> Iterator[ipaddress.IPv4Address]:
    """The IPv4 address to which a router may turn an IPv6 packet (RFC 6052, RFC 3056)."""
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address in _NAT64:
        yield ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    if address in _6TO4:
        yield ipaddress.IPv4Address(int(address) >> 80 & 0xFFFFFFFF)


def _is_global_unicast(address: IPAddress) -> bool:
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64 or address in _6TO4:
            # A translator's own prefix, what counts is the address inside. Whether 6to4 is global
            # depends on the version of Python.
            return True
        if address not in _GLOBAL_UNICAST:
            return False
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not address.is_unspecified
        and not any(address in network for network in _DENIED)
    )
