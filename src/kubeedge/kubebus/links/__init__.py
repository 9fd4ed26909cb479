"""The links of a node to its relay: one to eight, each in a slot of its own, all to the same relay.

    slot 0    finds a relay when there is no link at all: it races those that are configured (l2/relays.py)
    slot 1..  follow to the relay that slot 0 found; those beyond the configured number are there while l2/autoscaler.py wants them

A slot keeps its link as long as it is good. When a link becomes suspect (its probes are not answered, or the address that it came
from is gone) the slot begins a new one beside it, and the old one ends when the new one is up: make before break. If the old one answers
meanwhile, the attempt is dropped. The data plane pins each flow to one of the links and moves it when that link goes.

core.py       decides: where a slot may look for a relay, when a link without an echo is asked, how long to wait
link.py       one link, from the transport's connection on
transport.py  how a relay is reached: TLS over TCP, so far the only one
attempts.py   attempts to reach a relay: race, pauses, how it went
scale.py      whether there are more links than are configured
driver.py     the slots

Lives elsewhere: what is said on a link (l2/core.py), names and routes (kubeedge.kubebus.module), packets (the data plane).
"""
