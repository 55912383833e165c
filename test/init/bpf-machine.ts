/** A classic BPF instruction (Documentation/networking/filter.rst). */
export interface Instruction {
  readonly code: number;
  readonly jt: number;
  readonly jf: number;
  readonly k: number;
}

/** What a seccomp filter sees of a call (struct seccomp_data); arguments are 64 bits. */
export interface Call {
  readonly nr: number;
  readonly arch?: number;
  readonly args?: readonly (number | bigint)[];
}

export type Verdict = 'allow' | 'notify' | { readonly errno: number };

export const ARCH_X86_64 = 0xc000003e;
export const ARCH_I386 = 0x40000003;

const ERRNO = 0x0005_0000;

/** Runs a filter over a call, as the kernel does, and counts the instructions. Throws on what no filter may do. */
export function runFilter(
  program: readonly Instruction[],
  call: Call,
): { readonly verdict: Verdict; readonly steps: number } {
  const words = new Uint32Array(16);
  words[0] = call.nr;
  words[1] = call.arch ?? ARCH_X86_64;
  for (const [index, arg] of (call.args ?? []).entries()) {
    const value = BigInt.asUintN(64, BigInt(arg));
    words[4 + 2 * index] = Number(value & 0xffff_ffffn);
    words[5 + 2 * index] = Number(value >> 32n);
  }
  let accumulator = 0;
  for (let at = 0, steps = 1; ; at++, steps++) {
    const instruction = program[at];
    if (instruction === undefined) throw new Error(`the program runs off its end at ${at}`);
    const { code, jt, jf, k } = instruction;
    const jump = (taken: boolean): void => {
      at += taken ? jt : jf;
    };
    switch (code) {
      case 0x20: // BPF_LD | BPF_W | BPF_ABS
        if (k % 4 !== 0 || k >= 64) throw new Error(`a load from ${k}`);
        accumulator = words[k / 4] ?? 0;
        break;
      case 0x15: // JEQ
        jump(accumulator === k);
        break;
      case 0x25: // JGT
        jump(accumulator > k);
        break;
      case 0x35: // JGE
        jump(accumulator >= k);
        break;
      case 0x45: // JSET
        jump((accumulator & k) !== 0);
        break;
      case 0x05: // JA
        at += k;
        break;
      case 0x54: // AND
        accumulator = (accumulator & k) >>> 0;
        break;
      case 0x06: // RET
        return { verdict: verdictOf(k), steps };
      default:
        throw new Error(`instruction ${code} at ${at}`);
    }
  }
}

function verdictOf(value: number): Verdict {
  if (value === 0x7fff_0000) return 'allow';
  if (value === 0x7fc0_0000) return 'notify';
  if ((value & 0xffff_0000) === ERRNO) return { errno: value & 0xffff };
  throw new Error(`the filter returns ${value.toString(16)}`);
}
