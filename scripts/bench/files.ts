import { compare, type Line } from './compare.ts';
import type { Step } from './job.ts';
import { MACHINE, TOOLS } from './policy.ts';
import { heading, row } from './report.ts';
import type { Bench } from './subject.ts';
import { makeTrees, type Tools } from './tools.ts';

const ROUNDS = 7;
const WORK = '/tmp/bench';

const archiveSteps: readonly Step[] = [
  {
    name: 'extract',
    argv: ['/bin/sh', '-c', `mkdir -p ${WORK}/tar && tar -C ${WORK}/tar -xf ${TOOLS}/tree.tar`],
  },
  { name: 'walk', argv: ['/usr/bin/find', `${WORK}/tar`, '-newermt', '2100-01-01'] },
  { name: 'search', argv: ['/bin/sh', '-c', `! grep -rq 'not in any file' ${WORK}/tar`] },
  { name: 'remove', argv: ['/bin/rm', '-rf', `${WORK}/tar`] },
];

/** git with its index and tree in the container and its objects, read-only, from this machine. */
const gitEnvironment = {
  GIT_DIR: `${TOOLS}/repository`,
  GIT_WORK_TREE: `${WORK}/git`,
  GIT_INDEX_FILE: `${WORK}/index`,
  GIT_OPTIONAL_LOCKS: '1',
  GIT_CONFIG_COUNT: '1',
  GIT_CONFIG_KEY_0: 'safe.directory',
  GIT_CONFIG_VALUE_0: '*',
  LD_LIBRARY_PATH: `${TOOLS}/lib`,
};
const git = `${MACHINE}/usr/bin/git`;
const gitSteps: readonly Step[] = [
  { name: 'prepare', argv: ['/bin/mkdir', '-p', `${WORK}/git`], quiet: true },
  { name: 'checkout', argv: [git, 'checkout', '-qf', 'HEAD', '--', '.'], environment: gitEnvironment },
  {
    // git rereads files that are as young as its index, and whether they are is a matter of the second.
    name: 'settle',
    argv: [
      '/bin/sh',
      '-c',
      `cd ${WORK}/git && find . -type f -print0 | xargs -0 touch -d 2020-01-01 && ${git} update-index -q --refresh`,
    ],
    environment: gitEnvironment,
    quiet: true,
  },
  {
    name: 'status',
    argv: ['/bin/sh', '-c', `cd ${WORK}/git && test -z "$(${git} status --porcelain)"`],
    environment: gitEnvironment,
  },
  { name: 'clean', argv: ['/bin/rm', '-rf', `${WORK}/git`, `${WORK}/index`], quiet: true },
];

/** Ten sources of init, a compiler process each, with this machine's compiler and headers. */
const buildStep: Step = {
  name: 'build',
  argv: [
    '/bin/sh',
    '-c',
    `set -e; mkdir -p ${WORK}/out; ls ${TOOLS}/sources/*.c | grep -v fuzz_ | head -n 10 | while read -r source; do ` +
      `gcc --sysroot=${MACHINE} -D_GNU_SOURCE -O1 -w -c "$source" -o ${WORK}/out/one.o; done; rm -r ${WORK}/out`,
  ],
  environment: {
    PATH: `${MACHINE}/usr/bin:/usr/bin:/bin`,
    LD_LIBRARY_PATH: `${TOOLS}/lib`,
  },
};

const steps = (tools: Tools): readonly Step[] => [
  ...archiveSteps,
  ...(tools.git ? gitSteps : []),
  ...(tools.compiler ? [buildStep] : []),
];

const lines = (tools: Tools): readonly Line[] => [
  ['extract', 'tar -x'],
  ['walk', 'find (lstat of each)'],
  ['search', 'grep -r (open, read)'],
  ['remove', 'rm -r'],
  ...(tools.git
    ? ([
        ['checkout', 'git checkout'],
        ['status', 'git status'],
      ] as const)
    : []),
  ...(tools.compiler ? ([['build', 'gcc -c of 10 sources']] as const) : []),
];

/** File-heavy work on a tree of 20,000 files in a tmpfs, and a small build, confined and not. */
export async function files(bench: Bench): Promise<void> {
  const tools = await makeTrees(bench.directory);
  await compare(
    bench,
    { steps: steps(tools), rounds: ROUNDS, warmUp: 1, budgetMs: 22_000, limitMs: 60_000 },
    lines(tools),
    1,
    () => heading('Files: 20,000 in a tmpfs, ms, medians of interleaved rounds'),
  );
  if (!tools.git) row('not measured: git, which this machine does not have');
  if (!tools.compiler) row('not measured: a build, for this machine has no compiler');
}
