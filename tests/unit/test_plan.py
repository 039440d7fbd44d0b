"""A flow before it runs: as a tree, as a flowchart, and what is certainly a mistake in it."""

from __future__ import annotations

import inspect
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Never

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from syncflow import Flow, ProcessPool, SerializationError, Step, check, mermaid, tree


def work(ctx: object) -> None:
    """Do nothing."""


def work_on(ctx: object, item: object) -> None:
    """Do nothing with an item."""


def undo(ctx: object) -> None:
    """Undo nothing."""


def undo_item(ctx: object, item: object) -> None:
    """Undo nothing of an item."""


def sources(ctx: object) -> Iterator[int]:
    """Must not be called."""
    raise AssertionError("a plan runs nothing")


def shop() -> Flow:
    """Return a flow with a node of each kind."""
    ship = Flow("ship").step("pack", work, compensate=undo, compensate_on="started")
    ship.step("label", work, compensate=Step("unlabel", undo, timeout=2))
    fetch = Step(
        "user", work, timeout=2, retries=3, retry_delay=0.2, backoff="exponential", jitter=True
    )
    flow = Flow("shop", pools={"crunch": "process"}, max_concurrency=4)
    flow.step("reserve", work, compensate=undo)
    flow.parallel("fetch", [fetch, Step("posts", work, compensate=undo)], fail_fast=True)
    flow.map("score", work_on, over=sources, pool="crunch", compensate=undo_item)
    return flow.step("ship it", ship).step("close", work)


TREE = """\
shop  max_concurrency 4
├─ reserve  inline, undo undo
├─ fetch  group of 2 steps, fail_fast
│  ├─ user  thread, timeout 2 s, 3 retries (exponential from 0.2 s, jitter)
│  └─ posts  thread, undo undo
├─ score  map over sources(), crunch -> process, undo undo_item, item by item, the last one first
├─ ship it  flow ship, inline
│  ├─ pack  inline, undo undo (even if it only started)
│  └─ label  inline, undo undo (thread, timeout 2 s)
└─ close  inline

undone in this order, as far as it was done:
├─ ship it
│  ├─ label  undo (thread, timeout 2 s)
│  └─ pack  undo (even if it only started)
├─ score  undo_item, item by item, the last one first
├─ posts  undo
└─ reserve  undo"""

FLOWCHART = """\
flowchart TD
    n0["shop<br/>max_concurrency 4"]
    n1["reserve<br/>inline, undo undo"]
    subgraph n2["fetch<br/>group of 2 steps, fail_fast"]
        n3["user<br/>thread, timeout 2 s, 3 retries #40;exponential from 0.2 s, jitter\
#8203;#41;#8203;"]
        n4["posts<br/>thread, undo undo"]
    end
    n5["score<br/>map over sources#40;#8203;#41;#8203;, crunch #8203;#45;#8203;#62; process, \
undo undo_item, item by item, the last one first"]
    subgraph n6["ship it<br/>flow ship, inline"]
        n7["pack<br/>inline, undo undo #40;even if it only started#8203;#41;#8203;"]
        n8["label<br/>inline, undo undo #40;thread, timeout 2 s#8203;#41;#8203;"]
        n7 --> n8
    end
    n9["close<br/>inline"]
    n0 --> n1
    n1 --> n2
    n2 --> n5
    n5 --> n6
    n6 --> n9
    n8 -. undo .-> n7
    n7 -. undo .-> n5
    n5 -. undo .-> n4
    n4 -. undo .-> n1"""


# --- tree ------------------------------------------------------------------------------------


