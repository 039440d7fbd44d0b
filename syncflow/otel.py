"""Trace runs with OpenTelemetry: `Flow("checkout", hooks=[OpenTelemetry()])`.

Needs the extra `otel`. The spans of a run:

    flow checkout
    ├── step reserve             from the start of its first attempt until it has settled
    │   └── attempt reserve      each of its attempts; what the body does is in there
    ├── step transform           a map: its items have no spans, their retries are events
    └── compensation reserve     with all its attempts

A flow within a flow has its spans in the attempt that it is. A step that never started has none,
unless that is how it failed.
"""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from time import time_ns
from types import MappingProxyType
from typing import Any

from syncflow import policy
from syncflow.errors import RemoteError, describe
from syncflow.hooks import Event, Hooks
from syncflow.result import CompensationResult, FlowResult, MapResult, StepResult

try:
    from opentelemetry import context, propagate, trace
except ImportError as missing:
    raise ImportError(
        "syncflow.otel needs the OpenTelemetry API: pip install 'syncflow[otel]'"
    ) from missing

__all__ = ["OpenTelemetry"]

#: What of a step's result is told of its last attempt as well.
_OF_ATTEMPTS = ("syncflow.status", "syncflow.pool", "syncflow.worker")

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

#: By the names of steps.
_Spans = dict[str | None, "_Span"]


class OpenTelemetry(Hooks):
    """Make spans of flows, steps, attempts and compensations; what bodies trace is in these.

    Inputs, values and state are never told. Errors are, with their messages.

    Args:
        tracer_provider: Makes the tracer. Default: the global one, also when it is set later.
    """

    def __init__(self, tracer_provider: trace.TracerProvider | None = None) -> None:
        if not isinstance(tracer_provider, trace.TracerProvider | None):
            raise policy.wrong_type(
                tracer_provider, "tracer_provider", "OpenTelemetry", "a TracerProvider"
            )
        self._tracer = trace.get_tracer("syncflow", tracer_provider=tracer_provider)
        #: The runs of each thread: one thread calls all hooks of a run that are used here. So none
        #: has to wait for another, nor are runs mixed up that were given the same id.
        self._own = threading.local()

    # --- flows -------------------------------------------------------------------------------

    def on_flow_start(self, event: Event) -> None:
        """Start the span of a run, within the one that is current."""
        around = context.get_current()
        span = self._span(f"flow {event.flow_name}", event, lambda: around)
        span.open(_instant(event))
        self._runs[event.flow_name, event.run_id] = _Run(span.within(around), span)

    def on_flow_complete(self, event: Event) -> None:
        """End the span of a run, after all that was left open in it."""
        now, within = _instant(event), f"{event.run_id}:"
        for key, inner in list(self._runs.items()):
            if inner.span is None and key[1].startswith(within):
                self._runs.pop(key).abort(now)  # Ctrl-C came while it was being undone
        run = self._runs.pop((event.flow_name, event.run_id), None)
        if run is not None:
            run.abort(now)
            if run.span is not None:
                _end(run.span, event)

    on_flow_fail = on_flow_cancel = on_flow_complete

    # --- steps -------------------------------------------------------------------------------

    def around(self, event: Event) -> Callable[[], AbstractContextManager[None]]:
        """Have a body run within the span of its attempt, which starts just then."""
        run = self._run(event)
        if event.error is not None:
            return _Inside(self._compensation(run, event), run.base)
        step = self._step(run, event)
        if event.attempt is None:  # a map
            return _Inside(step, run.base)
        step.inner = self._span(
            f"attempt {event.step_name}", event, lambda: step.within(run.base),
            {"syncflow.attempt": event.attempt},
        )  # fmt: skip
        return _InAttempt(step.inner, run.base)

    def on_step_retry(self, event: Event) -> None:
        """End the span of the attempt that has failed; an item's is an event of the map's."""
        step, now = self._step(self._run(event), event), _instant(event)
        facts: dict[str, Any] = {"syncflow.retry_delay": event.delay}
        if step.inner is None:
            step.note(
                "retry", now, facts | {"syncflow.attempt": event.attempt, **_kind(event.error)}
            )
        else:
            step.inner.end(now, event.error, facts | {"syncflow.status": "failed"})
            step.inner = None

    def on_step_complete(self, event: Event) -> None:
        """End the span of a step, and that of its last attempt."""
        run, facts = self._run(event), _facts(event.result)
        step = self._step(run, event)
        del run.steps[event.step_name]
        if step.inner is not None:
            own = {name: facts.get(name) for name in _OF_ATTEMPTS}
            step.inner.end(_instant(event), event.error, own)
            step.inner = None
        _end(step, event)

    on_step_fail = on_step_cancel = on_step_complete

    # --- compensations -----------------------------------------------------------------------

    def on_compensate(self, event: Event) -> None:
        """Start the span of a compensation, unless its body has done so.

        It has none when a flow is undone: what that does is within this span all the same.
        """
        run = self._run(event)
        if event.step_name not in run.undone:
            span = self._compensation(run, event)
            span.open(_instant(event))
            span.before = context.get_current()
            context.attach(span.within(span.before))

    def on_compensate_complete(self, event: Event) -> None:
        """End the span of a compensation."""
        run = self._run(event)
        span = self._compensation(run, event)
        del run.undone[event.step_name]
        _end(span, event)
        span.restore()
        if run.span is None and not run.undone:
            del self._runs[event.flow_name, event.run_id]

    on_compensate_fail = on_compensate_complete

    # --- inside ------------------------------------------------------------------------------

    @property
    def _runs(self) -> dict[tuple[str, str], _Run]:
        """The runs of the calling thread, by name of the flow and id."""
        runs: dict[tuple[str, str], _Run] = self._own.__dict__.setdefault("runs", {})
        return runs

    def _run(self, event: Event) -> _Run:
        """Return a run; a new one when it has ended and is now undone, within what is current."""
        key = event.flow_name, event.run_id
        return self._runs.get(key) or self._runs.setdefault(key, _Run(context.get_current()))

    def _step(self, run: _Run, event: Event) -> _Span:
        """Return the span of a step, made on first use."""
        return self._known(run.steps, "step", run, event)

    def _compensation(self, run: _Run, event: Event) -> _Span:
        """Return the span of a compensation, made on first use."""
        return self._known(run.undone, "compensation", run, event)

    def _known(self, spans: _Spans, kind: str, run: _Run, event: Event) -> _Span:
        name, base = event.step_name, run.base
        if name not in spans:
            spans[name] = self._span(f"{kind} {name}", event, lambda: base)
        return spans[name]

    def _span(
        self,
        title: str,
        event: Event,
        parent: Callable[[], context.Context],
        more: Mapping[str, Any] = MappingProxyType({}),
    ) -> _Span:
        tracer = self._tracer
        facts = {
            "syncflow.flow.name": event.flow_name,
            "syncflow.run.id": event.run_id,
            "syncflow.step.name": event.step_name,
            "syncflow.group.name": event.group,
            **more,
        }
        return _Span(
            lambda at: tracer.start_span(title, parent(), attributes=_present(facts), start_time=at)
        )


