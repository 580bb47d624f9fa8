"""Runtree inside other libraries: a module for each."""