def test_draws_every_node_and_the_order_of_undoing() -> None:
    """Steps, groups, maps and flows are in the tree; what is undone follows in reverse order."""
    assert TREE == tree(shop())


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, "inline"),
        ({"pool": "thread"}, "thread"),
        ({"timeout": 90}, "thread, timeout 90 s"),
        ({"grace": 0}, "inline, grace 0 s"),
        ({"retries": 1}, "inline, 1 retry"),
        ({"retries": 2, "retry_delay": 1}, "inline, 2 retries (after 1 s)"),
        (
            {"retries": 2, "retry_delay": 1, "backoff": "linear", "max_retry_delay": 1.5},
            "inline, 2 retries (linear from 1 s, at most 1.5 s)",
        ),
        ({"retries": 2, "retry_on": OSError}, "inline, 2 retries (on OSError)"),
        (
            {"retries": 2, "retry_on": (OSError, ValueError)},
            "inline, 2 retries (on OSError or ValueError)",
        ),
        ({"retries": 2, "retry_on": undo}, "inline, 2 retries (on undo)"),
        ({"compensate": partial(partial(undo), None)}, "inline, undo undo"),
        (
            {"compensate": Step("u", undo, pool="process", retries=2)},
            "inline, undo undo (process, 2 retries)",
        ),
    ],
)
def test_tells_the_policies_of_a_step(options: dict[str, Any], shown: str) -> None:
    """Beside its pool, a step shows what is not the default, and nothing else."""
    assert f"└─ one  {shown}" == tree(Flow("f").step("one", work, **options)).splitlines()[1]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, "group of 2 steps"),
        ({"fail_fast": True}, "group of 2 steps, fail_fast"),
        (
            {"min_success": 2, "max_concurrency": 3, "timeout": 0.5},
            "group of 2 steps, min_success 2, max_concurrency 3, timeout 0.5 s",
        ),
    ],
)
def test_tells_the_policies_of_a_group(options: dict[str, Any], shown: str) -> None:
    """A group shows how many members it has and what is not the default."""
    flow = Flow("f").parallel("g", [Step("a", work), Step("b", work)], **options)
    assert f"└─ g  {shown}" == tree(flow).splitlines()[1]


class Endless:
    """An iterable that a plan must not touch."""

    def __iter__(self) -> Never:
        raise AssertionError("a plan iterates nothing")


@pytest.mark.parametrize(
    ("over", "options", "shown"),
    [
        ("first", {}, "map over first, thread"),
        (sources, {"chunk_size": 5}, "map over sources(), thread, chunk_size 5"),
        ([1, 2], {"fail_fast": True, "timeout": 3}, "map over list of 2, thread, fail_fast,"),
        (Endless(), {"min_success": 2}, "map over Endless, thread, min_success 2"),
        (range(9), {"keep_values": False}, "map over range of 9, thread, values are dropped"),
    ],
)
def test_tells_the_policies_of_a_map(over: Any, options: dict[str, Any], shown: str) -> None:
    """A map shows where its items come from, without iterating, and what is not the default."""
    flow = Flow("f").step("first", work).map("m", work_on, over=over, **options)
    assert tree(flow).splitlines()[2].startswith(f"└─ m  {shown}")


def test_tells_what_a_name_of_a_pool_stands_for() -> None:
    """A name of the flow's own is followed by what it means there, an executor by its class."""
    pools = {"own": ThreadPoolExecutor(1), "cpu": "process"}
    flow = Flow("f", pools=pools).step("a", work, pool="own").step("b", work, pool="cpu")
    flow.step("c", work, pool=ThreadPoolExecutor(1))
    assert [
        "├─ a  own -> ThreadPoolExecutor",
        "├─ b  cpu -> process",
        "└─ c  ThreadPoolExecutor",
    ] == tree(flow).splitlines()[1:4]


@pytest.mark.parametrize("look", [tree, mermaid, check])
@pytest.mark.parametrize("value", [None, 5, "shop", Flow])
def test_takes_flows_alone(look: Callable[[Any], object], value: object) -> None:
    """What is no flow is refused, by name and value."""
    wanted = re.escape(f"{look.__name__}(): flow must be a Flow, not {value!r}")
    with pytest.raises(TypeError, match=wanted):
        look(value)


def test_says_that_nothing_is_undone() -> None:
    """Without any compensation there is no order of undoing."""
    assert "nothing is undone: no step has a compensation" == tree(Flow("f")).splitlines()[-1]


def test_counts_members_that_are_alike() -> None:
    """Of thousands of members that differ in their names alone, three are shown."""
    members = [Step(f"m{i}", work, compensate=undo) for i in range(5000)]
    assert [
        "└─ g  group of 5000 steps",
        "   ├─ m0  thread, undo undo",
        "   ├─ m1  thread, undo undo",
        "   ├─ ... 4997 more like these  undo undo",
        "   └─ m4999  thread, undo undo",
        "",
        "undone in this order, as far as it was done:",
        "├─ m4999  undo",
        "├─ ... 4997 more like these  undo",
        "├─ m1  undo",
        "└─ m0  undo",
    ] == tree(Flow("f").parallel("g", members)).splitlines()[1:]


def test_shows_the_one_that_differs() -> None:
    """A member with a policy of its own stands between those that are counted."""
    members = [Step(f"m{i}", work, retries=int(i == 50)) for i in range(100)]
    assert "   ├─ m50  thread, 1 retry" in tree(Flow("f").parallel("g", members)).splitlines()


