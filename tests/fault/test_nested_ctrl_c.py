"""Ctrl-C with flows in flows: in every phase, inline and on threads, once and twice."""

from pathlib import Path

import pytest
from fault_tools import Script, run_script
from test_ctrl_c import PRELUDE
from test_ctrl_c_moments import AT_RANDOM, EVERY_MOMENT

pytestmark = pytest.mark.xdist_group("process")

#: How a flow may run within another: `put(outer, sub)`.
PLACES = {
    "inline": "put = lambda outer, sub: outer.step('sub', sub)",
    "branch": "put = lambda outer, sub: outer.parallel('group', [Step('sub', sub, grace=0.2)])",
    "deeper": "put = lambda outer, sub: outer.parallel('group', "
    "[Step('sub', Flow('middle').step(sub), grace=0.2)])",
}
place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)

SUB = (
    PRELUDE
    + """
from syncflow.run.signals import Guard

note = Guard.note
def note_and_tell(self):
    note(self)
    say("pressed")
Guard.note = note_and_tell

def fail(ctx):
    raise LookupError

def undo_slowly(ctx):
    say("undoing")
    bodies.wait_for(bodies.Path("go-on"), 10)
    say("undo second")

def undo_for_ever(ctx):
    say("undoing")
    ctx.sleep(20)

def tell_more(interrupt):
    tell(interrupt)
    step = interrupt.flow_result["sub"]
    error = step.error
    inner = step.value or getattr(error, "result", None) or error.__cause__.result
    while "sub" in inner:
        inner = inner["sub"].value or getattr(
            inner["sub"].error, "result", None) or inner["sub"].error.__cause__.result
    say("inner", inner.status, inner.rollback, *[
        f"{step.name}={step.status}:{step.compensation}" for step in inner.steps])

def go(flow):
    try:
        result = flow.run()
    except KeyboardInterrupt as interrupt:
        tell_more(interrupt)
    else:
        say("no interrupt", result.status)
"""
)


def next_line(script: Script) -> str:
    """Return the next line that tells something else than that Ctrl-C was noticed."""
    while (line := script.line()) == "pressed":
        pass
    return line


def rest(script: Script) -> tuple[int, list[str], str]:
    """Wait for the end; return the exit code, what else was told, and stderr."""
    code, output, errors = script.end()
    return code, [line for line in output.splitlines() if line != "pressed"], errors


FORWARD = (
    SUB
    + """
{place}
sub = Flow("sub").step(done("a")).step("wait", {body}).step(done("b"))
go(put(Flow("outer").step(done("first")), sub).step(done("last")))
"""
)


@place
@pytest.mark.parametrize(
    "body", ["partial(patient, 'wait')", "partial(hang, 'wait'), pool='process'"]
)
def test_ctrl_c_while_a_step_inside_runs(tmp_path: Path, place: str, body: str) -> None:
    """It is stopped, its flow undoes itself, then the outer one does."""
    code = FORWARD.replace("{place}", place).replace("{body}", body)
    with Script(code, tmp_path) as script:
        assert "running wait" == next_line(script)
        script.interrupt()
        exit_code, lines, errors = rest(script)
    expected = [
        "undo a",
        "undo first",
        "result cancelled complete first=completed sub=cancelled last=skipped",
        "handler True",
        "inner cancelled complete a=completed:completed wait=cancelled:None b=skipped:None",
    ]
    lines = [line for line in lines if line != "left wait"]
    assert (0, expected, "") == (exit_code, lines, errors)


ITSELF = (
    SUB
    + """
{place}
sub = Flow("sub").step(done("a")).step("second", lambda ctx: 2, compensate={undo})
go(put(Flow("outer").step(done("first")), sub.step("fail", fail)).step(done("last")))
"""
)


def status_of(place: str) -> str:
    """Return how the outermost step ends: a flow between it and the one that failed is stopped."""
    return "cancelled" if place == PLACES["deeper"] else "failed"


