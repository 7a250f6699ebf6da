"""Toy landscapes: the noisy quadratic"""

import lcakit as lk
from lcakit.landscapes import named


def steps_to_target():
    _, curves = named.run("nqm", "steps", directions=200)
    return lk.plot.nqm.steps_to_target(curves, backend="matplotlib")


def speed_ups():
    _, curves = named.run("nqm", "speedup", directions=200)
    return lk.plot.nqm.speed_ups(curves, backend="matplotlib")


def expected_loss():
    _, loss = named.run("nqm", "loss", directions=200)
    return lk.plot.nqm.expected_loss(loss["expected"], loss, backend="matplotlib")


def schedules():
    _, scheduled = named.run("nqm", "schedule", directions=50, pieces=10)
    return lk.plot.nqm.schedules(scheduled, backend="matplotlib")


def scheduled_steps():
    _, scheduled = named.run("nqm", "schedule", directions=50, pieces=10)
    return lk.plot.nqm.scheduled_steps(scheduled, backend="matplotlib")


def helping():
    _, expected = named.run("nqm", "helping", directions=200)
    return lk.plot.nqm.helping(expected, backend="matplotlib")


def helping_over_training():
    from lcakit.landscapes import nqm

    problem, optimizer = nqm.paper_problem(200), nqm.Optimizer(0.5)
    iterations = [0, 1, 2, 5, 10, 20, 50, 100]
    expected = nqm.expected_helping(problem, optimizer, [100], iterations)["helping"].mean("direction")
    return lk.plot.nqm.helping_over_training(expected.squeeze(), backend="matplotlib")
