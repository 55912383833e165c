/** An answer that the proxy gives itself (contract.md, 7.8). */
export interface ProxyAnswer {
  readonly status: number;
  readonly error: string;
  readonly detail: string;
  readonly reason?: string;
}

const REASON: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  431: 'Request Header Fields Too Large',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
};

/** The JSON body of an answer, without the absent fields. */
export function answerBody(answer: ProxyAnswer): string {
  const { error, detail, reason } = answer;
  return JSON.stringify(
    reason === undefined || reason === '' ? { error, detail } : { error, detail, reason },
  );
}

/** The whole answer as bytes on the wire, for sockets that no HTTP server serves any more. */
export function answerText(answer: ProxyAnswer): string {
  const body = answerBody(answer);
  return (
    `HTTP/1.1 ${answer.status} ${REASON[answer.status] ?? 'Error'}\r\n` +
    `Content-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`
  );
}
