/*
 * Writing a classic BPF program for seccomp (Documentation/networking/filter.rst): the few shapes that the
 * filter of a workload is made of. All append to the program and remember when it overflows.
 */
#ifndef OPENSHELL_BPF_H
#define OPENSHELL_BPF_H

#include "filter.h"

void bpf_emit(struct filter *filter, struct sock_filter instruction);

/* Loads the 32 bits at `offset` of struct seccomp_data into the accumulator. */
void bpf_load(struct filter *filter, unsigned offset);

void bpf_ret(struct filter *filter, unsigned action);

/* If the accumulator equals `value`, or has any of `bits`, return `action`; else go on. */
void bpf_ret_if(struct filter *filter, unsigned value, unsigned action);
void bpf_ret_if_any_bit(struct filter *filter, unsigned bits, unsigned action);

/*
 * Opens a block that is run only for one system call; `bpf_end` fills in the jump over it. The accumulator
 * holds the call's number at the start and still does behind the block, because every block returns.
 */
unsigned bpf_begin(struct filter *filter, int number);
void bpf_end(struct filter *filter, unsigned block);

void bpf_search(struct filter *filter, const unsigned *numbers, size_t count, unsigned action, unsigned *jumps, size_t *used);

#endif