def test_counts_what_is_too_much() -> None:
    """A thousand nodes that all differ are shown as the first and the last of them."""
    flow = Flow("f")
    for i in range(1000):
        flow.step(f"s{i}", work, timeout=i + 1)
    assert "├─ ... 945 others" == tree(flow).splitlines()[46]


def test_tells_a_flow_once() -> None:
    """Flows that contain each other's flows many times over do not multiply."""
    flow = Flow("f0").step("x", work, compensate=undo)
    for i in range(1, 20):
        flow = Flow(f"f{i}").step("left", flow).step("right", flow)
    assert (19, 1) == (tree(flow).count("as above"), tree(flow).count("x  inline"))


def test_tells_flows_to_a_depth() -> None:
    """Hundreds of flows within each other are shown as far as anybody would look."""
    flow = Flow("f").step("x", work, compensate=undo)
    for i in range(400):
        flow = Flow(f"f{i}").step(flow)
    lines = tree(flow).splitlines()
    assert "f368  flow too deep to be shown, inline, undo its steps" in lines[31]


class Wicked:
    """A function that can be made a step, but does not let itself be described later."""

    is_defined = False

    def __call__(self, ctx: object) -> None:
        """Do nothing."""

    @property
    def __name__(self) -> str:
        if self.is_defined:
            raise RuntimeError("no name")
        return "wicked"

    @property
    def __signature__(self) -> Never:
        raise RuntimeError("no signature")


def test_survives_objects_that_raise() -> None:
    """What a user's object does when it is looked at is no reason to show nothing."""
    wicked = Wicked()
    flow = Flow("f").step("a", wicked, compensate=wicked)
    wicked.is_defined = True
    assert ("└─ a  inline, undo Wicked", []) == (tree(flow).splitlines()[1], check(flow))


# --- names -----------------------------------------------------------------------------------

NASTY = [
    'say "hi"', '"]; n1 --> n0["x', "a]b[c", "end", "end\nend", "graph TD", "direction LR",
    "<script>alert(1)</script>", "&lt;b&gt;", "#quot;", "#35;", "a;b", '%%{init: {"x": 1}}%%',
    "style a:b#c;", "click n0 href", "1. fetch", "- list", "__init__", "**bold**", "`code`",
    "~~gone~~", "$$x^2$$", "fa:fa-car", "www.example.com", "a@b.com", "[x](y)", "# head", "    in",
    "tab\there", "\x1b[31mred\x07", "\u202eright", "\ud800", "Ünïcödé 日本語", "🎉", "nul\0", "\\n",
    "°°35¶ß", " ", "x" * 500,
]  # fmt: skip

#: What may follow each indentation in a flowchart: an edge, a node, or the ends of a subgraph.
LINE = re.compile(
    r"flowchart TD|n\d+ (?:-->|-\. undo \.->) n\d+|end"
    r'|(?:subgraph )?n\d+\["(?:[\w ,./-]|#\d+;|<br/>)+"\]'
)


def named(name: str) -> Flow:
    """Return a flow in which everything is called by a name."""
    flow = Flow(name, pools={name + "p": "thread"}).step(name, work, compensate=undo)
    flow.parallel(name + "g", [Step(name + "m", work, pool=name + "p", compensate=undo)])
    return flow.step(Flow(name + "f").step(name, work, compensate=undo))


def labels(flowchart: str) -> list[str]:
    """Return the first lines of the labels, as they are read."""
    found = re.findall(r'\["(.*?)(?:<br/>.*)?"\]', flowchart)
    read = [re.sub(r"#(\d+);", lambda number: chr(int(number[1])), label) for label in found]
    return [label.translate({0x200B: "", 0x2217: "*", 0x2CB: "`", 0x223C: "~"}) for label in read]


@given(st.text(st.characters(exclude_characters="\u200b\u2217\u02cb\u223c"), min_size=1))
def test_lets_no_name_out_of_its_place(name: str) -> None:
    """In a tree, no name has a control character; in a flowchart, it is a label and no more."""
    flow = named(name)
    assert tree(flow).replace("\n", "").isprintable()
    chart = [line.strip() for line in mermaid(flow).splitlines()]
    assert [] == [line for line in chart if not LINE.fullmatch(line)]
    shown = tree(flow).splitlines()[0]
    assert shown == labels(mermaid(flow))[0]


