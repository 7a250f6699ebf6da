"""Threads that sleep while they wait: made once, and without changing how torch shares out work."""

from __future__ import annotations

import threading

import pytest
import torch

from lcakit.record.objective import waiting


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(waiting, "_DONE", [])
    monkeypatch.setattr(waiting.sys, "platform", "linux")
    monkeypatch.setattr(waiting.threading, "Thread", _Counted)
    threads, _Counted.begun = torch.get_num_threads(), 0
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


class _Counted(threading.Thread):
    begun = 0

    def start(self):
        type(self).begun += 1
        super().start()


def test_threads_are_made_once_and_leave_the_number_of_threads():
    for _ in range(3):
        waiting.let_threads_sleep()
    assert _Counted.begun == 1
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("policy", ["active", "ACTIVE"])
def test_a_policy_of_the_users_own_is_kept(monkeypatch, policy):
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    waiting.let_threads_sleep()
    assert _Counted.begun == 0


def test_one_thread_waits_for_nobody():
    torch.set_num_threads(1)
    waiting.let_threads_sleep()
    assert _Counted.begun == 0
