import asyncio

from kubeedge.beehive.bus import CHANNEL_ATTACHED, NETWORK_CHANGED, Bus, Hint
from tests.kit import virtual_time


def test_a_hint_reaches_who_listens_to_its_topic_and_nobody_else():
    async def story():
        bus = Bus()
        with bus.subscribe(NETWORK_CHANGED) as network, bus.subscribe(CHANNEL_ATTACHED, NETWORK_CHANGED) as both:
            assert bus.publish(NETWORK_CHANGED, "eth0") == 2
            assert bus.publish(CHANNEL_ATTACHED) == 1
            assert await network.get() == Hint(NETWORK_CHANGED, "eth0")
            assert [(await both.get()).topic, (await both.get()).topic] == [NETWORK_CHANGED, CHANNEL_ATTACHED]
        assert bus.publish(NETWORK_CHANGED) == 0

    virtual_time.run(story())


def test_a_reader_waits_until_a_hint_comes():
    async def story():
        bus = Bus()
        with bus.subscribe("topic") as hints:
            asyncio.get_running_loop().call_later(5.0, bus.publish, "topic", 1)
            async for hint in hints:
                return hint.payload, asyncio.get_running_loop().time()

    assert virtual_time.run(story()) == (1, 5.0)


def test_a_slow_reader_loses_the_oldest_hints_and_they_are_counted():
    async def story():
        bus = Bus()
        with bus.subscribe("topic", limit=3) as hints:
            for n in range(5):
                bus.publish("topic", n)
            return [(await hints.get()).payload for _ in range(3)], hints.dropped

    assert virtual_time.run(story()) == ([2, 3, 4], 2)
