"""The review of a run by people: an app that walks the queue, and the labels that come out of it."""

from launch.review.queue import ReviewQueue, read_queue
from launch.review.store import DecisionStore, read_all

__all__ = ["DecisionStore", "ReviewQueue", "read_all", "read_queue"]