for _name in NASTY:
    test_lets_no_name_out_of_its_place = example(_name)(test_lets_no_name_out_of_its_place)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("fetch-user a/b 0.5", "fetch-user a/b 0.5"),
        ('"', "#34;"),
        ("#35;", "#8203;#35;#8203;35#59;"),
        ("Direction LR", "Direction#32;LR"),
        ("a  b", "a#32;#32;b"),
        ("1. fetch", "1#8203;#46;#8203; fetch"),
        ("__x", "#8203;#95;#8203;#8203;#95;#8203;x"),
        ("*`~", "#8727;#715;#8764;"),
        ("\n", "#8203;#92;#8203;n"),
        ("🎉", "#127881;"),
    ],
)
def test_escapes_what_is_special(name: str, label: str) -> None:
    """What Mermaid would read as more than text is given by number, or as what looks like it."""
    assert f'    n0["{label}"]' == mermaid(Flow(name)).splitlines()[1]


# --- flowchart -------------------------------------------------------------------------------


def test_draws_a_flowchart() -> None:
    """Groups and flows are subgraphs, and dotted edges lead along the order of undoing."""
    assert FLOWCHART == mermaid(shop())


@pytest.mark.parametrize("name", ["a", "🎉" * 60], ids=["short", "long"])
def test_stays_within_the_limits_of_mermaid(name: str) -> None:
    """However large and deep a flow is, it has less than 280 edges and 50,000 characters."""
    deep = Flow("f")
    for i in range(100):
        deep = Flow(f"f{i}").step(deep)
        for j in range(30):
            deep.step(f"{j}{name}", work, timeout=j + 1, compensate=undo)
    chart = mermaid(deep)
    assert chart.count(" --> ") + chart.count(" -. undo .-> ") < 280
    assert 20_000 < len(chart) < 50_000 or name == "a"
    assert chart.count("subgraph ") == len(re.findall(r"^ *end$", chart, re.MULTILINE))


# --- notebooks -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ({}, ["text/plain", "text/vnd.mermaid"]),
        ({"include": set()}, ["text/plain", "text/vnd.mermaid"]),
        ({"include": {"text/plain", "text/html"}}, ["text/plain"]),
        ({"exclude": {"text/plain"}}, ["text/vnd.mermaid"]),
        ({"include": {"text/plain"}, "exclude": {"text/plain"}}, []),
    ],
)
def test_offers_a_notebook_what_it_asks_for(arguments: dict[str, Any], kinds: list[str]) -> None:
    """There are two types, of which `include` and `exclude` choose."""
    assert kinds == list(shop()._repr_mimebundle_(**arguments))


def test_shows_a_notebook_the_flowchart_or_the_tree() -> None:
    """The plain text is the tree, and what is certainly wrong."""
    flow = Flow("f").step("a", work, jitter=True)
    bundle = flow._repr_mimebundle_()
    warning = "\n\nwarning: step 'a' of flow 'f': jitter changes nothing without retries"
    assert {"text/plain": tree(flow) + warning, "text/vnd.mermaid": mermaid(flow)} == bundle


# --- what is certainly a mistake -------------------------------------------------------------


def unpicklable() -> Callable[[object], None]:
    """Return a function that no process can be sent."""
    return partial(undo_item, item=threading.Lock())


LOCKED = "its function cannot be pickled for a process: TypeError: cannot pickle '_thread.lock'"


class Unfit:
    """Says in two lines that it cannot be pickled."""

    def __reduce__(self) -> Never:
        raise ValueError("not\nme")


def step(**options: Any) -> Callable[[Flow], object]:
    """Return what adds a step to a flow."""
    return lambda flow: flow.step("s", options.pop("fn", work), **options)


