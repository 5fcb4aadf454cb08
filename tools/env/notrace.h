/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The debug kernel is compiled without the kernel's own tracepoints (-DNOTRACE,
 * see tools/env.sh), and linux/tracepoint.h has no empty version of these for
 * kernel/trace/trace_events.c.
 */
#define register_trace_prio_sched_process_fork(probe, data, prio)	((void)(probe), 0)
#define register_trace_prio_sched_process_free(probe, data, prio)	((void)(probe), 0)
#define register_trace_prio_sched_switch(probe, data, prio)	((void)(probe), 0)
#define register_trace_prio_sched_waking(probe, data, prio)	((void)(probe), 0)
#define register_trace_prio_sched_wakeup(probe, data, prio)	((void)(probe), 0)
#define register_trace_prio_sched_wakeup_new(probe, data, prio)	((void)(probe), 0)
