"""A tracer that keeps its spans, the tree that they make, and bodies that look at theirs."""

from __future__ import annotations

import sys
import threading
import weakref
from typing import Any

from opentelemetry import baggage, trace
from opentelemetry.context import Context as Around
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider

from syncflow import Context
from syncflow.otel import OpenTelemetry

Ids = tuple[int, int]


class Tracing(SpanProcessor):
    """Keeps the spans of one tracer provider."""

    def __init__(self) -> None:
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(self)
        self.hooks = OpenTelemetry(self.provider)
        self.tracer = self.provider.get_tracer("test")
        #: Guards all below.
        self._lock = threading.Lock()
        self._started = self._open = 0
        self._ended: list[ReadableSpan] = []
        #: The spans that have started, as long as somebody keeps them.
        self.kept: weakref.WeakSet[Span] = weakref.WeakSet()

    def on_start(self, span: Span, parent_context: Around | None = None) -> None:
        with self._lock:
            self._started += 1
            self._open += 1
            self.kept.add(span)

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            self._open -= 1
            self._ended.append(span)

    @property
    def ended(self) -> bool:
        """Whether there were any spans, and all have ended."""
        return self._started > 0 and self._open == 0

    @property
    def spans(self) -> list[ReadableSpan]:
        """Return all spans, by start; none may still be open."""
        with self._lock:
            assert 0 == self._open
            return sorted(self._ended, key=lambda span: span.start_time or 0)

    def named(self, name: str) -> ReadableSpan:
        """Return the one span of this name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def ids(self, name: str) -> Ids:
        """Return how bodies see the one span of this name."""
        return ids(self.named(name).context)

    def tree(self) -> list[str]:
        """Return the names of all spans, by start, each indented by the depth of its span."""
        spans = self.spans
        known = {span.context.span_id: span for span in spans if span.context is not None}
        children: dict[int | None, list[ReadableSpan]] = {}
        for span in spans:
            if span.parent is not None:
                outer = known[span.parent.span_id]
                assert outer.start_time <= span.start_time  # type: ignore[operator]
                children.setdefault(span.parent.span_id, []).append(span)
            else:
                children.setdefault(None, []).append(span)

        def lines(of: int | None, depth: int) -> list[str]:
            found = []
            for span in children.get(of, []):
                assert span.start_time <= span.end_time  # type: ignore[operator]
                found.append("  " * depth + span.name)
                assert span.context is not None
                found += lines(span.context.span_id, depth + 1)
            return found

        return lines(None, 0)

    def forget(self) -> None:
        """Let go of all spans that have ended."""
        self._ended.clear()


def ids(span: Any) -> Ids:
    """Return what tells spans apart."""
    return span.trace_id, span.span_id


def where(ctx: Context, *item: object) -> Ids:
    """Return the current span."""
    return ids(trace.get_current_span().get_span_context())


def where_then_fail_once(ctx: Context, *item: object) -> Ids:
    """Fail in the first attempt, then return the current span."""
    if ctx.attempt == 1:
        raise LookupError(ctx.step_name)
    return where(ctx)


def luggage(ctx: Context) -> object:
    """Return what the caller has put into its baggage."""
    return baggage.get_baggage("tenant")


def hide_api() -> None:
    """Make this process one that lacks the API of OpenTelemetry."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "opentelemetry" or name == "syncflow.otel":
            del sys.modules[name]
    sys.modules["opentelemetry"] = None  # type: ignore[assignment]


def has_api(ctx: Context, *item: object) -> bool:
    """Tell whether this process can import the API."""
    return sys.modules.get("opentelemetry") is not None
