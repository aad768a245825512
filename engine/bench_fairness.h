/* bench_fairness.h - `fathom-bench fairness`. Thread: the caller's, beside the engine's. */
#ifndef ENGINE_BENCH_FAIRNESS_H
#define ENGINE_BENCH_FAIRNESS_H

/* Returns the exit status. */
int bench_fairness(int argc, char **argv);

#endif
