"""Experts: the systems that do what a task call asks for."""
