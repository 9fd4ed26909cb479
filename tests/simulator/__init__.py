"""One seed, one scenario: the product's hub and sync, both ends, in a world of bad networks, power cuts and late timers.

What runs is the product: EdgeHub, CloudHub, Channel, Session, run_edge, run_cloud, Sink, Source. What is simulated is the world around
it: the clock, the network, the disk (what was not synced is lost when a process dies), and the clients that write on both sides.

    python -m tests.simulator --seeds 1000          many scenarios; prints the seeds that failed
    python -m tests.simulator --seed 17 --trace     one scenario, traced line by line

Lives here:      world (network, disks, processes), scenario (faults, writers), invariants (what must hold), __main__.
"""
