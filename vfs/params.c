// SPDX-License-Identifier: GPL-2.0
/*
 * Parameters of the module, in /sys/module/rovl/parameters. The kernel crate has none that can
 * be seen there.
 */
#include <linux/errno.h>
#include <linux/kstrtox.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/printk.h>
#include <linux/sysfs.h>

#include "helpers.h"

static bool as_overlay;
module_param_named(overlay, as_overlay, bool, 0444);
MODULE_PARM_DESC(overlay, "Be the filesystem type 'overlay' too, if the kernel's own is not there");

bool rovl_param_overlay(void) { return as_overlay; }

static bool xino_auto;
module_param(xino_auto, bool, 0644);
MODULE_PARM_DESC(xino_auto, "The type name 'overlay' has the default xino=auto, not xino=off");

bool rovl_param_xino_auto(void) { return READ_ONCE(xino_auto); }

/*
 * Those of overlayfs. What these choose is not built yet, so they have one value each and refuse
 * others: who sets one has to be told that nothing comes of it.
 */
static int set_off(const char *value, const struct kernel_param *kp)
{
	bool on;
	int error = kstrtobool(value, &on);

	if (error || !on)
		return error;
	pr_err("rovl: parameter '%s' cannot be switched on, that is not supported yet\n",
	       kp->name);
#ifdef MODULE
	/*
	 * What modprobe.d says of overlay comes here where rovl has its name: without the module
	 * there would be neither.
	 */
	if (THIS_MODULE->state != MODULE_STATE_LIVE)
		return 0;
#endif
	return -EOPNOTSUPP;
}

static int get_off(char *buffer, const struct kernel_param *kp)
{
	return sysfs_emit(buffer, "N\n");
}

static const struct kernel_param_ops off_ops = {
	.set = set_off,
	.get = get_off,
};

module_param_cb(index, &off_ops, NULL, 0644);
MODULE_PARM_DESC(index, "Default of the option index: not supported yet, off");
module_param_cb(nfs_export, &off_ops, NULL, 0644);
MODULE_PARM_DESC(nfs_export, "Default of the option nfs_export: not supported yet, off");
module_param_cb(metacopy, &off_ops, NULL, 0644);
MODULE_PARM_DESC(metacopy, "Default of the option metacopy: not supported yet, off");

static int set_check_copy_up(const char *value, const struct kernel_param *kp)
{
	pr_warn("rovl: parameter '%s' does nothing, as in overlayfs\n", kp->name);
	return 0;
}

static const struct kernel_param_ops check_copy_up_ops = {
	.set = set_check_copy_up,
	.get = get_off,
};

module_param_cb(check_copy_up, &check_copy_up_ops, NULL, 0644);
MODULE_PARM_DESC(check_copy_up, "Does nothing");

/* Like overlayfs, as Debian configures it. */
static bool redirect_dir;
module_param(redirect_dir, bool, 0644);
MODULE_PARM_DESC(redirect_dir, "Default of the option redirect_dir: on or off");

static bool redirect_always_follow = true;
module_param(redirect_always_follow, bool, 0644);
MODULE_PARM_DESC(redirect_always_follow, "Follow redirects even with redirect_dir=off");

static unsigned short redirect_max = 256;
module_param(redirect_max, ushort, 0644);
MODULE_PARM_DESC(redirect_max, "Longest path in a redirect, in bytes");

bool rovl_param_redirect_dir(void) { return READ_ONCE(redirect_dir); }
bool rovl_param_redirect_always_follow(void) { return READ_ONCE(redirect_always_follow); }
unsigned short rovl_param_redirect_max(void) { return READ_ONCE(redirect_max); }
