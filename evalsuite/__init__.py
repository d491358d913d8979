"""Suites of benchmarks: what to run at which stage of a training run, and on what evidence.

A suite is a reviewable YAML file that this package builds from the classes and clusters that :mod:`scaling`
found in real scores. It is made to be imported into other people's trainers: importing it loads neither torch
nor lm_eval, and it never imports the ``train`` and ``data`` packages of this project, whose names a trainer's
own folder may hold too.
"""
