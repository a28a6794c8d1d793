"""A bounded queue whose every end is seen by both sides."""

from __future__ import annotations

import threading

import pytest

from m2fp_stream.pipeline.bounded_queue import BoundedQueue, Stopped


def test_items_come_in_order_and_then_the_end() -> None:
    queue: BoundedQueue[int] = BoundedQueue(3)
    for number in range(3):
        queue.put(number)
    queue.finish()
    assert list(queue) == [0, 1, 2]


def test_a_producers_error_is_raised_after_the_last_item() -> None:
    queue: BoundedQueue[int] = BoundedQueue(3)
    queue.put(1)
    queue.put(2)
    queue.fail(OSError("the reader died"))
    got = []
    with pytest.raises(OSError, match="the reader died"):
        for item in queue:
            got.append(item)
    assert got == [1, 2]


def test_no_more_than_size_items_wait() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    begun: list[int] = []

    def produce() -> None:
        for number in range(20):
            begun.append(number)
            queue.put(number)
        queue.finish()

    producer = threading.Thread(target=produce)
    producer.start()
    for taken, item in enumerate(queue):
        assert item == taken
        # Two wait, one is being put, one was taken just now.
        assert len(begun) <= taken + 1 + 2 + 1
    producer.join()
    assert len(begun) == 20


def test_a_producer_can_wait_until_few_items_are_left() -> None:
    queue: BoundedQueue[int] = BoundedQueue(4)
    for number in range(3):
        queue.put(number)
    passed = threading.Event()

    def wait() -> None:
        queue.wait_below(2)
        passed.set()

    producer = threading.Thread(target=wait)
    producer.start()
    taken = iter(queue)
    next(taken)
    assert not passed.is_set()  # two are left
    next(taken)
    producer.join()
    assert passed.is_set()
    queue.stop()
    with pytest.raises(Stopped):
        queue.wait_below(2)


def test_stop_wakes_a_producer_that_waits_for_room() -> None:
    queue: BoundedQueue[str] = BoundedQueue(1)
    queue.put("first")
    ended = threading.Event()

    def produce() -> None:
        with pytest.raises(Stopped):
            queue.put("second")
        ended.set()

    producer = threading.Thread(target=produce)
    producer.start()
    assert queue.stop() == ["first"]
    producer.join()
    assert ended.is_set()


def test_after_stop_nothing_is_added_and_nothing_given() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    queue.put(1)
    assert queue.stop() == [1]
    assert queue.stop() == []
    with pytest.raises(Stopped):
        queue.put(2)
    assert list(queue) == []


def test_stop_wakes_a_consumer_that_waits_for_an_item() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    got: list[int] = []
    consumer = threading.Thread(target=lambda: got.extend(queue))
    consumer.start()
    queue.stop()
    consumer.join()
    assert got == []


def test_finish_wakes_a_consumer_that_waits_for_an_item() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    got: list[int] = []
    consumer = threading.Thread(target=lambda: got.extend(queue))
    consumer.start()
    queue.put(5)
    queue.finish()
    consumer.join()
    assert got == [5]


def test_a_queue_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="size must be >= 1, got 0"):
        BoundedQueue(0)