@place
def test_ctrl_c_while_a_flow_undoes_itself(tmp_path: Path, place: str) -> None:
    """The first one is shielded; it stops the outer flow, which then undoes the rest."""
    code = ITSELF.replace("{place}", place).replace("{undo}", "undo_slowly")
    with Script(code, tmp_path) as script:
        assert "undoing" == script.line()
        script.interrupt()
        assert "pressed" == script.line()
        (tmp_path / "go-on").touch()
        exit_code, lines, errors = rest(script)
    inner = "a=completed:completed second=completed:completed fail=failed:None"
    expected = [
        "undo second",
        "undo a",
        "undo first",
        f"result cancelled complete first=completed sub={status_of(place)} last=skipped",
        "handler True",
        f"inner failed complete {inner}",
    ]
    assert (0, expected, "") == (exit_code, lines, errors)


def end_of_rollback(code: str, directory: Path) -> tuple[int, list[str], str]:
    """Run a script, press Ctrl-C twice once it is undoing, and return its `rest`.

    Two at once are one: the second comes when the first has been noticed.
    """
    with Script(code, directory) as script:
        assert "undoing" == script.line()
        script.interrupt()
        assert "pressed" == script.line()
        script.interrupt()
        return rest(script)


@place
def test_a_second_ctrl_c_while_a_flow_undoes_itself(tmp_path: Path, place: str) -> None:
    """It ends all rollbacks: what is skipped is on record as that, at every level."""
    code = ITSELF.replace("{place}", place).replace("{undo}", "undo_for_ever")
    exit_code, lines, _ = end_of_rollback(code, tmp_path)
    inner = "a=completed:skipped second=completed:failed fail=failed:None"
    expected = [
        f"result cancelled incomplete first=completed sub={status_of(place)} last=skipped",
        "handler True",
        f"inner failed incomplete {inner}",
    ]
    assert (0, expected) == (exit_code, lines)


STOPPED = (
    SUB
    + """
{place}
sub = Flow("sub").step(done("a")).step("second", lambda ctx: 2, compensate=undo_for_ever)
sub.step("wait", partial(patient, "wait"))
go(put(Flow("outer").step(done("first")), sub).step(done("last")))
"""
)


@place
def test_ctrl_c_twice(tmp_path: Path, place: str) -> None:
    """The first one starts the rollback of the flow that runs, the second one ends it."""
    with Script(STOPPED.replace("{place}", place), tmp_path) as script:
        assert "running wait" == script.line()
        script.interrupt()
        assert "undoing" == next_line(script)
        script.interrupt()
        exit_code, lines, _ = rest(script)
    inner = "a=completed:skipped second=completed:failed wait=cancelled:None"
    expected = [
        "result cancelled incomplete first=completed sub=cancelled last=skipped",
        "handler True",
        f"inner cancelled incomplete {inner}",
    ]
    assert (0, expected) == (exit_code, lines)


UNWINDING = (
    SUB
    + """
{place}
sub = Flow("sub").step(done("a")).step("second", lambda ctx: 2, compensate={undo})
go(put(Flow("outer").step(done("first")), sub).step("fail", fail))
"""
)
THREAD = "Step('undo', undo_for_ever, pool='thread', grace=0.2)"


@place
def test_ctrl_c_while_a_flow_is_undone(tmp_path: Path, place: str) -> None:
    """The rollback goes on, through all levels."""
    code = UNWINDING.replace("{place}", place).replace("{undo}", "undo_slowly")
    with Script(code, tmp_path) as script:
        assert "undoing" == script.line()
        script.interrupt()
        assert "pressed" == script.line()
        (tmp_path / "go-on").touch()
        exit_code, lines, errors = rest(script)
    expected = [
        "undo second",
        "undo a",
        "undo first",
        "result failed complete first=completed sub=completed fail=failed",
        "handler True",
        "inner completed complete a=completed:completed second=completed:completed",
    ]
    assert (0, expected, "") == (exit_code, lines, errors)


@place
@pytest.mark.parametrize("undo", ["undo_for_ever", THREAD], ids=["inline", "thread"])
def test_a_second_ctrl_c_while_a_flow_is_undone(tmp_path: Path, place: str, undo: str) -> None:
    """The compensation that runs is stopped, and no other one starts, at any level."""
    code = UNWINDING.replace("{place}", place).replace("{undo}", undo)
    exit_code, lines, _ = end_of_rollback(code, tmp_path)
    expected = [
        "result failed incomplete first=completed sub=completed fail=failed",
        "handler True",
        "inner completed incomplete a=completed:skipped second=completed:failed",
    ]
    assert (0, expected) == (exit_code, lines)


