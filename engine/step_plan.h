/* step_plan.h - what a stepper's planner is told, and what it does of its own accord: who waits looks
 * up what is known of it, and who is preempted gives back. Private to the stepper.
 */
#ifndef ENGINE_STEP_PLAN_H
#define ENGINE_STEP_PLAN_H

#include "engine/step.h"

/* The next step's tokens, into stepper->plan. */
void stepper_plan(struct stepper *stepper);

/* An answer of so many tokens has ended by itself: what others will come to. */
void stepper_learn_length(struct stepper *stepper, uint32_t output);

/* A step that has ended took so long. */
void stepper_learn_pace(struct stepper *stepper, const struct flight *flight, uint64_t ns);

/* Who wanted the masks just made pays for them. */
void stepper_charge_masks(struct stepper *stepper);

/* The step is so long that the next one is better planned once it has ended: whoever comes meanwhile
 * is then in it. Only with several tenants; to plan late costs the device a moment. */
bool stepper_plans_late(const struct stepper *stepper, const struct flight *flight);

/* What the sequence holds, and its place if it ran; it waits again. */
void stepper_give_back(struct stepper *stepper, struct seq *seq, bool keep);

#endif
