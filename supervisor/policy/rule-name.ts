/** `allow_<host>_<port>`: dots and dashes become underscores, other marks go. */
export function ruleNameOf(host: string, port: number): string {
  const plain = host.replaceAll(/[.-]/g, '_').replaceAll(/[^\p{L}\p{N}_]/gu, '');
  return `allow_${plain}_${port}`;
}
