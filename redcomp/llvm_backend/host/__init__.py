"""Hosts: their targets, schedule and skeleton, and their code loaded into the process."""
