"""The passes: functions from program to program, one module each; `redcomp.compile` orders them."""
