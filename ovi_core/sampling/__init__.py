"""One sampling run: guidance, solvers, schedules, hooks and context windows."""
