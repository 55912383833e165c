import { existsSync, mkdirSync, realpathSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Bind } from '../../../scripts/lib/bundle.ts';
import { attempt, run } from '../../../scripts/lib/command.ts';
import { NODE } from '../../../scripts/lib/paths.ts';

/** What the clients that are programs of ours do: an allowed and a denied request each, and what came of them. */
const SOURCES: Readonly<Record<string, string>> = {
  'get.py': `import requests
for path in ('allowed', 'denied'):
    answer = requests.get('https://api.test:4443/' + path, timeout=20)
    print(answer.status_code, answer.json().get('error', answer.json().get('answered')), end=' ')
`,
  'fetch.mjs': `for (const path of ['allowed', 'denied']) {
  const answer = await fetch('https://api.test:4443/' + path);
  const { error, answered } = await answer.json();
  console.log(answer.status, error ?? answered);
}
`,
  'call.py': `import grpc
channel = grpc.secure_channel('grpc.test:4443', grpc.ssl_channel_credentials())
for method in ('Say', 'Forget'):
    try:
        print(channel.unary_unary('/test.Echo/' + method)(b'said', timeout=20).decode(), end=' ')
    except grpc.RpcError as error:
        print(error.code().name, error.details(), end=' ')
`,
  'chat.py': `import asyncio, websockets
async def chat(path, *messages):
    try:
        async with websockets.connect('wss://chat.test:4443/' + path) as socket:
            for message in messages:
                await socket.send(message)
                print(await socket.recv(), end=' ')
    except Exception as error:
        print(type(error).__name__, error, end=' ')
asyncio.run(chat('chat', 'hello'))
asyncio.run(chat('denied'))
`,
  'Fetch.java': `import java.net.URI;
import java.net.http.*;
public class Fetch {
  public static void main(String[] args) throws Exception {
    HttpClient client = HttpClient.newHttpClient();
    for (String path : new String[] {"allowed", "denied"}) {
      HttpRequest request = HttpRequest.newBuilder(URI.create("https://api.test:4443/" + path)).build();
      HttpResponse<String> answer = client.send(request, HttpResponse.BodyHandlers.ofString());
      System.out.print(answer.statusCode() + " " + answer.body().split(",")[0] + " ");
    }
  }
}
`,
  'fetch.go': `package main

import (
	"fmt"
	"io"
	"net/http"
)

func main() {
	for _, path := range []string{"allowed", "denied"} {
		answer, err := http.Get("https://api.test:4443/" + path)
		if err != nil {
			fmt.Println(err)
			continue
		}
		body, _ := io.ReadAll(answer.Body)
		fmt.Printf("%d %.30s\\n", answer.StatusCode, body)
	}
}
`,
};

/** Node's, which a minimal Debian lacks. */
const LIBATOMIC = '/usr/lib/x86_64-linux-gnu/libatomic.so.1';

export interface Programs {
  readonly binds: readonly Bind[];
  /** Those of this machine that are not there, and why. */
  readonly absent: ReadonlyMap<'npm' | 'java' | 'go', string>;
}

/** Makes the programs, some of them with what this machine happens to have; they lie below /opt/clients. */
export async function makePrograms(directory: string): Promise<Programs> {
  mkdirSync(directory, { recursive: true });
  for (const [name, text] of Object.entries(SOURCES)) writeFileSync(join(directory, name), text);
  const binds: Bind[] = [
    { source: directory, destination: '/opt/clients' },
    { source: NODE, destination: '/opt/node' },
    { source: realpathSync(LIBATOMIC), destination: LIBATOMIC },
  ];
  const absent = new Map<'npm' | 'java' | 'go', string>();

  const npm = await pathOf('npm');
  // Debian's own is spread over many packages.
  if (npm !== undefined && existsSync(join(dirname(npm), '../node_modules')))
    binds.push({ source: dirname(dirname(npm)), destination: '/opt/npm' });
  else absent.set('npm', 'npm is none that is whole in one directory');

  const javac = await pathOf('javac');
  if (javac === undefined) absent.set('java', 'javac is not installed');
  else {
    await run(javac, ['-d', directory, join(directory, 'Fetch.java')], { timeout: 60_000 });
    const home = dirname(dirname(javac));
    binds.push({ source: home, destination: '/opt/java' });
    // Debian keeps what can be set elsewhere, and links to it.
    const settings = dirname(realpathSync(join(home, 'conf/net.properties')));
    if (settings.startsWith('/etc/')) binds.push({ source: settings, destination: settings });
  }

  const go = await pathOf('go');
  if (go === undefined) absent.set('go', 'go is not installed');
  else
    await run(go, ['build', '-o', join(directory, 'fetch'), join(directory, 'fetch.go')], {
      cwd: directory,
      timeout: 180_000,
      env: { ...process.env, CGO_ENABLED: '0', GOTOOLCHAIN: 'local', GOPROXY: 'off' },
    });
  return { binds, absent };
}

async function pathOf(command: string): Promise<string | undefined> {
  const found = await attempt('sh', ['-c', `command -v ${command}`]);
  return found.code === 0 ? realpathSync(found.stdout.trim()) : undefined;
}
