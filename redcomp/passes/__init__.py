"""The passes: functions from kernel to kernel, one module each.  `redcomp.compile` orders them."""
