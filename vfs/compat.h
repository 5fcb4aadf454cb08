/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ROVL_COMPAT_H
#define _ROVL_COMPAT_H
/* What not all kernels have for which the module is built; see compat.rs. */
#include <linux/sched/signal.h>
#include <linux/task_work.h>

#ifndef PF_NO_NOTIFY_SIGNAL
/*
 * Before 7.3. What has come is put off; what comes in the meantime interrupts all
 * the same, as it does for every filesystem of these kernels.
 */
static inline unsigned int no_notify_signal_save(void)
{
	return test_and_clear_thread_flag(TIF_NOTIFY_SIGNAL);
}

static inline void no_notify_signal_restore(unsigned int was_set)
{
	if (was_set || task_work_pending(current))
		set_thread_flag(TIF_NOTIFY_SIGNAL);
}
#endif

#endif /* _ROVL_COMPAT_H */
