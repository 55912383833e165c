import { compare } from './compare.ts';
import type { Step } from './job.ts';
import { MACHINE, TOOLS } from './policy.ts';
import { row } from './report.ts';
import type { Bench, Place } from './subject.ts';
import { makeTools, makeTree } from './tools.ts';

const ROUNDS = 7;
const WORK = '/tmp/bench';

/** Where the kernel is emulated a system call costs a hundred times as much, and 20,000 files take minutes. */
const TREES = { large: 20_000, small: 4_000 } as const;
/** How many sources are compiled, by the same reckoning. */
const SOURCES = { large: 10, small: 3 } as const;
type Tree = keyof typeof TREES;
const treeOf = ({ runtime }: Place): Tree => (['runc', 'crun', 'host'].includes(runtime) ? 'large' : 'small');

const archiveSteps = (tree: Tree): readonly Step[] => [
  {
    name: 'extract',
    argv: ['/bin/sh', '-c', `mkdir -p ${WORK}/tar && tar -C ${WORK}/tar -xf ${TOOLS}/${tree}.tar`],
  },
  { name: 'walk', argv: ['/usr/bin/find', `${WORK}/tar`, '-newermt', '2100-01-01'] },
  { name: 'search', argv: ['/bin/sh', '-c', `! grep -rq 'not in any file' ${WORK}/tar`] },
  { name: 'remove', argv: ['/bin/rm', '-rf', `${WORK}/tar`] },
];

const git = `${MACHINE}/usr/bin/git`;
const inTree = `cd ${WORK}/git`;

/** git with its index and tree in the container and its objects, read-only, from this machine. */
const gitSteps = (tree: Tree): readonly Step[] => {
  const environment = {
    GIT_DIR: `${TOOLS}/${tree}.git`,
    GIT_WORK_TREE: `${WORK}/git`,
    GIT_INDEX_FILE: `${WORK}/index`,
    GIT_CONFIG_COUNT: '1',
    GIT_CONFIG_KEY_0: 'safe.directory',
    GIT_CONFIG_VALUE_0: '*',
    LD_LIBRARY_PATH: `${TOOLS}/lib`,
  };
  const settle = `${inTree} && find . -type f -print0 | xargs -0 touch -d 2020-01-01 && ${git} update-index -q --refresh`;
  return [
    { name: 'prepare', argv: ['/bin/mkdir', '-p', `${WORK}/git`], quiet: true },
    { name: 'checkout', argv: [git, 'checkout', '-qf', 'HEAD', '--', '.'], environment },
    // git rereads files that are as young as its index, and whether they are is a matter of the second.
    { name: 'settle', argv: ['/bin/sh', '-c', settle], environment, quiet: true },
    {
      name: 'status',
      argv: ['/bin/sh', '-c', `${inTree} && test -z "$(${git} status --porcelain)"`],
      environment,
    },
    { name: 'clean', argv: ['/bin/rm', '-rf', `${WORK}/git`, `${WORK}/index`], quiet: true },
  ];
};

/** A compiler process for each of some sources of init, with this machine's compiler and headers. */
const buildStep = (tree: Tree, sources: readonly string[]): Step => ({
  name: 'build',
  argv: [
    '/bin/sh',
    '-c',
    `set -e; for source in ${sources.slice(0, SOURCES[tree]).join(' ')}; do ` +
      `gcc --sysroot=${MACHINE} -D_GNU_SOURCE -O1 -w -c ${TOOLS}/sources/$source -o ${WORK}.o; rm ${WORK}.o; done`,
  ],
  environment: { PATH: `${MACHINE}/usr/bin:/usr/bin:/bin`, LD_LIBRARY_PATH: `${TOOLS}/lib` },
});

/** File-heavy work on a tree in a tmpfs, and a small build, confined and not. */
export async function files(bench: Bench): Promise<void> {
  for (const tree of new Set(bench.places.map(treeOf))) await makeTree(bench.directory, tree, TREES[tree]);
  const tools = await makeTools(bench.directory);
  const steps = (tree: Tree): readonly Step[] => [
    ...archiveSteps(tree),
    ...(tools.git ? gitSteps(tree) : []),
    ...(tools.sources.length > 0 ? [buildStep(tree, tools.sources)] : []),
  ];
  await compare(
    bench,
    (place) => ({
      steps: steps(treeOf(place)),
      rounds: ROUNDS,
      warmUp: 1,
      budgetMs: 13_000,
      limitMs: 60_000,
    }),
    [
      ['extract', 'tar -x'],
      ['walk', 'find (lstat of each)'],
      ['search', 'grep -r (open, read)'],
      ['remove', 'rm -r'],
      ['checkout', 'git checkout'],
      ['status', 'git status'],
      ['build', 'gcc -c of each source'],
    ],
    1,
    'File-heavy work in a tmpfs, ms, medians of interleaved rounds',
    [
      ['files in the tree', (place) => `${TREES[treeOf(place)]}`],
      ['C sources', (place) => `${SOURCES[treeOf(place)]}`],
    ],
  );
  if (!tools.git) row('not measured: git, which this machine does not have');
  if (tools.sources.length === 0) row('not measured: a build, for this machine has no compiler');
}