DEEP_UNWINDING = (
    SUB
    + """
inner = Flow("inner").step(done("a")).step("second", lambda ctx: 2, compensate={undo})
middle = Flow("middle").step(done("b")).step("sub", inner).step("fail", fail)
go(Flow("outer").step(done("first")).parallel("group", [Step("sub", middle, grace=0.2)]))
"""
)


def test_a_second_ctrl_c_while_a_branch_undoes_a_flow_in_it(tmp_path: Path) -> None:
    """On a thread that no signal reaches."""
    exit_code, lines, _ = end_of_rollback(
        DEEP_UNWINDING.replace("{undo}", "undo_for_ever"), tmp_path
    )
    expected = [
        "result cancelled incomplete first=completed sub=failed",
        "handler True",
        "inner completed incomplete a=completed:skipped second=completed:failed",
    ]
    assert (0, expected) == (exit_code, lines)


DEAF = (
    SUB
    + """
def undo_deaf(ctx):
    say("undoing")
    bodies.wait_for(bodies.Path("go-on"), 10)

sub = Flow("sub").step(done("a")).step("second", lambda ctx: 2, compensate=undo_deaf)
sub.step("fail", fail)
run(Flow("outer").step(done("first")).parallel("group", [Step("sub", sub, grace=0.2)]))
"""
)


def test_a_second_ctrl_c_gives_up_on_a_flow_that_hangs_in_a_compensation(tmp_path: Path) -> None:
    """A thread cannot be interrupted, and the user wants to go."""
    exit_code, lines, errors = end_of_rollback(DEAF, tmp_path)
    expected = [
        "result cancelled incomplete first=completed sub=cancelled",
        "handler True",
    ]
    assert (0, expected, "") == (exit_code, lines, errors)


def test_a_late_second_ctrl_c_gives_up_on_a_flow_that_hangs_in_a_compensation(
    tmp_path: Path,
) -> None:
    """It comes long after the grace, in which the flow was right not to be abandoned."""
    telling = (
        "from syncflow.run.inner import FlowsOnThreads\n"
        "give_up = FlowsOnThreads.give_up\n"
        "def try_and_tell(self, attempt):\n"
        "    given_up = give_up(self, attempt)\n"
        "    say('given up' if given_up else 'tried in vain')\n"
        "    return given_up\n"
        "FlowsOnThreads.give_up = try_and_tell\n"
    )
    with Script(DEAF.replace("def undo_deaf", telling + "def undo_deaf"), tmp_path) as script:
        assert "undoing" == script.line()
        script.interrupt()
        assert "tried in vain" == next_line(script)
        script.interrupt()
        assert "given up" == next_line(script)
        assert 0 == script.end()[0]


def test_ctrl_c_that_comes_before_a_flow_has_begun_stops_it(tmp_path: Path) -> None:
    """It went to the outer run, which cannot do anything as long as the inner one runs."""
    code = SUB + (
        "from syncflow.run import nested\n"
        "guard = nested.guard\n"
        "def press_before(inbox, message):\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    return guard(inbox, message)\n"
        "nested.guard = press_before\n"
        "go(Flow('outer').step(done('first')).step(Flow('sub').step('wait', partial(hang, 'x'))))\n"
    )
    with Script(code, tmp_path) as script:
        exit_code, lines, errors = rest(script)
    expected = [
        "undo first",
        "result cancelled complete first=completed sub=cancelled",
        "handler True",
        "inner cancelled not_needed wait=skipped:None",
    ]
    assert (0, expected, "") == (exit_code, lines, errors)


def test_a_flow_that_a_second_ctrl_c_leaves_alone_says_so(tmp_path: Path) -> None:
    """All its steps are on record as not undone."""
    code = SUB + (
        "sub = Flow('sub').step(done('a')).step('sub', Flow('deep').step(done('b')))\n"
        "flow = Flow('outer').step(done('first')).step(sub)\n"
        "flow.step('second', lambda ctx: 2, compensate=undo_for_ever).step('fail', fail)\n"
        "try:\n"
        "    flow.run()\n"
        "except KeyboardInterrupt as interrupt:\n"
        "    result = interrupt.flow_result\n"
        "for record in (result, result['sub'].value, result['sub'].value['sub'].value):\n"
        "    say(record.rollback, *[f'{s.name}:{s.compensation}' for s in record.steps])\n"
    )
    exit_code, lines, _ = end_of_rollback(code, tmp_path)
    expected = [
        "incomplete first:skipped sub:skipped second:failed fail:None",
        "incomplete a:skipped sub:skipped",
        "incomplete b:skipped",
    ]
    assert (0, expected) == (exit_code, lines)


