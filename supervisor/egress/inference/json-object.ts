import { err, ok, type Result } from '../../result.ts';

/** A member of an object, as it is written. */
interface Member {
  readonly name: string;
  readonly text: string;
}

/**
 * An object of JSON whose members can be set and left out without touching the others: their numbers keep all their
 * digits, and their order.
 */
export class JsonObject {
  #members: readonly Member[];

  private constructor(members: readonly Member[]) {
    this.#members = members;
  }

  /** Refuses what is no object of JSON, and a member that stands in it twice: readers differ in which they take. */
  static read(text: string): Result<JsonObject, string> {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch {
      return err('the body is not JSON');
    }
    if (typeof value !== 'object' || value === null || Array.isArray(value))
      return err('the body is no JSON object');
    const members = membersOf(text);
    if (new Set(members.map(({ name }) => name)).size !== members.length)
      return err('the body has a member twice');
    return ok(new JsonObject(members));
  }

  has(name: string): boolean {
    return this.#members.some((member) => member.name === name);
  }

  /** Sets a member where it stands, or at the end. */
  set(name: string, value: string): void {
    const member = { name, text: `${JSON.stringify(name)}:${JSON.stringify(value)}` };
    this.#members = this.has(name)
      ? this.#members.map((one) => (one.name === name ? member : one))
      : [...this.#members, member];
  }

  delete(name: string): void {
    this.#members = this.#members.filter((member) => member.name !== name);
  }

  toString(): string {
    return `{${this.#members.map(({ text }) => text).join(',')}}`;
  }
}

/** The members of the outermost object of a valid text. */
function membersOf(text: string): readonly Member[] {
  const members: Member[] = [];
  let depth = 0;
  let start = -1;
  let name: string | undefined;
  const close = (end: number): void => {
    if (name !== undefined) members.push({ name, text: text.slice(start, end).trim() });
    name = undefined;
    start = -1;
  };
  for (let at = 0; at < text.length; at += 1) {
    const character = text[at];
    if (character === '"') {
      const begin = at;
      at += 1;
      while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
      if (depth === 1 && start < 0) {
        start = begin;
        name = JSON.parse(text.slice(begin, at + 1)) as string;
      }
    } else if (character === '{' || character === '[') depth += 1;
    else if (character === '}' || character === ']') {
      if (depth === 1) close(at);
      depth -= 1;
    } else if (character === ',' && depth === 1) close(at);
  }
  return members;
}
