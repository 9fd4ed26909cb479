"""Updates of a card: two slots with a root and a kernel each, of which one works while the other is written.

core.py    which slot starts, what a failed start means: the record on the card
bundle.py  what a bundle says of itself, and who has signed it
source.py  a bundle in a file or at a URL, read in parts
card.py    the card of this machine: its slots, its record
driver.py  a bundle into the other slot
module.py  the module of an agent that is told by the annotations of its Node

Lives elsewhere: the boot loader's part (firmware-images/cardimage/boot_script.py), what makes bundles (cardimage/bundles.py).
"""
