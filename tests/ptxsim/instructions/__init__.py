"""The instructions: importing this fills the tables."""

from ptxsim.instructions import access, arithmetic, collectives, control, matrices
from ptxsim.instructions.table import CONTROL, PLAIN

__all__ = ["CONTROL", "PLAIN", "access", "arithmetic", "collectives", "control", "matrices"]