MISTAKES = {
    "unpicklable": (step(fn=unpicklable(), pool="cpu"), LOCKED),
    "reason with controls": (
        step(fn=partial(work_on, item=Unfit()), pool="cpu"),
        "pickled for a process: ValueError: not\\nme",
    ),
    "takes nothing": (step(fn=lambda: None), "cannot be called with (ctx): too many positional"),
    "takes too much": (step(fn=work_on), "cannot be called with (ctx): missing a required"),
    "takes no item": (
        lambda flow: flow.map("s", work, over=()),
        "its function cannot be called with (ctx, item)",
    ),
    "without retries": (
        step(retry_delay=1, backoff="linear", max_retry_delay=1, jitter=True, retry_on=OSError),
        "retry_delay and backoff and max_retry_delay and jitter and retry_on change nothing",
    ),
    "without delay": (
        step(retries=3, backoff="exponential"), "backoff changes nothing without retry_delay",
    ),
    "retries nothing": (step(retries=3, retry_on=()), "retry_on accepts no error"),
    "retries what is never retried": (
        step(retries=3, retry_on=SerializationError), "retry_on accepts no error",
    ),
    "cap below delay": (
        step(retries=3, retry_delay=2, max_retry_delay=0.5),
        "max_retry_delay=0.5 is less than retry_delay=2",
    ),
    "nothing to undo with": (
        step(compensate_on="started"), "compensate_on='started' changes nothing without compensate",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("add", "complaint"), MISTAKES.values(), ids=MISTAKES.keys())
def test_tells_a_mistake(add: Callable[[Flow], object], complaint: str) -> None:
    """Each mistake is one line that names the step, its flow, and what is wrong."""
    flow = Flow("f", pools={"cpu": "process"})
    add(flow)
    (line,) = check(flow)
    assert line.startswith("step 's' of flow 'f': ")
    assert complaint in line


UNDO_MISTAKES = {
    "unpicklable": (Step("u", unpicklable(), pool="cpu"), LOCKED),
    "takes an item": (undo_item, "its function cannot be called with (ctx)"),
    "without delay": (Step("u", undo, retries=1, jitter=True), "jitter changes nothing"),
    "undoes itself": (
        Step("u", undo, compensate_on="started"),
        "compensate_on='started' is an option of the step that it undoes",
    ),
}


@pytest.mark.parametrize(("compensate", "complaint"), UNDO_MISTAKES.values(), ids=UNDO_MISTAKES)
def test_tells_a_mistake_of_a_compensation(compensate: Any, complaint: str) -> None:
    """A compensation is looked at as its step is."""
    flow = Flow("f", pools={"cpu": "process"}).step("s", work, compensate=compensate)
    (line,) = check(flow)
    assert line.startswith("the compensation of step 's' of flow 'f': ")
    assert complaint in line


def test_tries_the_pickler_for_a_pool_of_processes_too() -> None:
    """A `ProcessPool` of one's own gets functions as the shared one does."""
    with ProcessPool(1) as pool:
        assert LOCKED in check(Flow("f").step("s", unpicklable(), pool=pool))[0]


def test_pickles_nothing_for_threads() -> None:
    """What stays in this process need not be picklable."""
    assert [] == check(Flow("f").step("s", unpicklable(), pool="thread"))


def test_tells_mistakes_of_members_in_one_line() -> None:
    """A group whose members were all made in the same wrong way has one mistake."""
    members = [Step(f"m{i}", work, retries=1, jitter=True) for i in range(1000)]
    assert [
        "step 'm0' and 999 others of flow 'f': jitter changes nothing without retry_delay"
    ] == check(Flow("f").parallel("g", members))


def test_looks_into_inner_flows() -> None:
    """An inner flow is checked once, with its own pools, and must not be empty."""
    inner = Flow("in", pools={"x": "process"}).step("s", unpicklable(), pool="x").step(Flow("no"))
    lines = check(Flow("f").parallel("g", [inner, Step("again", inner)]))
    assert ["step 's' of flow 'in'", "flow 'no'"] == [line.split(": ")[0] for line in lines]


def test_keeps_names_to_one_line() -> None:
    """Names and reasons cannot reach a terminal's controls."""
    (line,) = check(Flow("f\n").step("\x1b[31m", lambda: None))
    assert line.isprintable()


def test_has_no_doubt_about_the_compensation_of_the_last_step() -> None:
    """It is needed when the flow is cancelled while that step runs."""
    assert [] == check(Flow("f").step("last", work, compensate=undo))


def test_finds_nothing_wrong_with_what_may_be_right() -> None:
    """Signatures that somebody else wrote, or nobody, are no reason to complain."""

    def wrapper(*args: object) -> None:
        """Do nothing."""

    stated = partial(wrapper)
    wrapper.__wrapped__ = work_on  # type: ignore[attr-defined]
    stated.__signature__ = inspect.signature(work_on)  # type: ignore[attr-defined]
    flow = (
        shop()
        .step("stated", stated)
        .step("built-in", dict.fromkeys)
        .step("any", print)
        .step("wrapped", wrapper)
    )
    flow.step("constant", work, retries=2, retry_delay=1, max_retry_delay=1, backoff="linear")
    assert [] == check(flow)
