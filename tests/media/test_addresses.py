"""The judge of addresses, against tables and against itself."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.media.addresses import is_public, parse_address, plain

PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "2606:4700::1111", "2a00:1450:4001::200e"]
NOT_PUBLIC = [
    *("0.0.0.0", "127.0.0.1", "127.255.255.255", "10.0.0.1", "172.16.0.1", "172.31.255.255"),
    *("192.168.1.1", "169.254.169.254", "100.64.0.1", "100.100.100.200", "192.0.0.8"),
    *("192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "168.63.129.16"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:a9fe:a9fe", "fe80::1", "fec0::1"),
    *("fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1", "100::1", "2001:db8::1", "3fff::1"),
    *("5f00::1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "64:ff9b:1::808:808", "2002:7f00:1::"),
    *("2002:a9fe:a9fe::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "4000::1"),
]

# IPv4 that is not for strangers, written down here a second time on purpose.
BLOCKS = [
    ipaddress.ip_network(block)
    for block in (
        *(
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "192.0.0.0/24",
        ),
        *("172.16.0.0/12", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
]

inside_a_block = st.one_of([st.ip_addresses(network=block) for block in BLOCKS])
ipv4 = st.ip_addresses(v=4) | inside_a_block


@pytest.mark.parametrize("text", PUBLIC)
def test_ordinary_addresses_are_public(text):
    assert is_public(parse_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_special_addresses_are_not_public(text):
    assert not is_public(parse_address(text))


@given(inside_a_block)
def test_no_address_of_a_special_block_is_public(address):
    assert not is_public(address)


@given(ipv4)
def test_an_address_is_judged_the_same_in_every_wrapping(address):
    number = int(address)
    mapped = ipaddress.IPv6Address((0xFFFF << 32) | number)
    nat64 = ipaddress.IPv6Address((0x64FF9B << 96) | number)
    six_to_four = ipaddress.IPv6Address((0x2002 << 112) | (number << 80) | 1)
    assert {is_public(mapped), is_public(nat64), is_public(six_to_four)} == {is_public(address)}
    assert plain(mapped) == address


@given(st.ip_addresses(v=6))
def test_only_global_unicast_ipv6_can_be_public(address):
    is_global_unicast = int(address) >> 125 == 1
    if is_public(address):
        assert is_global_unicast or int(address) >> 32 in (0xFFFF, 0x64FF9B << 64)


def test_a_zone_does_not_hide_an_address():
    assert not is_public(parse_address("fe80::1%eth0"))