def test_ctrl_c_in_a_flow_that_completes_all_the_same(tmp_path: Path) -> None:
    """It is on record as completed, and undone with the rest."""
    code = SUB + (
        "from syncflow.run.runner import Runner\n"
        "finish = Runner._finish\n"
        "def press_late(self, error):\n"
        "    if self._flow.name == 'sub':\n"
        "        signal.raise_signal(signal.SIGINT)\n"
        "    return finish(self, error)\n"
        "Runner._finish = press_late\n"
        "go(Flow('outer').step(done('first')).step(Flow('sub').step(done('a'))))\n"
    )
    with Script(code, tmp_path) as script:
        exit_code, lines, errors = rest(script)
    expected = [
        "undo a",
        "undo first",
        "result cancelled complete first=completed sub=completed",
        "handler True",
        "inner completed complete a=completed:completed",
    ]
    assert (0, expected, "") == (exit_code, lines, errors)


#: Steps of flows in flows are looked for where they are.
FLATTEN = """
def leaves(result):
    for step in result.steps:
        error = step.error
        inner = step.value if step.name.startswith("sub") else None
        while inner is None and error is not None:
            inner, error = getattr(error, "result", None), error.__cause__
        if inner is None:
            yield step
        else:
            yield from leaves(inner)

class Flat:
    def __init__(self, result):
        self.steps = [step for step in leaves(result) if not step.name.startswith("sub")]
        self.status = result.status

check_flat = check
def check(result, where):
    return check_flat(None if result is None else Flat(result), where)
"""

INLINE = """
deepest = Flow("deepest").step(step("c")).step(step("d"))
sub = Flow("sub").step(step("b")).step("sub-sub", deepest).step(step("e"))
flow = Flow("inline").step(step("a")).step("sub", sub).step(step("f"))
"""

FLAT_FLOW = 'flow = Flow("inline").step(step("a")).step(step("b")).step(step("c"))\n'


@pytest.mark.parametrize(
    ("last", "outcomes"),
    [
        ("", "cancelled completed unborn"),
        ("flow.step('fail', lambda ctx: 1 / 0)", "cancelled failed unborn"),
        ("deepest.step('fail', lambda ctx: 1 / 0)", "cancelled failed unborn"),
    ],
    ids=["completes", "is undone", "undoes itself"],
)
def test_ctrl_c_at_every_moment_of_flows_in_a_flow(
    tmp_path: Path, last: str, outcomes: str
) -> None:
    """Wherever it lands, it is raised, and what has been done is undone or in the result."""
    assert FLAT_FLOW in EVERY_MOMENT
    code = EVERY_MOMENT.replace(FLAT_FLOW, FLATTEN + INLINE + last + "\n")
    assert (0, f"{outcomes}\n", "") == run_script(code, tmp_path)


BRANCHES = """
deepest = Flow("deepest").step(step("c", pool="process")).step(step("d"))
left = Flow("left").step(step("b")).parallel("inner", [Step("sub-deep", deepest), step("e")])
right = Flow("right").step(step("f")).step(step("g", timeout=5))
flow = Flow("branches").step(step("a"))
flow.parallel("group", [Step("sub-left", left), step("h"), Step("sub-right", right)])
flow.step("sub-last", Flow("last").step(step("i")).step(step("j", pool="thread")))
"""
MEASURING = "measure()\nusual"


def test_ctrl_c_at_random_moments_of_branches(tmp_path: Path) -> None:
    """No hang, no forgotten step, wherever it runs."""
    assert MEASURING in AT_RANDOM
    code = AT_RANDOM.replace(MEASURING, FLATTEN + BRANCHES + MEASURING)
    assert (0, "done\n", "") == run_script(code, tmp_path, "mixed", 200)
