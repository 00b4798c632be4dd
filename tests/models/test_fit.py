import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from standpipe.models import catalog, fit
from standpipe.models.catalog import ModelUnavailable, Shape
from standpipe.models.fit import Machine, measure, need, plan

GB = 10**9
STARTER = catalog.STARTER.shape
BIG = catalog.find("gpt-oss:20b").shape
ROOMY = Machine(cores=2, memory=24 * GB)


def test_the_starter_on_a_laptop():
    chosen = plan("starter", STARTER, ROOMY)
    assert (chosen.slots, chosen.context, chosen.threads) == (4, 2048, 2)
    assert chosen.bytes == int((98_362_432 + 22.5 * 1024 * 8192) * 1.1)


def test_a_large_model_leaves_a_core_to_the_rest():
    chosen = plan("big", BIG, Machine(cores=8, memory=64 * GB))
    assert (chosen.slots, chosen.context, chosen.threads) == (4, 8192, 7)


def test_wishes_are_kept():
    chosen = plan("starter", STARTER, ROOMY, slots=2, context=4096, threads=1)
    assert (chosen.slots, chosen.context, chosen.threads) == (2, 4096, 1)


def test_slots_shrink_before_context_does():
    tight = Machine(cores=2, memory=fit.need(BIG, 1, 8192))
    assert (plan("big", BIG, tight).slots, plan("big", BIG, tight).context) == (1, 8192)
    tighter = Machine(cores=2, memory=fit.need(BIG, 1, 8192) - 1)
    assert plan("big", BIG, tighter).context == 4096


def test_a_cache_of_smaller_numbers_takes_less():
    tight = Machine(cores=8, memory=int(need(BIG, 4, 8192, "q8_0")))
    assert plan("big", BIG, tight).slots < 4
    assert plan("big", BIG, tight, cache_type="q8_0").slots == 4


def test_a_model_that_cannot_fit_is_refused_with_both_numbers():
    with pytest.raises(ModelUnavailable) as refused:
        plan("gpt-oss 20B", BIG, Machine(cores=2, memory=8 * GB))
    assert "13.4 GB" in refused.value.message
    assert "8.0 GB" in refused.value.message


def test_a_wish_that_cannot_fit_is_refused_and_not_bent():
    memory = fit.need(BIG, 4, 8192)
    assert plan("big", BIG, Machine(2, memory), slots=4, context=8192).slots == 4
    with pytest.raises(ModelUnavailable, match="8 x 8192 tokens"):
        plan("big", BIG, Machine(2, memory), slots=8, context=8192)


def test_more_context_than_trained_is_refused():
    with pytest.raises(ModelUnavailable, match="8192"):
        plan("starter", STARTER, ROOMY, context=8193)


def test_a_model_that_says_nothing_of_itself_is_still_planned():
    chosen = plan("odd", Shape(10**6, 0, 0, 0, 0, 0), ROOMY)
    assert (chosen.slots, chosen.context) == (4, 2048)


@given(
    memory=st.integers(0, 100 * GB),
    trained=st.integers(0, 200_000),
    slots=st.none() | st.integers(1, 64),
    context=st.none() | st.integers(256, 200_000),
)
def test_a_plan_fits_or_is_refused(memory, trained, slots, context):
    shape = Shape(5 * GB, trained, 32, 8, 128, 128)
    try:
        chosen = plan("m", shape, Machine(4, memory), slots=slots, context=context)
    except ModelUnavailable:
        return
    assert chosen.bytes <= memory
    assert chosen.bytes == fit.need(shape, chosen.slots, chosen.context)
    assert chosen.slots == (slots or chosen.slots)
    assert chosen.context == (context or chosen.context)
    assert 0 < chosen.context <= (trained or fit.CONTEXT)


# What a machine says of itself, as files in a folder.


def machine(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal: 2000 kB\nMemAvailable: 1000 kB\n"}


def test_memory_is_what_the_kernel_calls_available(tmp_path):
    assert measure(machine(tmp_path, MEMINFO)).memory == 1_024_000


def test_a_container_limit_counts_and_its_file_cache_does_not(tmp_path):
    group = {
        "proc/self/cgroup": "0::/app/worker\n",
        "sys/fs/cgroup/app/worker/memory.max": "max\n",
        "sys/fs/cgroup/app/worker/memory.current": "1\n",
        "sys/fs/cgroup/app/memory.max": "500000\n",
        "sys/fs/cgroup/app/memory.current": "300000\n",
        "sys/fs/cgroup/app/memory.stat": "anon 1\ninactive_file 50000\n",
    }
    assert measure(machine(tmp_path, MEMINFO | group)).memory == 250_000


def test_the_older_kind_of_container_limit_counts_too(tmp_path):
    group = {
        "proc/self/cgroup": "4:cpu,cpuacct:/box\n3:memory:/not/visible/here\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "400000\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "100000\n",
    }
    assert measure(machine(tmp_path, MEMINFO | group)).memory == 300_000


def test_without_any_word_half_of_all_memory_counts(tmp_path):
    assert 0 < measure(tmp_path).memory < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_threads_of_one_core_count_once(tmp_path):
    cpus = os.sched_getaffinity(0)
    siblings = {f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": "0-255\n" for cpu in cpus}
    assert measure(machine(tmp_path, siblings)).cores == 1


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"},
        {
            "proc/self/cgroup": "2:cpu:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    ],
)
def test_a_container_with_little_processor_time_has_few_cores(tmp_path, files):
    assert measure(machine(tmp_path, files)).cores == 1


def test_no_limit_is_no_limit(tmp_path):
    free = {
        "proc/self/cgroup": "0::/\n2:cpu:/\n",
        "sys/fs/cgroup/cpu.max": "max 100000\n",
        "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
        "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
    }
    assert measure(machine(tmp_path, free)).cores == len(os.sched_getaffinity(0))


def test_this_machine_can_be_measured():
    here = measure()
    assert here.cores >= 1
    assert here.memory > 0


def test_sizes_are_for_people():
    assert [fit.gigabytes(n) for n in (98_362_432, 999_000_000, 12_109_566_560)] == ["98 MB", "999 MB", "12.1 GB"]
