// The typed client: every path and body as api/openapi.json says. A refusal becomes an `ApiError` with the server's
// message and hint; a change carries the session's CSRF token.
import createClient, { type Middleware } from 'openapi-fetch';
import type { components, paths } from './generated/schema';

export type Schemas = components['schemas'];
export type NodeView = Schemas['NodeView'];
export type AllocationView = Schemas['AllocationView'];
export type WorkloadView = Schemas['WorkloadView'];
export type StackView = Schemas['StackView'];
export type VolumeView = Schemas['VolumeView'];
export type EventView = Schemas['EventView'];
export type Status = Schemas['Status'];
/** Who we are. A server whose sessions are cookies says the CSRF token too. */
export type Whoami = Schemas['Whoami'] & { csrf?: string | null };

export class ApiError extends Error {
  readonly code: string;
  readonly hint: string;
  readonly status: number;
  readonly details: readonly { message: string; path?: string; hint?: string | null }[];

  constructor(status: number, body: Partial<Schemas['ErrorBody']>) {
    super(body.message ?? `the server answered ${status} and did not say why`);
    this.name = 'ApiError';
    this.status = status;
    this.code = body.code ?? 'unknown';
    this.hint = body.hint ?? '';
    this.details = body.details ?? [];
  }
}

let csrf: string | undefined;
export function setCsrf(token: string | null | undefined): void {
  csrf = token ?? undefined;
}

const session: Middleware = {
  onRequest({ request }) {
    if (csrf !== undefined && request.method !== 'GET' && request.method !== 'HEAD') {
      request.headers.set('x-lattice-csrf', csrf);
    }
    return request;
  },
  onError() {
    return new ApiError(0, {
      code: 'unavailable',
      message: 'the server cannot be reached',
      hint: 'is it running, and is this computer on its network? We try again by ourselves',
    });
  },
};

export const client = createClient<paths>({
  baseUrl: globalThis.location?.origin ?? '',
  credentials: 'same-origin',
});
client.use(session);

interface Answer<T> {
  data?: T;
  error?: unknown;
  response: Response;
}

/** The answer's body, or the refusal as an error. */
export async function unwrap<T>(answer: Promise<Answer<T>>): Promise<T> {
  const { data, error, response } = await answer;
  if (error !== undefined || !response.ok) {
    throw new ApiError(response.status, typeof error === 'object' && error !== null ? error : {});
  }
  return data as T;
}
