"""Who a request belongs to: what fairness, Stop, and the pictures and runs of a user go by."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

API = "api"


@dataclass(frozen=True, kw_only=True)
class Owner:
    """`person`: a signed-in user's name, else the client's address; `session`: one open page of theirs, or API.

    Turns go by person first: opening more pages, or a new session for every request, buys nobody more of them.
    """

    person: str = ""
    session: str = ""


def network_of(address: str) -> str:
    """The address that turns go by: one host of IPv4, one network (/64) of IPv6, where a host has many addresses."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.version == 4 or ip.is_loopback:
        return str(ip)
    return str(ipaddress.ip_network((ip, 64), strict=False))
