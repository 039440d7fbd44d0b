"""`Flow`: the builder that users write flows with. It defines; it never runs a body itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Never, TypeVar, Unpack, overload

from syncflow import policy
from syncflow.definition import (
    BUILT_IN_POOLS,
    MISSING,
    Parallel,
    Step,
    StepOptions,
    checked_pool,
    checked_pools,
    checked_validate,
    members_of,
    nesting,
    pool_of,
    refuse_inline,
    step,
    undecided,
)
from syncflow.errors import DefinitionError, DefinitionTypeError, DuplicateStepError
from syncflow.hooks import Hooks, checked_hooks
from syncflow.mapping import Map, Node, Source, make_map, refuse_inline_map
from syncflow.subflow import Nestable, path_to, steps_of

if TYPE_CHECKING:
    from syncflow.context import CancelToken
    from syncflow.definition import Seconds
    from syncflow.result import FlowResult

__all__ = ["BUILT_IN_POOLS", "Flow", "Parallel", "Step", "checked_pools", "pool_of", "step"]

_F = TypeVar("_F", bound=Callable[..., Any])


class Flow(Nestable):
    """A named list of steps and groups, built up in place and run as often as you like.

    Every call that adds a node returns the flow, and checks all it is given before it changes
    anything: a refused call leaves no trace. A run uses the nodes present when it starts.

    A flow may stand wherever a step may, in any number of flows, but not within itself. There it
    runs on a thread (inline as a plain step) with the outer input and a copy of the state; what its
    steps write is what the step writes. Cancellation, deadlines and Ctrl-C reach into it. Its names
    are its own.

    Args:
        name: Names the flow in results, events, logs and errors.
        hooks: `Hooks` objects (or a single one) that are told what happens.
        validate: Turns the input of a run into ``ctx.input``: a function, or an object with
            ``validate_python``. When it raises, the run fails with `InputValidationError`.
        max_concurrency: How many members of a group may run at once, where the group does not
            say; `None` for the pool's own bound: 32 on threads, one a core on processes.
        pools: Names of your own for pools: executors, or names of the built-in ones.

    Raises:
        DefinitionError: As for `Step`.
    """

    def __init__(
        self,
        name: str,
        *,
        hooks: Hooks | Iterable[Hooks] = (),
        validate: Any = None,
        max_concurrency: int | None = None,
        pools: Mapping[str, str | Executor] | None = None,
        **unknown: Never,
    ) -> None:
        policy.name(name, "name", f"flow {policy.shown(name)}")
        where = f"flow {policy.shown(name)}"
        for option in unknown:
            known = ("hooks", "validate", "max_concurrency", "pools")
            raise policy.unknown_option(option, known, where)
        self._name = name
        self._hooks = checked_hooks(hooks, where)
        self._validate = checked_validate(validate, where)
        self._max_concurrency = policy.optional_count(
            max_concurrency, "max_concurrency", where, least=1
        )
        self._pools = {} if pools is None else checked_pools(pools, where)
        for taken in self._pools.keys() & BUILT_IN_POOLS:
            raise DefinitionError(f"{where}: pools cannot redefine the built-in {taken!r}")
        #: In definition order; only ever appended to.
        self._nodes: list[Node] = []
        #: The names of all nodes and of all members of groups.
        self._taken: set[str] = set()

    @property
    def name(self) -> str:
        """The flow's name."""
        return self._name

    @property
    def hooks(self) -> tuple[Hooks, ...]:
        """The hooks, in the order in which they are called."""
        return self._hooks

    @property
    def validate(self) -> Any:
        """What checks the input of a run, or `None`."""
        return self._validate

    @property
    def max_concurrency(self) -> int | None:
        """The bound for groups that have none of their own, or `None`."""
        return self._max_concurrency

    @property
    def pools(self) -> Mapping[str, str | Executor]:
        """The flow's own names for pools, read-only."""
        return MappingProxyType(self._pools)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The steps and groups defined so far, in order."""
        return tuple(self._nodes)

    def __repr__(self) -> str:
        return f"Flow({self._name!r}, nodes={[node.name for node in self._nodes]})"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Show a notebook what would run: a flowchart or, where it draws none, a tree."""
        from syncflow.plan import mimebundle  # most flows are run and never looked at

        return mimebundle(self, include, exclude)

    @overload
    def step(self, name: Step) -> Flow: ...
    @overload
    def step(self, name: Flow, **options: Unpack[StepOptions]) -> Flow: ...
    @overload
    def step(
        self, name: str, fn: Callable[..., Any] | Flow, **options: Unpack[StepOptions]
    ) -> Flow: ...
    @overload
    def step(self, name: str, **options: Unpack[StepOptions]) -> Callable[[_F], _F]: ...
    def step(self, name: Any, fn: Any = MISSING, **options: Any) -> Any:
        """Add a step: ``step(Step(...))``, ``step(name, fn, **options)`` or ``@step(name)``.

        Args:
            name: The step's name, a `Step`, or a `Flow` to run under its own name.
            fn: The function or `Flow`; left out, the call is a decorator that returns its function.
            **options: As of `Step`.

        Returns:
            The flow, or the decorator.

        Raises:
            DefinitionError: As for `Step`, for a pool that the flow does not know, and for a flow
                that would contain itself.
            DuplicateStepError: The name is taken.
        """
        if isinstance(name, Flow) and fn is MISSING:
            self._add(nesting(name, **options))
            return self
        if isinstance(name, Step):
            if fn is not MISSING or options:
                raise DefinitionTypeError(
                    f"flow {self._name!r}: step {name.name!r} is already a Step; "
                    "give its options to Step()"
                )
            self._add(name)
            return self
        if not isinstance(name, str):
            raise DefinitionTypeError(
                f"flow {self._name!r}: step() takes a name and a function, or a Step or a Flow, "
                f"not {policy.shown(name)}"
            )
        if fn is not MISSING:
            self._add(Step(name, fn, **options))
            return self
        self._check(Step(name, undecided, **options))

        def decorate(fn: _F) -> _F:
            self._add(Step(name, fn, **options))
            return fn

        return decorate

    def parallel(
        self,
        name: str,
        steps: Iterable[Step | Flow | Mapping[str, Any]],
        *,
        fail_fast: bool = False,
        min_success: int | None = None,
        max_concurrency: int | None = None,
        timeout: Seconds | None = None,
        pool: str | Executor | None = None,
        **unknown: Never,
    ) -> Flow:
        """Add a group of steps that start together; the next node waits until all have settled.

        Args:
            name: The group's name; unique among groups and steps.
            steps: `Step` objects, flows (each a branch of several steps), or mappings with
                ``name``, ``fn`` and either a step's options or ``options``, a mapping of them.
            fail_fast: Whether one failed member fails the group and stops the others.
            min_success: How many members must complete; `None` for 1.
            max_concurrency: How many members may run at once; `None` for the flow's bound.
            timeout: Seconds until all members must have settled; `None`: no limit.
            pool: The pool of members that do not choose one; flows run on threads all the same.

        Returns:
            The flow.

        Raises:
            DefinitionError: As for `step`, and for an empty group or a ``min_success`` that cannot
                be met or that goes with ``fail_fast``.
            DuplicateStepError: A name is taken.
        """
        policy.name(name, "name", f"group {policy.shown(name)}")
        where = f"group {policy.shown(name)}"
        for option in unknown:
            known = ("fail_fast", "min_success", "max_concurrency", "timeout", "pool")
            raise policy.unknown_option(option, known, where)
        members = members_of(steps, where)
        if policy.flag(fail_fast, "fail_fast", where) and min_success is not None:
            raise DefinitionError(
                f"{where}: min_success={policy.shown(min_success)} excludes fail_fast=True"
            )
        needed = policy.optional_count(min_success, "min_success", where, least=1)
        if needed is not None and needed > len(members):
            raise DefinitionError(
                f"{where}: min_success={needed} exceeds the number of its steps, {len(members)}"
            )
        group = Parallel(
            name=name,
            steps=members,
            fail_fast=fail_fast,
            min_success=needed,
            max_concurrency=policy.optional_count(
                max_concurrency, "max_concurrency", where, least=1
            ),
            timeout=policy.optional_seconds(timeout, "timeout", where, zero_ok=False),
            pool=checked_pool(pool, where),
        )
        self._add(group)
        return self

    def map(
        self,
        name: str,
        fn: Callable[[Any, Any], Any],
        over: Source,
        *,
        fail_fast: bool = False,
        min_success: int | None = None,
        max_concurrency: int | None = None,
        chunk_size: int | Literal["auto"] = "auto",
        keep_values: bool = True,
        **options: Unpack[StepOptions],
    ) -> Flow:
        """Add a map: ``fn(ctx, item)`` for every item; the next node waits until all have settled.

        The source is iterated in the thread that called `run`, no more than a little ahead: two
        items a worker or, on processes, two chunks. While it makes the next item, that thread
        hears of nothing else. An error that it raises fails the map once running items have
        settled.

        Args:
            name: The map's name; unique among groups and steps.
            fn: Takes the `Context` and the item.
            over: The items: an iterable, the name of an earlier step that returned one, or a
                function ``ctx -> iterable``, such as a generator function.
            fail_fast: Whether one failed item fails the map and stops the others.
            min_success: How many items must complete; `None` for 1. No items are no failure.
            max_concurrency: How many items may run at once; `None` for the flow's bound.
            chunk_size: How many items travel together to a process or a foreign executor, where
                the items of a chunk share one copy of what they read. ``auto``: few enough to
                keep all workers busy, many enough that tiny items cost little. When a worker dies,
                items of its chunk whose outcome is lost run again, one by one: with 1, none does.
            keep_values: Whether to keep what ``fn`` returns.
            **options: As of `Step`, for each item; ``pool`` is ``thread`` by default.
                ``compensate`` takes the context and the item, and is called for every completed
                item, in reverse order; its ``ctx.value(name)`` is the item's own value.

        Returns:
            The flow.

        Raises:
            DefinitionError: As for `Step`; for ``over`` when it names no earlier step or is an
                iterator, which one run would use up; for ``min_success`` with ``fail_fast``.
            DuplicateStepError: The name is taken.
        """
        self._add(
            make_map(
                name, fn, over,
                fail_fast=fail_fast, min_success=min_success, max_concurrency=max_concurrency,
                chunk_size=chunk_size, keep_values=keep_values, options=options,
            )
        )  # fmt: skip
        return self

    def run(
        self,
        input: Any = None,
        *,
        timeout: Seconds | None = None,
        cancel: CancelToken | None = None,
        run_id: str | None = None,
        drain: Seconds = 0.0,
        pools: Mapping[str, str | Executor] | None = None,
        progress: bool = False,
    ) -> FlowResult:
        """Run the flow in the calling thread and return when it has settled.

        What steps do never raises here: it is in the result. Runs of one flow in several threads
        are independent. In the main thread, Ctrl-C is handled while the run is in progress.

        Args:
            input: Becomes ``ctx.input``, after ``validate``.
            timeout: Seconds that the nodes may take together; the rollback is not counted.
            cancel: Cancels the run from any thread, hook or step.
            run_id: A non-empty string; `None` for a new unique one.
            drain: Seconds to wait, before returning, for bodies that had to be abandoned.
            pools: Replaces pools by name, for this run and the flows in it.
            progress: Whether to show on stderr how far it has come, if that is a terminal.

        Returns:
            The result, whose ``status`` is ``completed``, ``failed`` or ``cancelled``.

        Raises:
            DefinitionError: The flow, or one in it, has no nodes, or an argument cannot work;
                nothing has run.
            TypeError: An argument has the wrong type; nothing has run.
            KeyboardInterrupt: Ctrl-C, after the rollback; its ``flow_result`` is the result.
        """
        from syncflow.run.start import run_flow  # a definition alone needs no engine

        try:
            return run_flow(
                self, input, timeout=timeout, cancel=cancel, run_id=run_id, drain=drain,
                pools=pools, progress=progress,
            )  # fmt: skip
        finally:
            del input  # the traceback of an inline body leads to this frame

    def _add(self, node: Node) -> None:
        names = self._check(node)
        self._taken |= names
        self._nodes.append(node)

    def _check(self, node: Node) -> set[str]:
        """Refuse a node that does not fit this flow; return the names that it would take."""
        group = node if isinstance(node, Parallel) else None
        steps = steps_of(node)
        names = [*([group.name] if group else []), *(member.name for member in steps)]
        new: set[str] = set()
        for name in names:
            if name in self._taken or name in new:
                raise DuplicateStepError(
                    f"flow {self._name!r}: a step or group named {name!r} already exists"
                )
            new.add(name)
        if group is not None and group.pool is not None:
            self._resolve(group.pool, f"group {group.name!r}")
        if isinstance(node, Map):
            self._check_map(node)
        for member in steps:
            self._check_pool(member, group, f"step {member.name!r}")
            if member.nested is not None:
                self._refuse_cycle(member)
            if member.undo is not None:
                self._check_pool(member.undo, None, f"the compensation of step {member.name!r}")
        return new

    def _check_map(self, node: Map) -> None:
        where = f"map {node.name!r}"
        if isinstance(node.over, str):
            earlier = [step.name for known in self._nodes for step in steps_of(known)]
            if node.over not in earlier:
                hint = policy.did_you_mean(node.over, earlier)
                raise DefinitionError(f"{where}: over={node.over!r} is no step before it{hint}")
        assert node.step.pool is not None
        refuse_inline_map(self._resolve(node.step.pool, where), where)

    def _refuse_cycle(self, step: Step) -> None:
        path = path_to(self, (step,))
        if path is not None:
            names = " > ".join(flow.name for flow in (self, *path))
            raise DefinitionError(f"flow {self._name!r} cannot contain itself: {names}")

    def _check_pool(self, step: Step, group: Parallel | None, where: str) -> None:
        pool = self._resolve(pool_of(step, group), where)
        refuse_inline(step, pool, None if group is None else group.name, where)

    def _resolve(self, pool: str | Executor, where: str) -> str | Executor:
        if isinstance(pool, Executor):
            return pool
        policy.choice(pool, "pool", where, known=(*BUILT_IN_POOLS, *self._pools))
        return self._pools.get(pool, pool)
