"""Which replicas the process of the front sees.

State of a module, against the habit of the house: Serve pickles the class of a router by value and makes it out of our
reach, in the same process; what its methods import is all that both sides share.
"""

from __future__ import annotations

names: tuple[str, ...] = ()
