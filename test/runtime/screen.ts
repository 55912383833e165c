import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A terminal emulator with nobody in front of it: what is typed goes in, what stands on the screen can be read. */
export interface Screen {
  /** Types text, or presses keys by tmux's names for them (`Enter`, `C-c`, `Escape`). */
  readonly type: (text: string) => void;
  readonly press: (...keys: readonly string[]) => void;
  readonly resize: (columns: number, rows: number) => void;
  /** The lines that are to be seen, without blanks at their ends. */
  readonly read: () => string;
  readonly stop: () => void;
}

/** Runs a command on it. When the command has ended, the screen says `ended with CODE`. */
export function openScreen(command: readonly string[], columns: number, rows: number): Screen {
  const directory = mkdtempSync(join(tmpdir(), 'screen-'));
  const tmux = (...args: readonly string[]): string =>
    execFileSync('tmux', ['-S', join(directory, 'socket'), '-f', '/dev/null', ...args], {
      env: { PATH: process.env.PATH, HOME: directory, TERM: 'xterm-256color', LC_ALL: 'C.UTF-8' },
    }).toString();
  const quoted = command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  const size = ['-x', String(columns), '-y', String(rows)];
  tmux('new-session', '-d', '-s', 'person', ...size, `${quoted}; echo "ended with $?"; sleep 600`);
  return {
    type: (text) => void tmux('send-keys', '-t', 'person', '-l', text),
    press: (...keys) => void tmux('send-keys', '-t', 'person', ...keys),
    resize: (x, y) => void tmux('resize-window', '-t', 'person', '-x', String(x), '-y', String(y)),
    read: () => tmux('capture-pane', '-p', '-t', 'person'),
    stop() {
      tmux('kill-server');
      rmSync(directory, { recursive: true, force: true });
    },
  };
}