class _Run:
    """One run of a flow, as far as it is open."""

    __slots__ = ("base", "span", "steps", "undone")

    def __init__(self, base: context.Context, span: _Span | None = None) -> None:
        #: What the spans of steps and compensations are in.
        self.base = base
        #: None: it has ended before, and is undone as part of another.
        self.span = span
        #: Of those that are under way.
        self.steps: _Spans = {}
        self.undone: _Spans = {}

    def abort(self, now: int) -> None:
        """End what was interrupted before it could tell that it ends."""
        for span in (*self.steps.values(), *self.undone.values()):
            if span.inner is not None:
                span.inner.end(now)
                span.inner = None
            span.end(now)
            span.restore()


class _Span:
    """A span that starts when somebody first needs it, on any thread, and ends once."""

    __slots__ = ("_lock", "_over", "_span", "_start", "before", "inner", "left")

    def __init__(self, start: Callable[[int | None], trace.Span]) -> None:
        #: Of a step: the attempt at hand.
        self.inner: _Span | None = None
        #: Of a compensation that is current in the run's thread: what was so before.
        self.before: context.Context | None = None
        #: Of an attempt in this process: when its body ended. Written by its thread.
        self.left: int | None = None
        self._start = start
        #: Guards both that follow. While it is held, the tracer is called, so that nobody starts a
        #: second span meanwhile, and of our locks at most that of the span around it is taken.
        self._lock = threading.Lock()
        self._span: trace.Span | None = None
        self._over = False

    def open(self, at: int | None = None) -> trace.Span | None:
        """Start it, if need be: at that instant, or now. `None`: it was over before."""
        with self._lock:
            if self._span is None and not self._over:
                self._span = self._start(at)
            return self._span

    def within(self, around: context.Context) -> context.Context:
        """Return a context in which this is the current span."""
        span = self.open()
        return around if span is None else trace.set_span_in_context(span, around)

    def note(self, name: str, at: int, facts: dict[str, Any]) -> None:
        """Add an event."""
        span = self.open()
        if span is not None:
            span.add_event(name, _present(facts), at)

    def end(
        self, at: int, error: BaseException | None = None, facts: dict[str, Any] | None = None
    ) -> None:
        """End it, if it has started; else it never will. An attempt ends with its body."""
        with self._lock:
            self._over = True
        span, at, facts = self._span, self.left or at, facts or {}
        if span is None:
            return
        span.set_attributes(_present(facts))
        if facts.get("syncflow.status") == "failed":  # to be cancelled is no error
            span.set_attributes(_kind(error))
            span.set_status(trace.Status(trace.StatusCode.ERROR, describe(error)))
        if error is not None:
            try:
                span.record_exception(error, timestamp=at)
            except BaseException:  # noqa: BLE001 - a user's __str__ may raise anything
                span.add_event("exception", {"exception.type": _kind(error)["error.type"]}, at)
        span.end(at)

    def restore(self) -> None:
        """Make current again in this thread what was before."""
        if self.before is not None:
            context.attach(self.before)
            self.before = None


