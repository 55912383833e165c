#include "bpf.h"

void bpf_emit(struct filter *filter, struct sock_filter instruction)
{
	if (filter->length == FILTER_MAX)
		filter->overflow = true;
	else
		filter->code[filter->length++] = instruction;
}

void bpf_load(struct filter *filter, unsigned offset)
{
	bpf_emit(filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset));
}

void bpf_ret(struct filter *filter, unsigned action)
{
	bpf_emit(filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* If the accumulator equals `value`, return `action`; else go on. */
void bpf_ret_if(struct filter *filter, unsigned value, unsigned action)
{
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, 1));
	bpf_ret(filter, action);
}

void bpf_ret_if_any_bit(struct filter *filter, unsigned bits, unsigned action)
{
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, 1));
	bpf_ret(filter, action);
}

/* BPF_JA has 32 bits, conditional jumps have 8, hence the pair. */
unsigned bpf_begin(struct filter *filter, int number)
{
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 1, 0));
	bpf_emit(filter, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
	return filter->length - 1u;
}

void bpf_end(struct filter *filter, unsigned block)
{
	if (!filter->overflow)
		filter->code[block].k = filter->length - block - 1u;
}

/*
 * Answers `action` for each of `numbers`, which are sorted: a binary search, because this runs on every call whose
 * answer the kernel cannot cache by number alone (kernel/seccomp.c, seccomp_cache_check_allow, Linux 5.11) and on
 * every call at all before that. Ends with a jump to what follows; `jumps` collects those.
 */
void bpf_search(struct filter *filter, const unsigned *numbers, size_t count, unsigned action, unsigned *jumps, size_t *used)
{
	enum { LEAF = 4 };

	if (count <= LEAF) {
		for (size_t i = 0; i < count; i++)
			bpf_ret_if(filter, numbers[i], action);
		bpf_emit(filter, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0));
		jumps[(*used)++] = filter->length - 1u;
		return;
	}
	size_t half = count / 2;
	bpf_emit(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, numbers[half], 0, 1));
	bpf_emit(filter, (struct sock_filter)BPF_STMT(BPF_JMP | BPF_JA, 0)); /* to the upper half */
	unsigned far = filter->length - 1u;
	bpf_search(filter, numbers, half, action, jumps, used);
	bpf_end(filter, far);
	bpf_search(filter, numbers + half, count - half, action, jumps, used);
}
