import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import { run } from '../../../scripts/lib/command.ts';

/** What the stand-ins serve: a repository, two versions of a wheel, and a package of npm's, all named demo. */
export async function makePackages(directory: string): Promise<void> {
  await makeRepository(directory);
  mkdirSync(join(directory, 'pip/files'), { recursive: true });
  for (const version of ['1.0', '2.0'])
    writeFileSync(join(directory, `pip/files/demo-${version}-py3-none-any.whl`), wheel(version));
  const unpacked = join(directory, 'unpacked/package');
  mkdirSync(unpacked, { recursive: true });
  mkdirSync(join(directory, 'npm'));
  writeFileSync(join(unpacked, 'package.json'), '{"name":"demo","version":"1.0.0","main":"index.js"}\n');
  writeFileSync(join(unpacked, 'index.js'), "module.exports = 'required from npm';\n");
  await run('tar', [
    '-C',
    join(directory, 'unpacked'),
    '-czf',
    join(directory, 'npm/demo-1.0.0.tgz'),
    'package',
  ]);
}

async function makeRepository(directory: string): Promise<void> {
  const work = join(directory, 'work');
  const git = (...args: readonly string[]) => run('git', args);
  await git('init', '-q', '-b', 'main', work);
  writeFileSync(join(work, 'README'), 'cloned over https\n');
  await git('-C', work, 'add', 'README');
  await git('-C', work, '-c', 'user.name=t', '-c', 'user.email=t@t', 'commit', '-q', '-m', 'one');
  await git('clone', '-q', '--bare', work, join(directory, 'git/demo.git'));
}

function wheel(version: string): Buffer {
  const about = `demo-${version}.dist-info`;
  return archive({
    'demo.py': "answer = 'imported from pip'\n",
    [`${about}/METADATA`]: `Metadata-Version: 2.1\nName: demo\nVersion: ${version}\n`,
    [`${about}/WHEEL`]: 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
    [`${about}/RECORD`]: '',
  });
}

/** A ZIP archive of files that are stored as they are (APPNOTE.TXT, 4.3). */
function archive(files: Readonly<Record<string, string>>): Buffer {
  const [locals, centrals]: [Buffer[], Buffer[]] = [[], []];
  let offset = 0;
  for (const [path, text] of Object.entries(files)) {
    const [name, data] = [Buffer.from(path), Buffer.from(text)];
    // Both headers have these: version, flags, method, time, date, checksum, sizes, length of the name.
    const shared = Buffer.alloc(26);
    shared.writeUInt16LE(20, 0);
    shared.writeUInt16LE(0x21, 8);
    shared.writeUInt32LE(crc32(data), 10);
    shared.writeUInt32LE(data.length, 14);
    shared.writeUInt32LE(data.length, 18);
    shared.writeUInt16LE(name.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), shared, name, data]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE(offset, 10);
    centrals.push(Buffer.concat([Buffer.from('PK\x01\x02'), Buffer.from([20, 3]), shared, rest, name]));
    locals.push(local);
    offset += local.length;
  }
  const directory = Buffer.concat(centrals);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(locals.length, 8);
  end.writeUInt16LE(locals.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, directory, end]);
}
