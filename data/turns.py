"""Whose turn it is: rows dealt to domains by weight, evenly, without counting from the start."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

_BITS = 53  # of a share, as many as a float has
_HALF = 1 << (_BITS - 1)

# A domain, or: share of the rows that go left (in units of 2^-53), left, right.
Node = int | tuple[int, "Node", "Node"]


class Turns:
    """Deals rows 0, 1, 2, ... to domains.

    Domains are leaves of a binary tree. Of the first n rows that come to a fork, floor(n p + 1/2) go left, p
    being the share of the left branch. So row n goes left where that figure rises from n to n + 1, and the
    rows before it that took the same branch are known at once: whose turn a row is, and how many the same
    domain had before, costs a walk down the tree, in whole numbers of any size.

    Each fork is off by at most half a row, so a domain is off its share by less than half a row for each fork
    above it, and mostly less than one: the tree is that of Huffman's code, where large shares stand high.

    Args:
        weights: of each domain, from 0; they need not add up to one. A domain with weight 0 has no turn.

    Source:
        Bresenham 1965 for one fork; Huffman 1952 for the tree.

    Example:
        >>> [Turns((3, 1)).turn(n) for n in range(4)]
        [(0, 0), (0, 1), (1, 0), (0, 2)]
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self.domains = len(weights)
        heap: list[tuple[float, int, Node]] = [(w, i, i) for i, w in enumerate(weights) if w > 0]
        heapq.heapify(heap)
        order = self.domains
        while len(heap) > 1:
            small, _, right = heapq.heappop(heap)
            large, _, left = heapq.heappop(heap)
            share = round(large / (small + large) * (1 << _BITS))
            heapq.heappush(heap, (small + large, order, (share, left, right)))
            order += 1
        self._root: Node = heap[0][2]

    def turn(self, n: int) -> tuple[int, int]:
        """The domain of row n, and how many rows before it that domain had."""
        node = self._root
        while isinstance(node, tuple):
            share, left, right = node
            before = (n * share + _HALF) >> _BITS
            if ((n + 1) * share + _HALF) >> _BITS > before:
                node, n = left, before
            else:
                node, n = right, n - before
        return node, n

    def counts(self, n: int) -> list[int]:
        """How many of the first n rows each domain has."""
        found = [0] * self.domains
        stack = [(self._root, n)]
        while stack:
            node, n = stack.pop()
            if isinstance(node, tuple):
                share, left, right = node
                before = (n * share + _HALF) >> _BITS
                stack += [(left, before), (right, n - before)]
            else:
                found[node] = n
        return found
