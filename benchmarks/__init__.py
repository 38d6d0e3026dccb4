"""Compare LAP's explanations with those of external explainers, on one network and the same images.

The packages tell the story of a run, in this order: `config` (what a run is), `plan` (which cells it needs), `run`
(computes them), `store` (files of a run), `statistics` (from scores to statements), `report` (tables, figures, page).
Around them: `metrics` and `rivals`, which a configuration names; `checks` of explainers and data sets; `cli`, the
command `interp-bench`; `studies`, experiments on top of runs; `speed`, measurements of time and memory.

Imports go one way: cli, studies, speed -> run -> plan -> config -> metrics, rivals -> baselines -> interp_core. The
store imports no report, and only cli and studies import the report.
"""
