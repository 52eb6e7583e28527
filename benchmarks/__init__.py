"""Every figure of speed and memory that the project claims: ``python -m benchmarks``.

Each is a ratio against something measured in the same run: the two are run in turn, in one process, on
one thread, and the medians of several rounds are compared. It prints the figures of ``benchmarks.selection`` and
``benchmarks.doubt`` as well, in which nothing is timed; the other modules are commands of their own,
such as ``python -m benchmarks.cluster``: engines against one process, which needs a network of its own for Ray.
"""