class _Inside:
    """Has bodies run within a span: called in this process, or pickled and called in another."""

    def __init__(self, span: _Span, base: context.Context) -> None:
        self._span = span
        #: Of the run: what else travels along, baggage say.
        self._base = base

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with _current(self._span.within(context.get_current())):
            yield

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel as a W3C `traceparent`, or what else the user has configured."""
        carrier: dict[str, str] = {}
        propagate.inject(carrier, self._span.within(self._base))
        return partial, (_elsewhere, carrier)


class _InAttempt(_Inside):
    """Has the one body of an attempt run within its span."""

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with super().__call__():
            yield
        self._span.left = time_ns()


@contextmanager
def _current(inside: context.Context) -> Iterator[None]:
    token = context.attach(inside)
    try:
        yield
    finally:
        context.detach(token)


def _elsewhere(carrier: dict[str, str]) -> AbstractContextManager[None]:
    """Do in another process what `_Inside` does."""
    return _current(propagate.extract(carrier))


def _end(span: _Span, event: Event) -> None:
    """End the span of what an event tells the result of."""
    now, facts = _instant(event), _facts(event.result)
    if facts["syncflow.status"] == "failed":
        span.open(now)  # should it never have started
    span.end(now, event.error, facts)


def _instant(event: Event) -> int:
    """Return when it happened, in nanoseconds of the epoch."""
    return (event.at - _EPOCH) // dt.timedelta(microseconds=1) * 1000


def _kind(error: BaseException | None) -> dict[str, Any]:
    """Return the attribute that names the kind of an error, as the semantic conventions do."""
    if error is None:
        return {}
    kind = type(error)
    name = kind.__qualname__
    if isinstance(error, RemoteError):
        name = error.type_name
    elif kind.__module__ != "builtins":
        name = f"{kind.__module__}.{name}"
    return {"error.type": name}


def _facts(result: FlowResult | StepResult | CompensationResult | None) -> dict[str, Any]:
    """Return what a result tells of how it went, as attributes."""
    if result is None:
        return {}
    facts: dict[str, Any] = {"syncflow.status": str(result.status)}
    if isinstance(result, FlowResult):
        facts["syncflow.rollback"] = str(result.rollback)
        return facts
    facts["syncflow.attempts"] = result.attempts
    if isinstance(result, StepResult):
        facts["syncflow.pool"] = result.pool
        facts["syncflow.worker"] = None if result.worker is None else str(result.worker)
        facts["syncflow.queued"] = result.queued
        facts["syncflow.backoff"] = result.backoff
    if isinstance(result, MapResult):
        facts["syncflow.items.completed"] = result.completed
        facts["syncflow.items.failed"] = result.failed
        facts["syncflow.items.cancelled"] = result.cancelled
    return facts


def _present(facts: dict[str, Any]) -> dict[str, Any]:
    """Leave out what there is nothing to tell of."""
    return {name: fact for name, fact in facts.items() if fact is not None}
