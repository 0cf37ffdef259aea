"""Counts the bytecode instructions of a call: by sys.monitoring where there is one, else by tracing.

(From Python 3.12 on a tracer misses the instructions of a frame that has not run under it before.)
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


def instructions(call: Callable[[], object]) -> int:
    """How many *call* executes in this thread, some ten of this function's own among them."""
    return monitored(call) if sys.version_info >= (3, 12) else traced(call)


def traced(call: Callable[[], object]) -> int:
    executed = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal executed
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        executed += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return executed


def monitored(call: Callable[[], object]) -> int:
    monitoring: Any = sys.monitoring  # type: ignore[attr-defined,unused-ignore]  # since 3.12
    tool, event = monitoring.PROFILER_ID, monitoring.events.INSTRUCTION
    executed, here = 0, threading.get_ident()

    def instruction(*_: object) -> None:
        nonlocal executed
        executed += threading.get_ident() == here

    monitoring.use_tool_id(tool, "tests.bench")
    monitoring.register_callback(tool, event, instruction)
    monitoring.set_events(tool, event)
    try:
        call()
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, event, None)
        monitoring.free_tool_id(tool)
    return executed
