"""The filter of system calls, on each processor: a small machine runs its lines as the kernel does.

That the kernel of this computer takes it, and what it then refuses, is tested with a thief in
`test_grading`.
"""

import errno

import pytest

from kit.classroom import system_calls as calls
from kit.classroom.system_calls import ALLOW, ARCHITECTURE, KILL, REFUSE, REFUSED, program

READ = {"x86_64": 0, "aarch64": 63, "riscv64": 63}
JUMPS = {
    calls.IF_EQUAL: lambda a, k: a == k,
    calls.IF_AT_LEAST: lambda a, k: a >= k,
    calls.IF_ANY_BIT: lambda a, k: bool(a & k),
}


def decided(machine, number, first=0, of=""):
    """What the filter for a processor says about a call that was made in the way of another."""
    held, at, lines = 0, 0, program(machine)
    data = {
        calls.NUMBER: number,
        calls.MACHINE: ARCHITECTURE[of or machine],
        calls.FIRST_ARGUMENT: first,
    }
    while True:
        code, yes, no, k = lines[at]
        at += 1
        if code == calls.RETURN:
            return k
        if code == calls.LOAD:
            held = data[k]
        else:
            at += yes if JUMPS[code](held, k) else no


@pytest.fixture(params=ARCHITECTURE)
def machine(request):
    return request.param


def own(machine, numbers):
    return numbers[machine != "x86_64"]


def test_each_call_of_the_list_is_refused_and_others_are_not(machine):
    for numbers in REFUSED.values():
        assert decided(machine, own(machine, numbers)) == REFUSE | errno.EPERM
    assert decided(machine, READ[machine]) == ALLOW


def test_a_process_may_start_others_but_no_namespace(machine):
    clone = own(machine, calls.CLONE)
    assert decided(machine, clone, 17) == ALLOW
    assert decided(machine, clone, 17 | calls.NEW_USER) == REFUSE | errno.EPERM
    assert decided(machine, own(machine, calls.CLONE3)) == REFUSE | errno.ENOSYS


def test_sockets_are_of_three_families(machine):
    found = {family: decided(machine, own(machine, calls.SOCKET), family) for family in range(50)}
    assert {family for family, said in found.items() if said == ALLOW} == set(calls.FAMILIES)
    assert set(found.values()) == {ALLOW, REFUSE | errno.EAFNOSUPPORT}


def test_a_call_in_the_way_of_another_processor_ends_the_process(machine):
    other = next(name for name in ARCHITECTURE if name != machine)
    assert decided(machine, READ[machine], of=other) == KILL
    if machine == "x86_64":
        assert decided(machine, calls.OTHER_ABI + 39) == REFUSE | errno.ENOSYS
